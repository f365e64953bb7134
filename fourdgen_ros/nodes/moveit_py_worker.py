# SPDX-License-Identifier: Apache-2.0
"""The process in which MoveItPy lives: paths by inverse kinematics of one waypoint after another.

MoveItPy has no Cartesian path of its own. It initialises rclcpp for the whole process, ends it when
it is deleted, and there may be only one: so it gets a process, and keeps it until the end.
"""

from __future__ import annotations

import copy
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import FourdgenError, MissingDependencyError
from fourdgen_ros.motion.base import Contact
from fourdgen_ros.motion.moveit import SUCCESS, ErrorCode, PathAnswer, PathRequest
from fourdgen_ros.motion.robot import SceneBox

Array = NDArray[np.float64]
FAILURE = 99999
# The time law rounds corners by up to this in joint space; MoveIt's own 0.1 rad is centimetres.
CORNER = 0.01  # rad
RESAMPLED = 0.05  # s


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """`params_file`: parameters of the node that MoveItPy makes. `ik_timeout` s per waypoint.

    `joint_jump`: greatest change (rad) of a joint between two waypoints, `max_step` m apart.
    """

    params_file: str
    node_name: str = 'fourdgen_moveit_py'
    ik_timeout: float = 0.05
    joint_jump: float = 0.2


class MoveItPyPaths:
    """The `MoveIt` of motion/moveit.py on a MoveItPy. Not thread safe."""

    name = 'moveit_py'

    def __init__(self, moveit_py: Any, modules: Any, options: WorkerOptions) -> None:
        """`modules` holds the names that are taken from moveit and its messages (`load`)."""
        self._api, self._options = modules, options
        self._model = moveit_py.get_robot_model()
        self._monitor = moveit_py.get_planning_scene_monitor()

    def update_scene(self, boxes: tuple[SceneBox, ...], frame: str) -> None:
        """Put the boxes into the planning scene and let them touch what they may touch."""
        with self._monitor.read_write() as scene:
            for box in boxes:
                scene.apply_collision_object(self._api.collision_object(box, frame))
                for link in box.touches:
                    scene.allowed_collision_matrix.set_entry(box.name, link, True)
            scene.current_state.update()

    def path(self, request: PathRequest) -> PathAnswer:
        """Follow straight lines until a waypoint has no solution, jumps, collides or is outside."""
        with self._monitor.read_only() as scene:
            state = copy.deepcopy(scene.current_state)
            self._set(state, request.joints, request.start)
            start = copy.deepcopy(state)
            rows, fraction, reason = self._waypoints(scene, state, request)
        if len(rows) < 2:
            return _answer(request, ErrorCode(FAILURE, reason, self.name))
        trajectory = self._api.RobotTrajectory(self._model)
        trajectory.joint_model_group_name = request.group
        trajectory.set_robot_trajectory_msg(start, self._api.trajectory_message(
            request.joints, np.stack(rows)))
        if not trajectory.apply_totg_time_parameterization(
                velocity_scaling_factor=request.velocity_scaling,
                acceleration_scaling_factor=request.acceleration_scaling, path_tolerance=CORNER,
                resample_dt=RESAMPLED):
            return _answer(request, ErrorCode(
                FAILURE, 'the time law failed: are there acceleration limits?', self.name))
        joints, times, positions, velocities = self._api.read_trajectory(
            trajectory.get_robot_trajectory_msg())
        return PathAnswer(error=ErrorCode(SUCCESS, reason, self.name), fraction=fraction,
                          joints=joints, times=times, positions=positions, velocities=velocities)

    def first_contact(self, joints: tuple[str, ...], path: Array) -> Contact | None:
        """Find the first of the states (n, J) in which something touches."""
        with self._monitor.read_only() as scene:
            state = copy.deepcopy(scene.current_state)
            for index, q in enumerate(path):
                self._set(state, joints, q)
                if scene.is_state_colliding(robot_state=state, joint_model_group_name='',
                                            verbose=True):
                    return Contact(index, 'a body', 'another (see the log of moveit_py)')
        return None

    def _waypoints(self, scene: Any, state: Any,
                   request: PathRequest) -> tuple[list[Array], float, str]:
        """Joint positions of each step, the share of the poses that they reach, and why no more."""
        group, tip = request.group, request.link
        T_model_base = np.asarray(state.get_global_link_transform(request.frame))
        rows, legs = [request.start], len(request.poses) - 1
        for leg in range(legs):
            before, after = request.poses[leg], request.poses[leg + 1]
            distance, angle = se3.distance(before, after)
            # A turn of 0.1 rad counts as a step too, or a pure rotation would be one.
            steps = max(1, int(np.ceil(max(distance / request.max_step, angle / 0.1))))
            for step in range(1, steps + 1):
                T = se3.interpolate(before, after, step / steps)
                reason = self._step(scene, state, request, T_model_base @ T, T, group, tip, rows)
                if reason:
                    return rows, (leg + (step - 1) / steps) / legs, reason
        return rows, 1.0, ''

    def _step(self, scene: Any, state: Any, request: PathRequest, T_model_tip: Array,
              T_base_tip: Array, group: str, tip: str, rows: list[Array]) -> str:
        """Append the solution of one waypoint; returns what is wrong with it, '' for nothing."""
        if (request.workspace.excess(T_base_tip[None, :3, 3]) > 1e-6).any():
            return f'the workspace ends at {np.round(T_base_tip[:3, 3], 3).tolist()} m'
        # Seeded by the state itself, that is by the solution before.
        if not state.set_from_ik(group, self._api.pose(T_model_tip), tip,
                                 self._options.ik_timeout):
            return f'no inverse kinematics at {np.round(T_base_tip[:3, 3], 3).tolist()} m'
        state.update()
        positions = state.joint_positions
        q = np.array([positions[name] for name in request.joints])
        move = np.abs(q - rows[-1])
        if not move.max() <= self._options.joint_jump:
            return (f'{request.joints[int(move.argmax())]} jumps by {move.max():.2f} rad at '
                    f'{np.round(T_base_tip[:3, 3], 3).tolist()} m')
        if scene.is_state_colliding(robot_state=state, joint_model_group_name=group, verbose=True):
            return f'a collision at {np.round(T_base_tip[:3, 3], 3).tolist()} m'
        rows.append(q)
        return ''

    def _set(self, state: Any, joints: tuple[str, ...], q: Array) -> None:
        state.joint_positions = dict(zip(joints, map(float, q), strict=True))
        state.update()


