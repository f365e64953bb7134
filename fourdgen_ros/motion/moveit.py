# SPDX-License-Identifier: Apache-2.0
"""Paths that MoveIt computes: what is asked, and what an answer must be before it is believed.

MoveIt itself is behind the protocol `MoveIt`; its two bindings are in nodes/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.core.types import GripperTrajectory, MotionPlan
from fourdgen_ros.motion.base import Contact, Kinematics, TimedPath
from fourdgen_ros.motion.planner import PathSettings, TrajectoryPlanner
from fourdgen_ros.motion.robot import RobotConfig, SceneBox, Workspace
from fourdgen_ros.motion.safety import SafetyLimits

Array = NDArray[np.float64]

SUCCESS, INVALID_LINK_NAME = 1, -18
# moveit_msgs/MoveItErrorCodes of Jazzy.
ERROR_CODES = {
    1: 'SUCCESS', 0: 'UNDEFINED', 99999: 'FAILURE', -1: 'PLANNING_FAILED',
    -2: 'INVALID_MOTION_PLAN', -3: 'MOTION_PLAN_INVALIDATED_BY_ENVIRONMENT_CHANGE',
    -4: 'CONTROL_FAILED', -5: 'UNABLE_TO_AQUIRE_SENSOR_DATA', -6: 'TIMED_OUT', -7: 'PREEMPTED',
    -10: 'START_STATE_IN_COLLISION', -11: 'START_STATE_VIOLATES_PATH_CONSTRAINTS',
    -12: 'GOAL_IN_COLLISION', -13: 'GOAL_VIOLATES_PATH_CONSTRAINTS',
    -14: 'GOAL_CONSTRAINTS_VIOLATED', -15: 'INVALID_GROUP_NAME', -16: 'INVALID_GOAL_CONSTRAINTS',
    -17: 'INVALID_ROBOT_STATE', -18: 'INVALID_LINK_NAME', -19: 'INVALID_OBJECT_NAME',
    -21: 'FRAME_TRANSFORM_FAILURE', -22: 'COLLISION_CHECKING_UNAVAILABLE',
    -23: 'ROBOT_STATE_STALE', -24: 'SENSOR_INFO_STALE', -25: 'COMMUNICATION_FAILURE',
    -26: 'START_STATE_INVALID', -27: 'GOAL_STATE_INVALID', -28: 'UNRECOGNIZED_GOAL_TYPE',
    -29: 'CRASH', -30: 'ABORT', -31: 'NO_IK_SOLUTION',
}
# Faster than its limit by more than rounding means that a joint jumps and the stamps do not show.
_SPEED_RESERVE = 1.1
_STEP = 0.02  # rad between two states of which collisions are checked
_DT = 0.005  # s between points of a path for the planner
_SAME_PLACE, _SAME_TURN = 0.005, np.deg2rad(1.0)  # m, rad between two descriptions of one tool


@dataclass(frozen=True)
class ErrorCode:
    """How MoveIt says that a request ended: number, text, and who says so."""

    code: int
    message: str = ''
    source: str = ''

    def __str__(self) -> str:
        name = ERROR_CODES.get(self.code, 'unknown code')
        detail = f': {self.message}' if self.message else ''
        return f'{name} ({self.code}){detail}' + (f' [{self.source}]' if self.source else '')


@dataclass(frozen=True, eq=False, kw_only=True)
class PathRequest:
    """A path of `link` through poses (n, 4, 4) in `frame`, at least two, the first being now.

    `start` (J,) rad are the positions of `joints`; `max_step` is the greatest distance (m) between
    two inverse kinematics. The TCP must stay in the `workspace`, in `frame`.
    """

    group: str
    link: str
    frame: str
    joints: tuple[str, ...]
    start: Array
    poses: Array
    max_step: float
    velocity_scaling: float
    acceleration_scaling: float
    workspace: Workspace

    def __post_init__(self) -> None:
        for name in ('velocity_scaling', 'acceleration_scaling'):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise InputError(name, expected='above 0 and at most 1', got=str(value),
                                 hint='MoveIt takes anything else, 0 too, for full speed.')
        if len(self.poses) < 2 or not self.max_step > 0.0:
            raise InputError('path request', expected='at least 2 poses and max_step > 0',
                             got=f'{len(self.poses)} poses, max_step {self.max_step}')


@dataclass(frozen=True, eq=False, kw_only=True)
class PathAnswer:
    """What came back: positions (n, J') of `joints` at `times` (n,), `fraction` of the waypoints.

    `velocities` (n, J') are rad/s, or None where the answer has none.
    """

    error: ErrorCode
    fraction: float
    joints: tuple[str, ...]
    times: Array
    positions: Array
    velocities: Array | None


class MoveIt(Protocol):
    """A MoveIt somewhere. Calls raise PlanningError when it does not answer."""

    name: str

    def update_scene(self, boxes: tuple[SceneBox, ...], frame: str) -> None:
        """Put the boxes into the planning scene, in `frame`."""
        ...

    def link_poses(self, links: tuple[str, ...], joints: tuple[str, ...],
                   q: Array) -> dict[str, Array] | None:
        """Poses (4, 4), in a frame of its own, of those of `links` that it knows, at positions
        (J,) of `joints`; None where it cannot be asked."""
        ...

    def path(self, request: PathRequest) -> PathAnswer:
        """Compute a path along straight lines, free of collisions, with time stamps."""
        ...

    def first_contact(self, joints: tuple[str, ...], path: Array) -> Contact | None:
        """Find the first of the states (n, J) of `joints` in which something touches."""
        ...


class MoveItFollower:
    """Follows paths with MoveIt's inverse kinematics and time law."""

    variants = 1

    def __init__(self, robot: RobotConfig, moveit: MoveIt, *, max_step: float = 0.01) -> None:
        self._robot, self._moveit, self._max_step = robot, moveit, max_step

    def follow(self, poses: Array, joints: Array, *, variant: int, velocity_scaling: float,
               acceleration_scaling: float) -> TimedPath:
        """See motion/base.py; there is only variant 0."""
        robot = self._robot
        answer = self._moveit.path(PathRequest(
            group=robot.group, link=robot.tcp_link, frame=robot.base_link, joints=robot.joints,
            start=joints, poses=poses, max_step=self._max_step, velocity_scaling=velocity_scaling,
            acceleration_scaling=acceleration_scaling, workspace=robot.workspace))
        return believe(answer, robot, self._moveit.name)


def believe(answer: PathAnswer, robot: RobotConfig, source: str) -> TimedPath:
    """Test what MoveIt answered and sample it evenly, joints in the robot's order.

    SUCCESS alone says little: move_group gives it with a part of the path or an empty one, and
    without stamps where its time law failed. Raises PlanningError.
    """
    what = f'path of {source}'
    if answer.error.code != SUCCESS:
        raise PlanningError(what, expected='SUCCESS', got=str(answer.error),
                            hint=_HINTS.get(answer.error.code, f'See the log of {source}.'))
    n = len(answer.times)
    if not 0.0 < answer.fraction <= 1.0 or n < 2:
        raise PlanningError(
            what, expected='at least 2 points and a fraction of the path above 0',
            got=f'{n} points, fraction {answer.fraction:.3g}',
            hint='Not even the first step can be made: it collides, leaves the workspace, or is '
                 'out of reach.')
    if sorted(answer.joints) != sorted(robot.joints):
        raise PlanningError(
            f'joints of the {what}', expected=f'each of {list(robot.joints)} once',
            got=str(list(answer.joints)),
            hint=f'Compare `group` and `joints` in config/robots/{robot.name}.yaml with the SRDF.')
    order = [answer.joints.index(name) for name in robot.joints]
    times, q = answer.times, answer.positions[:, order]
    v = None if answer.velocities is None else answer.velocities[:, order]
    if not (np.isfinite(q).all() and np.isfinite(times).all()
            and (v is None or np.isfinite(v).all())):
        raise PlanningError(what, expected='finite numbers', got='NaN or infinity')
    if not (abs(times[0]) < 1e-9 and (np.diff(times) > 0.0).all()):
        zero = not np.any(times)
        raise PlanningError(
            f'time stamps of the {what}', expected='increasing from 0',
            got='all zero' if zero else f'{times[:3].tolist()} ... {times[-1]:.4g} s',
            hint='Its time law failed: give every joint velocity and acceleration limits in '
                 'joint_limits.yaml of the MoveIt configuration.' if zero else '')
    speed = np.abs(np.diff(q, axis=0)) / np.diff(times)[:, None] / robot.velocity
    if not speed.max() <= _SPEED_RESERVE:
        point, joint = np.unravel_index(int(speed.argmax()), speed.shape)
        raise PlanningError(
            f'joint jump in the {what}',
            expected=f'{robot.joints[joint]} at most at {robot.velocity[joint]:.3g} rad/s',
            got=f'{abs(q[point + 1, joint] - q[point, joint]):.3g} rad in '
                f'{times[point + 1] - times[point]:.3g} s at point {point + 1} of {n}',
            hint='The inverse kinematics changes its branch: start from another posture.')
    spline = (CubicSpline(times, q, bc_type='clamped') if v is None
              else CubicHermiteSpline(times, q, v))
    steps = max(2, int(np.ceil(times[-1] / _DT)))
    return TimedPath(spline(np.linspace(0.0, times[-1], steps + 1)), float(times[-1]) / steps,
                     float(answer.fraction))


_HINTS = {
    -15: 'Set `group` in the robot file to a group of the SRDF.',
    -21: 'MoveIt does not know the base frame: compare `base_link` in the robot file with /tf.',
    -23: 'MoveIt has no joint states: check its joint_states topic.',
}


def require_same_tool(told: Mapping[str, Array], robot: RobotConfig, T_base_tcp: Array,
                      source: str) -> None:
    """Refuse a MoveIt that does not know the links of the robot file, or has the TCP elsewhere.

    `told` are the poses (4, 4) of links in one frame, by MoveIt's description of the robot,
    `T_base_tcp` is that of ours at the same joint positions. move_group ends when it is asked for
    the path of a link that it does not know. Raises PlanningError.
    """
    file = f'config/robots/{robot.name}.yaml'
    for key, link in (('base_link', robot.base_link), ('tcp_link', robot.tcp_link)):
        if link not in told:
            raise PlanningError(
                f'`{key}` {link!r} of {file}',
                expected=f'a link of the robot description that {source} has',
                got='none of that name',
                hint='Name one that it has, or add this one to its description as a fixed link: '
                     'docs/robot.md, section 1.')
    distance, angle = se3.distance(
        T_base_tcp, se3.inverse(told[robot.base_link]) @ told[robot.tcp_link])
    if not (distance <= _SAME_PLACE and angle <= _SAME_TURN):
        raise PlanningError(
            f'`tcp_link` {robot.tcp_link!r} of {file}',
            expected=f'where the execution node has it, within {1e3 * _SAME_PLACE:g} mm and '
                     f'{np.rad2deg(_SAME_TURN):g} deg',
            got=f'{1e3 * distance:.1f} mm and {np.rad2deg(angle):.1f} deg beside that in the '
                f'robot description of {source}',
            hint='The two descriptions have other hands or other tool centre points: give both '
                 'the same. docs/robot.md, section 1.')


class MoveItBodies:
    """Collision checks by MoveIt, against its planning scene."""

    def __init__(self, robot: RobotConfig, moveit: MoveIt) -> None:
        self._robot, self._moveit = robot, moveit

    def first_contact(self, path: Array, opening: float) -> Contact | None:
        """See motion/base.py; states are checked wherever a joint has moved on by 0.02 rad."""
        robot = self._robot
        chosen = sparse(path, _STEP)
        fingers = np.full((len(chosen), len(robot.finger_joints)), robot.finger_position(opening))
        contact = self._moveit.first_contact((*robot.joints, *robot.finger_joints),
                                             np.hstack([path[chosen], fingers]))
        if contact is None:
            return None
        return Contact(int(chosen[contact.index]), contact.a, contact.b)


def sparse(path: Array, step: float) -> Array:
    """Indices into (n, J), first and last included, between which no joint moves above `step`.

    Where one point of the path is farther from the next, both are chosen.
    """
    chosen = [0]
    for i in range(1, len(path)):
        if np.abs(path[i] - path[chosen[-1]]).max() > step:
            if i - 1 > chosen[-1]:
                chosen.append(i - 1)
            if np.abs(path[i] - path[chosen[-1]]).max() > step:
                chosen.append(i)
    if chosen[-1] != len(path) - 1:
        chosen.append(len(path) - 1)
    return np.array(chosen)


class MoveItPlanner(TrajectoryPlanner):
    """Plans with a MoveIt; every check of motion/safety.py holds as with the embedded planner."""

    def __init__(self, robot: RobotConfig, limits: SafetyLimits | None = None,
                 settings: PathSettings | None = None, *, moveit: MoveIt, kinematics: Kinematics,
                 max_step: float = 0.01) -> None:
        super().__init__(robot, limits, settings,
                         follower=MoveItFollower(robot, moveit, max_step=max_step),
                         kinematics=kinematics, bodies=MoveItBodies(robot, moveit))
        self._moveit = moveit
        self._compared = False

    def plan(self, trajectory: GripperTrajectory, joints: Array, opening: float, *,
             frames: int | None = None, now_ns: int, steady_ns: int | None = None,
             skip_passed: bool = False) -> MotionPlan:
        """See TrajectoryPlanner. The obstacles are sent each time: MoveIt may have restarted."""
        self._moveit.update_scene(self.robot.scene, self.robot.base_link)
        self._compare_robots()
        return super().plan(trajectory, joints, opening, frames=frames, now_ns=now_ns,
                            steady_ns=steady_ns, skip_passed=skip_passed)

    def _compare_robots(self) -> None:
        """Hold MoveIt's description of the robot against ours, until they were the same once."""
        robot = self.robot
        with self._lock:
            if self._compared:
                return
            told = self._moveit.link_poses((robot.base_link, robot.tcp_link), robot.joints,
                                           robot.home)
            if told is not None:
                require_same_tool(told, robot, self._kinematics.fk(robot.home), self._moveit.name)
            self._compared = True
