# SPDX-License-Identifier: Apache-2.0
"""Values -> messages that RViz shows.

All of these lie in the robot's base frame and have the stamp zero, which TF reads as "the newest
transform": what is imagined or planned has no stamp that TF could know, and what is latched is
older than RViz' transforms when RViz starts late. See docs/visualization.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Vector3
from moveit_msgs.msg import DisplayTrajectory, RobotState, RobotTrajectory
from nav_msgs.msg import Path
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.paths import GRIPPERS
from fourdgen_ros.core.types import GripperTrajectory, JointTrajectory, MotionPlan
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes.conversions import header, joint_trajectory_to_msg, matrix_to_pose
from fourdgen_ros.view.geometry import (
    BOX_COLOUR,
    OPEN_SIDE,
    PLAN_COLOUR,
    box_edges,
    confidence_colours,
    evenly,
)
from fourdgen_ros.view.hand import HandPart

Array = NDArray[np.float64]
TIMELESS = 0  # ns
_GHOSTS = 6
_GHOST_ALPHA = 0.22
_LINE = 0.006  # m
_TEXT = 0.035  # m, height of a capital letter


def _marker(frame: str, namespace: str, number: int, kind: int, size: tuple[float, ...],
            colour: Sequence[float], alpha: float = 1.0, pose: Array | None = None) -> Marker:
    return Marker(header=header(TIMELESS, frame), ns=namespace, id=number, type=kind,
                  action=Marker.ADD, scale=Vector3(x=size[0], y=size[1], z=size[2]),
                  color=_colour(colour, alpha), pose=matrix_to_pose(
                      np.eye(4) if pose is None else pose))


def _colour(colour: Sequence[float], alpha: float = 1.0) -> ColorRGBA:
    r, g, b = (float(value) for value in colour)
    return ColorRGBA(r=r, g=g, b=b, a=alpha)


def _points(points: Array) -> list[Point]:
    return [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in points]


def whole(frame: str, markers: Sequence[Marker]) -> MarkerArray:
    """An array that replaces all that its topic showed before; the only kind fit to be latched."""
    erase = Marker(header=header(TIMELESS, frame), action=Marker.DELETEALL)
    return MarkerArray(markers=[erase, *markers])


def cell_markers(robot: RobotConfig) -> list[Marker]:
    """The box in which the TCP may be, as lines, and the obstacles that the planner knows."""
    frame = robot.base_link
    box = _marker(frame, 'workspace', 0, Marker.LINE_LIST, (_LINE / 2, 0.0, 0.0), BOX_COLOUR)
    box.points = _points(box_edges(robot.workspace.min, robot.workspace.max).reshape(-1, 3))
    return [box] + [
        _marker(frame, 'obstacles', i, Marker.CUBE, obstacle.size, BOX_COLOUR, 0.25,
                se3.make(None, np.array(obstacle.position)))
        for i, obstacle in enumerate(robot.scene)]


def gripper_markers(trajectory: GripperTrajectory, frame: int,
                    hand: Sequence[HandPart]) -> list[Marker]:
    """The gripper at `frame` of its path, faint ones along it, and the path as a line.

    Colours tell the confidence, of each pose its own.
    """
    colours = confidence_colours(trajectory.confidence)
    base = trajectory.frame_id
    line = _marker(base, 'gripper_path', 0, Marker.LINE_STRIP, (_LINE, 0.0, 0.0), (0, 0, 0))
    line.points = _points(trajectory.poses[:, :3, 3])
    line.colors = [_colour(colour) for colour in colours]
    markers = [line]
    frame = min(frame, len(trajectory.poses) - 1)
    ghosts = [t for t in evenly(len(trajectory.poses), _GHOSTS) if t != frame]
    for namespace, shown, alpha in (('gripper', [frame], 1.0),
                                    ('gripper_along_the_path', ghosts, _GHOST_ALPHA)):
        for t in shown:
            for part in hand:
                pose = part.at(trajectory.poses[t], float(trajectory.opening[t]))
                mesh = _marker(base, namespace, len(markers), Marker.MESH_RESOURCE,
                               (1.0, 1.0, 1.0), colours[t], alpha, pose)
                mesh.mesh_resource = _mesh_uri(part.mesh)
                markers.append(mesh)
    return markers


def _mesh_uri(mesh: FilePath) -> str:
    """Where RViz finds a mesh: a bundled one in the package, which it may have on another machine,
    one of the user's at its path."""
    if mesh.is_relative_to(GRIPPERS):
        return f'package://fourdgen_ros/assets/grippers/{mesh.relative_to(GRIPPERS).as_posix()}'
    return mesh.as_uri()


def path_message(trajectory: GripperTrajectory) -> Path:
    """The tracked path of the TCP."""
    head = header(TIMELESS, trajectory.frame_id)
    return Path(header=head, poses=[PoseStamped(header=head, pose=matrix_to_pose(T))
                                    for T in trajectory.poses])


def plan_markers(plan: MotionPlan, frame: str) -> list[Marker]:
    """The planned path of the TCP as a line, with a ball at its end."""
    if len(plan.tcp_path) < 2:
        return []
    line = _marker(frame, 'plan', 0, Marker.LINE_STRIP, (_LINE, 0.0, 0.0), PLAN_COLOUR)
    line.points = _points(plan.tcp_path[:, :3, 3])
    return [line, _marker(frame, 'plan_end', 0, Marker.SPHERE, (4 * _LINE,) * 3, PLAN_COLOUR,
                          pose=plan.tcp_path[-1])]


def display_trajectory(plan: MotionPlan, robot: RobotConfig) -> DisplayTrajectory:
    """The arm's motions of a plan, for the display `Trajectory` of MoveIt."""
    motions = [s for s in plan.segments if isinstance(s, JointTrajectory)]
    message = DisplayTrajectory(model_id=robot.name, trajectory=[
        RobotTrajectory(joint_trajectory=joint_trajectory_to_msg(s)) for s in motions])
    for motion in message.trajectory:
        motion.joint_trajectory.header = header(TIMELESS, robot.base_link)
    if motions:
        message.trajectory_start = RobotState(is_diff=True, joint_state=JointState(
            header=header(TIMELESS, robot.base_link), name=list(motions[0].joint_names),
            position=motions[0].positions[0].tolist()))
    return message


def text_markers(text: str, robot: RobotConfig) -> list[Marker]:
    """Text that faces the viewer, above the workspace."""
    low, high = ([OPEN_SIDE * sign if v is None else v for v in corner] for sign, corner in
                 ((-1, robot.workspace.min), (1, robot.workspace.max)))
    place = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2] + 3 * _TEXT])
    marker = _marker(robot.base_link, 'status', 0, Marker.TEXT_VIEW_FACING, (0.0, 0.0, _TEXT),
                     (1.0, 1.0, 1.0), pose=se3.make(None, place))
    marker.text = text
    return [marker]