def _answer(request: PathRequest, error: ErrorCode) -> PathAnswer:
    """Say that there is no path."""
    empty = np.empty((0, len(request.joints)))
    return PathAnswer(error=error, fraction=0.0, joints=request.joints, times=np.empty(0),
                      positions=empty, velocities=None)


def load(options: WorkerOptions) -> MoveItPyPaths:
    """Start MoveItPy. Raises MissingDependencyError."""
    try:
        from moveit.planning import MoveItPy

        from fourdgen_ros.nodes import moveit_py_api
    except ImportError as error:
        raise MissingDependencyError(
            'moveit_py', expected='the Python package moveit of MoveIt 2', got=str(error),
            hint='Install it (apt: ros-jazzy-moveit-py), or set the parameter planner to '
                 'move_group.') from error
    moveit_py = MoveItPy(node_name=options.node_name,
                         launch_params_filepaths=[options.params_file])
    return MoveItPyPaths(moveit_py, moveit_py_api, options)


def serve(connection: Connection, paths: Any) -> None:
    """Answer calls (method, arguments) with (True, result) or (False, text) until the other end."""
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(paths, method)(*arguments)
        except Exception as error:
            answer = False, _text(error)
        connection.send(answer)


def run(connection: Connection, load: Callable[[WorkerOptions], Any]) -> None:
    """Read options, answer (True, None) when `load` has made what is asked, and serve it."""
    try:
        paths = load(connection.recv())
    except Exception as error:
        connection.send((False, _text(error)))
        return
    connection.send((True, None))
    serve(connection, paths)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, FourdgenError) else traceback.format_exc()


if __name__ == '__main__':
    run(Connection(int(sys.argv[1])), load)
