# SPDX-License-Identifier: Apache-2.0
"""A running move_group as the `MoveIt` of motion/moveit.py, over its services."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from numpy.typing import NDArray
from rclpy.client import Client
from sensor_msgs.msg import JointState
from shape_msgs.msg import SolidPrimitive

from fourdgen_ros.core.errors import ExecutionError, MissingDependencyError, PlanningError
from fourdgen_ros.motion.base import Contact
from fourdgen_ros.motion.moveit import (
    INVALID_LINK_NAME,
    SUCCESS,
    ErrorCode,
    PathAnswer,
    PathRequest,
)
from fourdgen_ros.motion.robot import SceneBox, Workspace
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import call_service, wait_for_ready
from fourdgen_ros.nodes.base import StageNode

Array = NDArray[np.float64]
_TOGETHER = 1.0  # s between the discoveries of two services of one move_group, at most
FAR = 10.0  # m: where a side of the workspace is that is open


def moveit_msgs() -> Any:
    """The modules msg, srv and action of moveit_msgs. Raises MissingDependencyError."""
    try:
        import moveit_msgs.action
        import moveit_msgs.msg
        import moveit_msgs.srv
    except ImportError as error:
        raise MissingDependencyError(
            'moveit_msgs', expected='the interfaces of MoveIt', got=str(error),
            hint='Install them (apt: ros-jazzy-moveit-msgs; the robot itself needs '
                 'ros-jazzy-moveit), or set the parameter planner to embedded.') from error
    return moveit_msgs


class MoveGroup:
    """Asks a move_group. Calls block; they need the node to be spinning."""

    def __init__(self, node: StageNode, *, timeout: float) -> None:
        """`timeout` (s) holds for the answer to each request."""
        self.name = 'move_group'
        self._msgs = moveit_msgs()
        self._node, self._timeout = node, timeout
        srv = self._msgs.srv
        self._get_scene = self._client(srv.GetPlanningScene, 'get_planning_scene')
        self._apply_scene = self._client(srv.ApplyPlanningScene, 'apply_planning_scene')
        self._cartesian = self._client(srv.GetCartesianPath, 'compute_cartesian_path')
        self._validity = self._client(srv.GetStateValidity, 'check_state_validity')
        self._fk = self._client(srv.GetPositionFK, 'compute_fk')

    def update_scene(self, boxes: tuple[SceneBox, ...], frame: str) -> None:
        """Put the boxes into the planning scene and let them touch what they may touch."""
        if not boxes:
            return
        msg = self._msgs.msg
        components = msg.PlanningSceneComponents(
            components=msg.PlanningSceneComponents.ALLOWED_COLLISION_MATRIX)
        request = self._msgs.srv.GetPlanningScene.Request(components=components)
        scene = self._call(self._get_scene, request).scene
        # The matrix of a difference replaces the whole one, hence the one that is there, changed.
        matrix = _allow(msg, scene.allowed_collision_matrix, boxes)
        world = msg.PlanningSceneWorld(
            collision_objects=[collision_object(msg, box, frame) for box in boxes])
        difference = msg.PlanningScene(is_diff=True, world=world, allowed_collision_matrix=matrix,
                                       robot_state=msg.RobotState(is_diff=True))
        answer = self._call(self._apply_scene,
                            self._msgs.srv.ApplyPlanningScene.Request(scene=difference))
        if not answer.success:
            raise PlanningError(
                'planning scene', expected=f'move_group to take {[box.name for box in boxes]}',
                got='a refusal', hint=f'Does it know the frame {frame!r}? See its log.')

    def link_poses(self, links: tuple[str, ...], joints: tuple[str, ...],
                   q: Array) -> dict[str, Array] | None:
        """Call compute_fk; None, and a warning, where this move_group runs without it."""
        if (self._there(self._cartesian, self._timeout) and not self._there(self._fk, _TOGETHER)
                and not self._node.stopping.is_set()):
            self._node.get_logger().warning(
                f'no service {self._fk.service_name!r}: whether move_group has the tool where '
                f'this node has it was not looked at; its default capabilities would tell')
            return None
        # No frame, hence that of its model: nothing here depends on /tf.
        response = self._call(self._fk, self._msgs.srv.GetPositionFK.Request(
            fk_link_names=list(links), robot_state=self._state(joints, q)))
        error = error_code(response.error_code)
        if error.code not in (SUCCESS, INVALID_LINK_NAME):
            raise PlanningError('forward kinematics of move_group', expected='SUCCESS',
                                got=str(error), hint='See its log.')
        return {link: conversions.pose_to_matrix(stamped.pose) for link, stamped in zip(
            response.fk_link_names, response.pose_stamped, strict=True)}

    def path(self, request: PathRequest) -> PathAnswer:
        """Call compute_cartesian_path."""
        message = self._msgs.srv.GetCartesianPath.Request(
            header=conversions.header(0, request.frame), group_name=request.group,
            link_name=request.link, max_step=request.max_step, avoid_collisions=True,
            # Where the arm is now; a waypoint there would only count as a part of the way.
            waypoints=[conversions.matrix_to_pose(T) for T in request.poses[1:]],
            start_state=self._state(request.joints, request.start),
            path_constraints=self._within(request.workspace, request.link, request.frame),
            max_velocity_scaling_factor=float(request.velocity_scaling),
            max_acceleration_scaling_factor=float(request.acceleration_scaling))
        response = self._call(self._cartesian, message)
        trajectory = response.solution.joint_trajectory
        if response.solution.multi_dof_joint_trajectory.points:
            raise PlanningError('path of move_group', expected='joints of one degree of freedom',
                                got=str(list(response.solution.multi_dof_joint_trajectory
                                             .joint_names)))
        joints = tuple(trajectory.joint_names)
        return PathAnswer(
            error=error_code(response.error_code), fraction=response.fraction, joints=joints,
            times=np.array([conversions.duration_to_seconds(p.time_from_start)
                            for p in trajectory.points]),
            positions=_rows(trajectory.points, 'positions', len(joints)),
            velocities=_rows(trajectory.points, 'velocities', len(joints))
            if any(len(p.velocities) for p in trajectory.points) else None)

    def first_contact(self, joints: tuple[str, ...], path: Array) -> Contact | None:
        """Call check_state_validity for each state of (n, J) until one is not valid."""
        for index, q in enumerate(path):
            # No group: all links are checked, those of the gripper too.
            response = self._call(self._validity, self._msgs.srv.GetStateValidity.Request(
                robot_state=self._state(joints, q)))
            if not response.valid:
                touching = [(c.contact_body_1, c.contact_body_2) for c in response.contacts]
                return Contact(index, *(touching[0] if touching else ('a body', 'another')))
        return None

    def _client(self, service_type: type, name: str) -> Client:
        return self._node.create_client(service_type, name, callback_group=self._node.group)

    def _there(self, client: Client, limit: float) -> bool:
        return wait_for_ready(client.service_is_ready, limit, self._node.stopping.is_set)

    def _call(self, client: Client, request: Any) -> Any:
        try:
            return call_service(client, request, timeout=self._timeout,
                                interrupted=self._node.stopping.is_set)
        except ExecutionError as error:
            raise PlanningError(
                error.what, expected='an answer of move_group',
                hint='Start move_group (ros2 launch <robot>_moveit_config ...) with its default '
                     'capabilities in the namespace of this node, and compare with `ros2 service '
                     'list -t`.') from error

    def _state(self, joints: tuple[str, ...], q: Array) -> Any:
        # A difference: what is not named, attached objects too, stays as MoveIt knows it.
        return self._msgs.msg.RobotState(
            is_diff=True, joint_state=JointState(name=list(joints), position=q.tolist()))

    def _within(self, workspace: Workspace, link: str, frame: str) -> Any:
        """Constraints: the TCP stays in the workspace. None where all of its sides are open."""
        msg = self._msgs.msg
        lower = [-FAR if v is None else v for v in workspace.min]
        upper = [FAR if v is None else v for v in workspace.max]
        if all(v is None for v in (*workspace.min, *workspace.max)):
            return msg.Constraints()
        region = msg.BoundingVolume(
            primitives=[_box([b - a for a, b in zip(lower, upper, strict=True)])],
            primitive_poses=[_at([(a + b) / 2.0 for a, b in zip(lower, upper, strict=True)])])
        return msg.Constraints(name='workspace', position_constraints=[msg.PositionConstraint(
            header=conversions.header(0, frame), link_name=link, constraint_region=region,
            weight=1.0)])


def collision_object(msg: Any, box: SceneBox, frame: str) -> Any:
    """Message of an obstacle; `msg` is moveit_msgs.msg."""
    kind = msg.CollisionObject
    return kind(header=conversions.header(0, frame), id=box.name, operation=kind.ADD,
                pose=_at(box.position), primitives=[_box(box.size)],
                primitive_poses=[_at((0.0, 0.0, 0.0))])


def _allow(msg: Any, matrix: Any, boxes: tuple[SceneBox, ...]) -> Any:
    """`matrix` in which the boxes may touch the links that they name, and no others."""
    allowed = {(box.name, link) for box in boxes for link in box.touches}
    names = list(matrix.entry_names)
    known = {(a, b): enabled for a, row in zip(names, matrix.entry_values, strict=True)
             for b, enabled in zip(names, row.enabled, strict=True)}
    names += sorted({name for pair in allowed for name in pair} - set(names))
    # What an earlier start of this node allowed its boxes does not count.
    own = {box.name for box in boxes}

    def enabled(a: str, b: str) -> bool:
        if a in own or b in own:
            return (a, b) in allowed or (b, a) in allowed
        return known.get((a, b), False)

    rows = [msg.AllowedCollisionEntry(enabled=[enabled(a, b) for b in names]) for a in names]
    return msg.AllowedCollisionMatrix(
        entry_names=names, entry_values=rows, default_entry_names=matrix.default_entry_names,
        default_entry_values=matrix.default_entry_values)


def error_code(message: Any) -> ErrorCode:
    """Read a MoveItErrorCodes message."""
    return ErrorCode(message.val, message.message, message.source)


def _rows(points: Any, field: str, joints: int) -> Array:
    """One field of trajectory points as (n, joints)."""
    rows = [getattr(p, field) for p in points]
    if any(len(row) != joints for row in rows):
        raise PlanningError(f'{field} of the path of move_group', expected=f'{joints} per point',
                            got=str(sorted({len(row) for row in rows})))
    return np.array(rows, float).reshape(len(rows), joints)


def _box(size: Any) -> SolidPrimitive:
    return SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[float(v) for v in size])


def _at(position: Any) -> Pose:
    x, y, z = (float(v) for v in position)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=1.0))
