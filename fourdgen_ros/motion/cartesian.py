# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics and time-optimal timing along a Cartesian path, with roboplan."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from fourdgen_ros.core.errors import (
    InputError,
    MissingDependencyError,
    PlanningError,
    how_to_install,
)
from fourdgen_ros.motion.base import TimedPath
from fourdgen_ros.motion.robot import RobotConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Variant:
    """How a path is followed. `posture`: weight of the null-space task that draws the arm to its
    start posture; m and rad by which the tool may be off; `rotation_cost`: of the tool's rotation
    against its position in inverse kinematics.
    """

    posture: float
    position: float = 0.002
    rotation: float = 0.01
    rotation_cost: float = 1.0


_SOFT = {'position': 0.003, 'rotation': 0.08, 'rotation_cost': 0.01}
# In the order to try them. Without the null-space task the most paths succeed (it fights the path
# near joint limits); a little helps where the redundancy runs away into a collision. Near a
# singularity of the wrist and at a limit of its joints, a path that the tool need not follow to the
# degree is often possible where the exact one is not.
_VARIANTS = (_Variant(0.0), _Variant(0.01), _Variant(0.05), _Variant(0.0, **_SOFT),
             _Variant(0.05, **_SOFT))
# roboplan's time law overshoots acceleration limits by up to 8 % at blends.
_ACCELERATION_RESERVE = 0.9
_FRACTION = re.compile(r'path fraction ([0-9.eE+-]+)')


class CartesianFollower:
    """Follows Cartesian paths of one robot's tool centre point. Not thread safe."""

    variants = len(_VARIANTS)

    def __init__(self, robot: RobotConfig, *, dt: float = 0.005) -> None:
        try:
            from roboplan import cartesian_planning, core
        except ImportError as error:
            raise MissingDependencyError(
                'roboplan', expected='roboplan-core and roboplan-cartesian-planning 0.7',
                got=str(error),
                hint=how_to_install('motion')) from error
        self._core, self._cartesian = core, cartesian_planning
        self._robot, self._dt = robot, dt
        urdf, srdf = robot.model_files()
        self._scene = core.Scene(robot.name, core.loadUrdfSceneDescription(str(urdf)))
        self._scene.importSrdf(srdf.read_text())
        self._check_group()
        self._import_limits()
        # roboplan wants the whole configuration, fingers included; their value has no influence.
        self._names = self._scene.getJointNames()

    def follow(self, poses: Array, joints: Array, *, variant: int,
               velocity_scaling: float, acceleration_scaling: float) -> TimedPath:
        """Fastest motion along poses (n, 4, 4), the first of which is FK of `joints` (J,).

        `variant` counts through `_VARIANTS`. When only a first part can be reached, that
        part. Collisions are not checked. Raises PlanningError when not even the first step can be
        made or no time law is found.
        """
        how = _VARIANTS[variant]
        options = {
            'group_name': self._robot.group, 'dt': self._dt,
            'max_position_error': how.position, 'max_orientation_error': how.rotation,
            'orientation_cost': how.rotation_cost,
            'speed_mode': self._cartesian.CartesianSpeedMode.TimeOptimal,
            'velocity_scale': velocity_scaling,
            'acceleration_scale': _ACCELERATION_RESERVE * acceleration_scaling,
            'config_task_weight': how.posture}
        end = len(poses) - 1
        while True:
            result = self._attempt(poses[:end + 1], joints, options)
            if isinstance(result, np.ndarray):
                return TimedPath(result, self._dt, end / (len(poses) - 1))
            reached, message = result
            if reached is None:
                raise PlanningError('timing along the path', expected='a time law within limits',
                                    got=message, hint='Generate another future.')
            # The reported fraction is where the solver gave up: stop at or before it.
            end = int(min(reached, 0.95) * end)
            if end < 1:
                raise PlanningError(
                    'inverse kinematics', expected='joint positions along the path', got=message,
                    hint='The path leaves the reach of the arm: move the task nearer, or check '
                         'the extrinsics.')

    def _attempt(self, poses: Array, joints: Array,
                 options: dict) -> Array | tuple[float | None, str]:
        """Joint positions (n, J); or the fraction reached, if that is what failed, and why."""
        full = self._scene.getCurrentJointPositions()
        full[self._scene.getJointPositionIndices(self._robot.joints)] = joints
        self._scene.setJointPositions(full)
        planner = self._cartesian.CartesianPathPlanner(
            self._scene, self._cartesian.CartesianPlannerOptions(**options))
        path = self._core.CartesianPath([self._robot.base_link], [self._robot.tcp_link],
                                        [[np.asfortranarray(T) for T in poses]])
        try:
            with _stdout_to_stderr():
                result = planner.plan(path, self._core.JointConfiguration(self._names, full))
        except RuntimeError as error:
            found = _FRACTION.search(str(error))
            return (float(found.group(1)) if found else None), str(error)
        return np.array(result.positions)

    def _check_group(self) -> None:
        robot = self._robot
        try:
            joints = tuple(self._scene.getJointGroupInfo(robot.group).joint_names)
        except RuntimeError:
            joints = ()
        if joints != robot.joints:
            raise InputError(f'group {robot.group!r} of robot {robot.name!r}',
                             expected=f'{list(robot.joints)}, as `joints` has them',
                             got=str(list(joints)) if joints else 'no group of that name',
                             hint='Set `group` in the robot file to the group of the arm in the '
                                  'SRDF.')

    def _import_limits(self) -> None:
        robot = self._robot
        limits = {name: {'max_velocity': [float(robot.velocity[i])],
                         'max_acceleration': [float(robot.acceleration[i])],
                         'min_position': [float(robot.lower[i])],
                         'max_position': [float(robot.upper[i])]}
                  for i, name in enumerate(robot.joints)}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / 'limits.yaml'
            file.write_text(yaml.safe_dump({'joint_limits': limits}))
            self._scene.importJointLimitsFromConfig(self._core.loadJointLimitsConfig(file))


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what C++ code prints to stdout to stderr: TOPP-RA reports rounding there."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
