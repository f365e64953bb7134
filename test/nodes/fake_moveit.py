# SPDX-License-Identifier: Apache-2.0
"""The part of moveit_py's API that the worker uses, with the signatures of its stubs and bindings.

Inverse kinematics is roboplan's and Pinocchio's; nothing of MoveIt runs.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import MissingDependencyError, PlanningError
from fourdgen_ros.motion.cartesian import CartesianFollower
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes.moveit_py_worker import MoveItPyPaths, WorkerOptions, run

ROBOT = RobotConfig.named('panda')
T_MODEL_BASE = se3.make(np.eye(3), np.array([0.0, 0.0, 0.5]))  # the robot stands on a pedestal


class World:
    """What the fakes share, and how they misbehave."""

    def __init__(self) -> None:
        self.model, self.follower = RobotModel(ROBOT), CartesianFollower(ROBOT)
        self.blocked = lambda q: False
        self.reachable = lambda T: True
        self.jump = lambda q: q
        self.timed, self.boxes, self.allowed = True, [], []
        self.totg: dict[str, float] = {}


class RobotState:
    """Joint positions; `update` must be called before transforms are read."""

    def __init__(self, world: World, positions: dict[str, float], dirty: bool = False) -> None:
        self._world, self._positions, self.dirty = world, dict(positions), dirty

    def __deepcopy__(self, memo: Any) -> RobotState:
        return RobotState(self._world, self._positions, self.dirty)

    @property
    def joint_positions(self) -> dict[str, float]:
        return dict(self._positions)

    @joint_positions.setter
    def joint_positions(self, values: dict[str, float]) -> None:
        assert all(isinstance(v, float) for v in values.values())
        self._positions.update(values)
        self.dirty = True

    def update(self, force: bool = False, type: str = 'all') -> None:
        self.dirty = False

    def get_global_link_transform(self, link_name: str) -> np.ndarray:
        assert not self.dirty
        assert link_name == ROBOT.base_link
        return T_MODEL_BASE

    def set_from_ik(self, joint_model_group_name: str, geometry_pose: np.ndarray, tip_name: str,
                    timeout: float = 0.0) -> bool:
        assert (joint_model_group_name, tip_name) == (ROBOT.group, ROBOT.tcp_link)
        assert timeout > 0.0
        world = self._world
        goal = se3.inverse(T_MODEL_BASE) @ geometry_pose
        if not world.reachable(goal):
            return False
        q = self.q
        try:
            timed = world.follower.follow(np.stack([world.model.fk(q), goal]), q, variant=0,
                                          velocity_scaling=1.0, acceleration_scaling=1.0)
        except PlanningError:
            return False
        q = world.jump(timed.positions[-1])
        self.joint_positions = dict(zip(ROBOT.joints, map(float, q), strict=True))
        return True

    @property
    def q(self) -> np.ndarray:
        return np.array([self._positions[name] for name in ROBOT.joints])


class RobotTrajectory:
    """As many positions as were given; timing is even."""

    world: World

    def __init__(self, robot_model: Any) -> None:
        assert robot_model == 'model'
        self.joint_model_group_name = ''

    def set_robot_trajectory_msg(self, robot_state: RobotState, msg: Any) -> None:
        assert self.joint_model_group_name == ROBOT.group
        np.testing.assert_allclose(robot_state.q, msg[1][0])
        self._joints, self._rows = msg

    def apply_totg_time_parameterization(
            self, velocity_scaling_factor: float, acceleration_scaling_factor: float, *,
            path_tolerance: float = 0.1, resample_dt: float = 0.1,
            min_angle_change: float = 0.001) -> bool:
        self.world.totg = {'velocity': velocity_scaling_factor, 'tolerance': path_tolerance,
                           'acceleration': acceleration_scaling_factor}
        return self.world.timed

    def get_robot_trajectory_msg(self, joint_filter: tuple[str, ...] = ()) -> Any:
        return self._joints, self._rows


class Monitor:
    def __init__(self, world: World, state: dict[str, float]) -> None:
        self._world, self._state = world, RobotState(world, state)

    @contextmanager
    def _scene(self) -> Any:
        world = self._world

        def colliding(robot_state: RobotState, joint_model_group_name: str,
                      verbose: bool = False) -> bool:
            assert not robot_state.dirty
            return world.blocked(robot_state.q)

        yield SimpleNamespace(
            current_state=self._state, is_state_colliding=colliding,
            apply_collision_object=lambda message: world.boxes.append(message),
            allowed_collision_matrix=SimpleNamespace(
                set_entry=lambda a, b, allowed: world.allowed.append((a, b, allowed))))

    read_only = read_write = _scene


def fake_paths(options: WorkerOptions) -> tuple[World, MoveItPyPaths]:
    """The worker's paths over these fakes."""
    world = World()
    state = dict(zip(ROBOT.joints, map(float, ROBOT.home), strict=True))
    monitor = Monitor(world, {**state, **dict.fromkeys(ROBOT.finger_joints, 0.04)})
    moveit_py = SimpleNamespace(get_robot_model=lambda: 'model',
                                get_planning_scene_monitor=lambda: monitor)
    trajectory = type('Trajectory', (RobotTrajectory,), {'world': world})

    def read(message: Any) -> Any:
        joints, rows = message
        times = 0.2 * np.arange(len(rows))
        velocities = np.gradient(rows, 0.2, axis=0)
        velocities[[0, -1]] = 0.0
        return joints, times, rows, velocities

    api = SimpleNamespace(
        RobotTrajectory=trajectory, pose=lambda T: T, read_trajectory=read,
        collision_object=lambda box, frame: (box.name, frame),
        trajectory_message=lambda joints, rows: (joints, rows))
    return world, MoveItPyPaths(moveit_py, api, options)


def load_fake(options: WorkerOptions) -> MoveItPyPaths:
    """What `run` serves; `node_name` tells how it goes wrong."""
    if options.node_name == 'fails':
        raise MissingDependencyError('moveit_py', got='no robot_description')
    paths = fake_paths(options)[1]
    if options.node_name == 'dies':
        paths.first_contact = lambda joints, path: os._exit(3)
    if options.node_name == 'hangs':
        paths.first_contact = lambda joints, path: CONNECTION.recv()
    return paths


if __name__ == '__main__':
    CONNECTION = Connection(int(sys.argv[1]))
    run(CONNECTION, load_fake)
