# SPDX-License-Identifier: Apache-2.0
"""Safety limits, and the checks that a trajectory and a motion must pass before it may run.

A check has a name, a limit and a measured value; a plan carries all of them. Every comparison is
written such that NaN fails it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.core.types import GripperTrajectory, JointTrajectory, MotionPlan
from fourdgen_ros.motion.path import METRES_PER_RADIAN
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.motion.timing import derivatives

Array = NDArray[np.float64]

# Fingers pressed against something give way by millimetres; more is a wrong unit or gripper.
OPENING_SLACK = 0.01  # m
# Fingers that open give way to the table by as much; its box in the scene lies as far below it.
OPENING_GIVE = 0.005  # m
# Limits are met up to rounding of resampling.
_RELATIVE_TOLERANCE = 1e-3
OPENING_HINT = 'The fingers open here: open higher up, or less tilted.'


class CheckError(PlanningError):
    """A safety check failed; `check` is its name."""

    def __init__(self, check: str, *, expected: str, got: str, hint: str = '') -> None:
        super().__init__(f'check {check!r}', expected=expected, got=got, hint=hint)
        self.check = check


@dataclass(frozen=True, kw_only=True)
class SafetyLimits:
    """What a motion may do. m, rad, s; scalings in (0, 1], 1.0 is the robot file's limit.

    `start_distance`/`start_angle`: between the trajectory's pose 0 and the robot.
    `max_age`: of the trajectory's observation. `min_confidence`: of a followed pose; up to
    `max_gap` frames in a row may be bridged. `frame_distance`/`frame_angle`: between two followed
    frames. `min_fraction`: of the path that must be feasible; the rest is cut off. `z_clearance`:
    how far a pose may be lifted so that the fingers stay `tip_clearance` above the table (0.0: not
    at all). `waypoint_distance`/`waypoint_angle`: between the path and the timed motion.
    `path_distance`/`path_angle`: of any point of the motion from the path. `joint_jump`: of one
    joint per 1 cm of path. `start_joints`: between a motion's start and
    the robot. `plan_lifetime`: until a plan expires.
    """

    velocity_scaling: float = 1.0
    acceleration_scaling: float = 1.0
    tcp_speed: float = 0.5
    start_distance: float = 0.03
    start_angle: float = float(np.deg2rad(20.0))
    max_age: float = 30.0
    min_confidence: float = 0.2
    max_gap: int = 2
    frame_distance: float = 0.3
    frame_angle: float = float(np.deg2rad(90.0))
    min_fraction: float = 0.5
    z_clearance: float = 0.02
    tip_clearance: float = 0.002
    waypoint_distance: float = 0.01
    waypoint_angle: float = float(np.deg2rad(5.0))
    path_distance: float = 0.015
    path_angle: float = float(np.deg2rad(8.0))
    joint_jump: float = 0.3
    start_joints: float = 0.01
    plan_lifetime: float = 30.0

    def __post_init__(self) -> None:
        for name in ('velocity_scaling', 'acceleration_scaling'):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise InputError(name, expected='more than 0 and at most 1', got=str(value),
                                 hint='0 does not mean a default here: name the speed you want.')
        for name in ('min_fraction', 'min_confidence'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(name, expected='0 to 1', got=str(getattr(self, name)))
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(field.name, expected='a finite number, not negative',
                                 got=str(value))


class CheckLog:
    """Collects what was checked; the first failure raises CheckError."""

    def __init__(self) -> None:
        self._worst: dict[str, float] = {}
        self.values: dict[str, str] = {}

    def at_most(self, check: str, measured: float, limit: float, unit: str = '', *,
                hint: str = '') -> None:
        """Require measured <= limit. Of several calls for one check the worst value is kept."""
        self._compare(check, measured <= limit, measured / limit if limit else measured,
                      f'{measured:.4g}{unit}', f'at most {limit:.4g}{unit}', hint)

    def at_least(self, check: str, measured: float, limit: float, unit: str = '', *,
                 hint: str = '') -> None:
        """Require measured >= limit. Of several calls for one check the worst value is kept."""
        self._compare(check, measured >= limit, -measured, f'{measured:.4g}{unit}',
                      f'at least {limit:.4g}{unit}', hint)

    def require(self, check: str, passed: bool, expected: str, got: str, *,
                hint: str = '') -> None:
        """Require a condition that is not one number."""
        if not passed:
            raise CheckError(check, expected=expected, got=got, hint=hint)
        self.values[check] = got

    def note(self, name: str, value: str) -> None:
        """Record something a reader of the plan should know, e.g. that a path was cut."""
        self.values[name] = value

    def merge(self, other: CheckLog) -> None:
        """Take over the values of another log, the worse where both measured the same check."""
        for name, value in other.values.items():
            badness = other._worst.get(name, np.inf)
            if badness >= self._worst.get(name, -np.inf):
                self._worst[name] = badness
                self.values[name] = value

    def _compare(self, check: str, passed: bool, badness: float, got: str, expected: str,
                 hint: str) -> None:
        if not passed:
            raise CheckError(check, expected=expected, got=got, hint=hint)
        if badness >= self._worst.get(check, -np.inf):
            self._worst[check] = badness
            self.values[check] = f'{got} ({expected})'


def check_inputs(log: CheckLog, trajectory: GripperTrajectory, joints: Array, opening: float,
                 robot: RobotConfig, limits: SafetyLimits, now_ns: int) -> None:
    """Check age, numbers and state of what a plan starts from."""
    log.require('frame of trajectory', trajectory.frame_id == robot.base_link, robot.base_link,
                trajectory.frame_id, hint='Transform the trajectory into the base frame first.')
    age = (now_ns - trajectory.stamp) * 1e-9
    log.at_most('trajectory age', age, limits.max_age, ' s',
                hint='The world has moved on: observe and generate again.')
    log.at_least('clock', age, -0.1, ' s',
                 hint='The stamp lies in the future: do both machines use the same clock?')
    numbers = (trajectory.opening, trajectory.confidence, trajectory.times)
    log.require('finite numbers', all(np.isfinite(v).all() for v in numbers), 'finite', 'yes'
                if all(np.isfinite(v).all() for v in numbers) else 'NaN or infinity')
    rigid = se3.is_rigid(trajectory.poses)
    log.require('rigid poses', rigid, 'orthonormal rotations', 'yes' if rigid else 'not rigid')
    increasing = bool((np.diff(trajectory.times) > 0).all())
    log.require('frame times', increasing, 'increasing', 'yes' if increasing else 'not increasing')
    n = len(robot.joints)
    log.require('joint state', joints.shape == (n,) and bool(np.isfinite(joints).all()),
                f'{n} finite numbers', str(joints.tolist()))
    excess = float(np.maximum(robot.lower - joints, joints - robot.upper).max())
    log.at_most('joint state within limits', excess, 2e-3, ' rad',
                hint='Move the arm back within its joint limits by hand.')
    log.at_most('gripper opening outside its range',
                max(robot.opening[0] - opening, opening - robot.opening[1]), OPENING_SLACK,
                ' m')


def check_frames(log: CheckLog, poses: Array, limits: SafetyLimits) -> None:
    """Check the steps between followed frames (n, 4, 4): a track that jumps is not followed."""
    for before, after in pairwise(poses):
        move, turn = se3.distance(before, after)
        hint = 'The tracked gripper jumps: look at its confidence and at the generated future.'
        log.at_most('frame distance', move, limits.frame_distance, ' m', hint=hint)
        log.at_most('frame angle', turn, limits.frame_angle, ' rad', hint=hint)


def check_workspace(log: CheckLog, check: str, poses: Array, robot: RobotConfig) -> None:
    """Check that tool centre points of poses (n, 4, 4) lie inside the workspace box."""
    excess = robot.workspace.excess(poses[:, :3, 3])
    worst, axis = np.unravel_index(int(excess.argmax()), excess.shape)
    position = np.round(poses[worst, :3, 3], 3).tolist()
    log.require(check, bool((excess <= 1e-6).all()),
                f'within {robot.workspace.min} to {robot.workspace.max} m',
                'inside' if (excess <= 1e-6).all()
                else f'{position} m, {excess[worst, axis]:.3f} m out along {"xyz"[axis]}',
                hint='Widen `workspace` in the robot file only if the cell is clear there.')


def check_table(log: CheckLog, check: str, poses: Array, opening: float, robot: RobotConfig,
                limits: SafetyLimits) -> None:
    """Check finger tips along (n, 4, 4): clear of the table, or no lower than at the start."""
    if robot.table_height is None:
        return
    lowest = robot.tip.lowest(poses, opening) - robot.table_height
    # Blending and the jerk limit may cut a corner by as much as the waypoint check allows.
    allowed = min(limits.tip_clearance, float(lowest[0])) - 0.003
    log.at_least(check, float(lowest.min()), allowed, ' m',
                 hint='The path would press the fingers into the table.')


def check_opening(log: CheckLog, pose: Array, before: float, after: float, robot: RobotConfig,
                  limits: SafetyLimits) -> None:
    """Check fingers that open from `before` to `after` (m) at `pose` (4, 4): a tilted hand lowers
    one of them, which stays clear of the table, or no lower than it is."""
    if robot.table_height is None:
        return
    lowest, opened = (float(robot.tip.lowest(pose[None], opening)[0]) - robot.table_height
                      for opening in (before, after))
    log.at_least('table clearance (opening)', opened,
                 min(limits.tip_clearance, lowest) - OPENING_GIVE, ' m', hint=OPENING_HINT)


def check_motion(log: CheckLog, segment: JointTrajectory, start: Array, tcp: Array,
                 waypoints: Array, robot: RobotConfig, limits: SafetyLimits) -> None:
    """Check a timed motion: (n, J) joint positions with FK `tcp` (n, 4, 4) of every point.

    `start` (J,) is where the arm is when it begins; `waypoints` (m, 4, 4) what it should follow.
    """
    q, dt = segment.positions, np.diff(segment.times)
    log.require('motion finite', bool(np.isfinite(q).all()), 'finite', 'yes'
                if np.isfinite(q).all() else 'NaN or infinity')
    log.require('motion stamps', bool((dt > 0).all() and np.ptp(dt) < 1e-6),
                'increasing and even', f'every {dt[0] * 1e3:.4g} ms')
    log.at_most('start state', float(np.abs(q[0] - start).max()), limits.start_joints, ' rad')
    log.at_least('joint limits (distance)',
                 float(np.minimum(q - robot.lower, robot.upper - q).min()), -1e-4, ' rad')
    v, a, j = derivatives(q, float(dt[0]))
    for check, values, limit in (
            ('joint velocity', v, limits.velocity_scaling * robot.velocity),
            ('joint acceleration', a, limits.acceleration_scaling * robot.acceleration),
            ('joint jerk', j, robot.jerk)):
        log.at_most(f'{check} (of its limit)', float((np.abs(values) / limit).max()),
                    1.0 + _RELATIVE_TOLERANCE)
    log.at_most('joint jump', _joint_jump(q, tcp), limits.joint_jump, ' rad per cm of path',
                hint='The arm passes near a singularity: start from another posture.')
    speed = np.linalg.norm(np.diff(tcp[:, :3, 3], axis=0), axis=1) / dt
    log.at_most('tcp speed', float(speed.max()), limits.tcp_speed * (1 + _RELATIVE_TOLERANCE),
                ' m/s')
    distance, angle = _deviation(waypoints, tcp)
    log.at_most('waypoint distance', distance, limits.waypoint_distance, ' m')
    log.at_most('waypoint angle', angle, limits.waypoint_angle, ' rad')
    check_workspace(log, 'workspace (motion)', tcp, robot)


def check_on_path(log: CheckLog, tcp: Array, path: Array, limits: SafetyLimits) -> None:
    """Check that a motion, FK `tcp` (n, 4, 4), nowhere leaves the path (m, 4, 4).

    Waypoints that are met do not tell what happens between them: a time law over a joint jump
    swings the whole arm and comes back.
    """
    distance, angle = _straying(tcp, path)
    hint = 'The arm leaves the imagined path between waypoints: start from another posture.'
    log.at_most('path distance', distance, limits.path_distance, ' m', hint=hint)
    log.at_most('path angle', angle, limits.path_angle, ' rad', hint=hint)


def check_start(plan: MotionPlan, joints: Array, limits: SafetyLimits) -> None:
    """Check, when a plan is to run, that the arm stands where it begins. Raises CheckError."""
    arm = [s for s in plan.segments if isinstance(s, JointTrajectory)]
    if arm:
        log = CheckLog()
        log.at_most('start state', float(np.abs(arm[0].positions[0] - joints).max()),
                    limits.start_joints, ' rad',
                    hint='The arm has moved since the plan was made: plan again.')


def _joint_jump(q: Array, tcp: Array) -> float:
    """Greatest change of one joint over any 1 cm of path (turns counted as in path.py)."""
    move = np.linalg.norm(np.diff(tcp[:, :3, 3], axis=0), axis=1)
    trace = np.einsum('nij,nij->n', tcp[:-1, :3, :3], tcp[1:, :3, :3])
    turn = np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))
    travelled = np.r_[0.0, np.cumsum(move + METRES_PER_RADIAN * turn)]
    after = np.minimum(np.searchsorted(travelled, travelled + 0.01), len(q) - 1)
    return float(np.abs(q[after] - q).max())


def _deviation(waypoints: Array, tcp: Array) -> tuple[float, float]:
    """Greatest distance (m) of a waypoint from the motion, and the angle (rad) there."""
    gaps = np.linalg.norm(waypoints[:, None, :3, 3] - tcp[None, :, :3, 3], axis=2)
    trace = np.einsum('mij,nij->mn', waypoints[:, :3, :3], tcp[:, :3, :3])
    angles = np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))
    nearest = (gaps + METRES_PER_RADIAN * angles).argmin(axis=1)
    rows = np.arange(len(waypoints))
    return float(gaps[rows, nearest].max()), float(angles[rows, nearest].max())


def _straying(tcp: Array, path: Array) -> tuple[float, float]:
    """Greatest distance (m) of a point of the motion from the lines between path points.

    The angle (rad) is to the nearer end of the nearest line.
    """
    points, begin = tcp[:, None, :3, 3], path[:-1, :3, 3]
    along = path[1:, :3, 3] - begin
    length2 = np.maximum((along**2).sum(axis=1), 1e-18)
    share = np.clip(((points - begin) * along).sum(axis=2) / length2, 0.0, 1.0)
    gaps = np.linalg.norm(points - (begin + share[..., None] * along), axis=2)
    trace = np.einsum('nij,mij->nm', tcp[:, :3, :3], path[:, :3, :3])
    angles = np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))
    turn = np.minimum(angles[:, :-1], angles[:, 1:])
    nearest = (gaps + METRES_PER_RADIAN * turn).argmin(axis=1)
    rows = np.arange(len(tcp))
    return float(gaps[rows, nearest].max()), float(turn[rows, nearest].max())
