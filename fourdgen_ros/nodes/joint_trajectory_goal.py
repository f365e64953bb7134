# SPDX-License-Identifier: Apache-2.0
"""Check FollowJointTrajectory goals as ros2_control's joint trajectory controller does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from control_msgs.action import FollowJointTrajectory
from control_msgs.msg import JointTolerance
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from fourdgen_ros.core.types import JointTrajectory
from fourdgen_ros.nodes.conversions import duration_to_seconds, stamp_to_ns
from fourdgen_ros.sim.trajectory import Tolerances, TrajectoryFollower

Array = NDArray[np.float64]
Codes = FollowJointTrajectory.Result


class GoalError(Exception):
    """A goal that must not be followed; `code` is one of FollowJointTrajectory.Result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, eq=False)
class SetPoint:
    """What the joints are told and what they do: commanded q, qd and measured q, all (J,)."""

    q: Array
    qd: Array
    measured: Array


@dataclass(frozen=True, eq=False)
class Limits:
    """Default tolerances, and how far off the first point (at time 0) may be, rad (J,)."""

    tolerances: Tolerances
    start: float


def make_follower(goal: FollowJointTrajectory.Goal, joints: Sequence[str], set_point: SetPoint,
                  limits: Limits, now_ns: int) -> tuple[TrajectoryFollower, int]:
    """A follower whose columns are in the order of `joints`, and the stamp of its time 0.

    The motion begins at the present set point: points whose time has passed are left out, and the
    set point leads in to the first of the others. Raises GoalError.
    """
    trajectory = goal.trajectory
    if goal.multi_dof_trajectory.points:
        raise GoalError(Codes.INVALID_GOAL, 'multi_dof_trajectory is not supported')
    order = _joint_order(trajectory.joint_names, joints)
    times, q, qd, qdd = _points(trajectory, order)
    start_ns = stamp_to_ns(trajectory.header.stamp)
    if start_ns == 0:
        start_ns = now_ns
    elapsed = (now_ns - start_ns) * 1e-9
    if elapsed > times[-1]:
        raise GoalError(Codes.OLD_HEADER_TIMESTAMP,
                        f'the trajectory ended {elapsed - times[-1]:.3f} s ago by its header stamp')
    if times[0] == 0.0 and elapsed == 0.0:
        _check_start(q[0], set_point.measured, limits.start, joints)
    ahead = times > elapsed
    lead = JointTrajectory(
        tuple(joints), np.concatenate([[elapsed], times[ahead]]),
        np.vstack([set_point.q, q[ahead]]),
        np.vstack([set_point.qd, np.zeros_like(q[ahead]) if qd is None else qd[ahead]]),
        np.vstack([np.zeros(len(joints)), np.zeros_like(q[ahead]) if qdd is None else qdd[ahead]]),
    ) if ahead.any() else _stay(set_point, q[-1], elapsed, joints)
    degree = 1 if qd is None else 3 if qdd is None else 5
    follower = TrajectoryFollower(lead, degree=degree,
                                  tolerances=_tolerances(goal, joints, limits.tolerances))
    return follower, start_ns


def _stay(set_point: SetPoint, q: Array, elapsed: float, joints: Sequence[str]) -> JointTrajectory:
    """A single point at time 0, where the joints already are: hold it for one instant."""
    zero = np.zeros((2, len(joints)))
    return JointTrajectory(tuple(joints), np.array([elapsed, elapsed + 1e-3]),
                           np.vstack([set_point.q, q]), zero, zero)


def _joint_order(names: Sequence[str], joints: Sequence[str]) -> list[int]:
    """Columns of the goal in the order of `joints`."""
    if sorted(names) != sorted(joints):
        missing, unknown = sorted(set(joints) - set(names)), sorted(set(names) - set(joints))
        raise GoalError(Codes.INVALID_JOINTS,
                        f'expected each of {list(joints)} once; missing {missing}, '
                        f'unknown {unknown}, got {list(names)}')
    return [list(names).index(joint) for joint in joints]


def _points(trajectory: JointTrajectoryMsg, order: list[int],
            ) -> tuple[Array, Array, Array | None, Array | None]:
    points = trajectory.points
    if not points:
        raise GoalError(Codes.INVALID_GOAL, 'the trajectory has no points')

    def columns(name: str) -> Array | None:
        rows = [list(getattr(point, name)) for point in points]
        lengths = {len(row) for row in rows}
        if lengths == {0}:
            return None
        if lengths != {len(order)}:
            raise GoalError(Codes.INVALID_GOAL, f'{name} must have {len(order)} values in every '
                                                f'point, or in none; got {sorted(lengths)}')
        values = np.array(rows, float)[:, order]
        if not np.isfinite(values).all():
            raise GoalError(Codes.INVALID_GOAL, f'{name} are not finite')
        return values

    q, qd, qdd = columns('positions'), columns('velocities'), columns('accelerations')
    if q is None:
        raise GoalError(Codes.INVALID_GOAL, 'the points have no positions')
    if qd is None:
        qdd = None  # accelerations alone do not define a spline
    times = np.array([duration_to_seconds(point.time_from_start) for point in points])
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise GoalError(Codes.INVALID_GOAL,
                        f'time_from_start must be >= 0 and strictly increase; got {times.tolist()}')
    if qd is not None and np.abs(qd[-1]).max() > 1e-6:
        raise GoalError(Codes.INVALID_GOAL, 'the last point must have zero velocity')
    return times, q, qd, qdd


def _check_start(q: Array, measured: Array, bound: float, joints: Sequence[str]) -> None:
    error = np.abs(q - measured)
    worst = int(np.argmax(error))
    if error[worst] > bound:
        raise GoalError(Codes.INVALID_GOAL,
                        f'the trajectory starts {error[worst]:.4f} rad away from {joints[worst]}, '
                        f'tolerance {bound:.4f} rad')


def _tolerances(goal: FollowJointTrajectory.Goal, joints: Sequence[str],
                default: Tolerances) -> Tolerances:
    """0 means the default, -1 no bound."""
    goal_time = duration_to_seconds(goal.goal_time_tolerance)
    return Tolerances(
        path=_positions(goal.path_tolerance, joints, default.path),
        goal=_positions(goal.goal_tolerance, joints, default.goal),
        goal_time_s=default.goal_time_s if goal_time == 0 else _bound(goal_time, 'goal time'),
        stopped_velocity=default.stopped_velocity)


def _positions(given: Sequence[JointTolerance], joints: Sequence[str], default: Array) -> Array:
    out = default.copy()
    for tolerance in given:
        if tolerance.name not in joints:
            raise GoalError(Codes.INVALID_JOINTS, f'tolerance for unknown joint {tolerance.name!r}')
        if tolerance.velocity > 0 or tolerance.acceleration > 0:
            raise GoalError(Codes.INVALID_GOAL,
                            f'{tolerance.name}: only position tolerances are supported')
        if tolerance.position != 0:
            out[list(joints).index(tolerance.name)] = _bound(tolerance.position, tolerance.name)
    return out


def _bound(value: float, what: str) -> float:
    if value == -1:
        return np.inf
    if not value > 0:
        raise GoalError(Codes.INVALID_GOAL, f'tolerance {value} of {what}; expected > 0, 0 for the '
                                            'default or -1 for none')
    return value
