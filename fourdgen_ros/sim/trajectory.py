# SPDX-License-Identifier: Apache-2.0
"""Follow a joint trajectory over time as ros2_control's joint trajectory controller (JTC) does.

Pure: the caller owns the clock and the joints. `TrajectoryFollower.sample` gives the set point,
`check` compares it with the joints and decides whether the motion goes on, is done or has failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import JointTrajectory

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tolerances:
    """Bounds in rad per joint: `path` (J,) while moving, `goal` (J,) at the end; inf is no bound.

    `goal_time_s` is how long after the end the joints may take to reach the goal (inf: forever);
    `stopped_velocity` (rad/s) is what counts as standing at the goal.
    """

    path: Array
    goal: Array
    goal_time_s: float = np.inf
    stopped_velocity: float = np.inf

    @classmethod
    def none(cls, joints: int) -> Tolerances:
        """No bound on anything."""
        return cls(np.full(joints, np.inf), np.full(joints, np.inf))


class Status(Enum):
    """State of a followed trajectory."""

    RUNNING = 'running'
    SUCCEEDED = 'succeeded'
    PATH_TOLERANCE_VIOLATED = 'path tolerance violated'
    GOAL_TOLERANCE_VIOLATED = 'goal tolerance violated'


@dataclass(frozen=True)
class Outcome:
    """A status and, where it is a failure, what was measured."""

    status: Status
    message: str = ''


class TrajectoryFollower:
    """Samples a trajectory with splines between its points and holds its ends outside.

    `degree` is 1 (uses positions only), 3 (velocities too) or 5 (accelerations too). Raises
    InputError for another degree.
    """

    def __init__(self, trajectory: JointTrajectory, *, degree: int = 5,
                 tolerances: Tolerances | None = None) -> None:
        if degree not in (1, 3, 5):
            raise InputError('degree of the spline', expected='1, 3 or 5', got=str(degree))
        self.trajectory = trajectory
        self._tolerances = (Tolerances.none(len(trajectory.joint_names)) if tolerances is None
                            else tolerances)
        self._coefficients = _COEFFICIENTS[degree](trajectory)

    @property
    def duration(self) -> float:
        """Time of the last point, s."""
        return self.trajectory.duration

    def sample(self, t: float) -> tuple[Array, Array, Array]:
        """Position, velocity and acceleration (J,) at `t` s after the start."""
        trajectory = self.trajectory
        zero = np.zeros(len(trajectory.joint_names))
        if t >= trajectory.times[-1]:
            return trajectory.positions[-1].copy(), zero, zero.copy()
        if t < trajectory.times[0]:
            return trajectory.positions[0].copy(), zero, zero.copy()
        i = int(np.searchsorted(trajectory.times, t, side='right')) - 1
        c = self._coefficients[i]
        powers = (t - trajectory.times[i]) ** np.arange(len(c))
        n = np.arange(len(c))
        q = powers @ c
        qd = (n[1:] * powers[:-1]) @ c[1:]
        qdd = (n[2:] * n[1:-1] * powers[:len(c) - 2]) @ c[2:] if len(c) > 2 else zero
        return q, qd, qdd

    def check(self, t: float, q: Array, qd: Array) -> Outcome:
        """Compare joints q, qd (J,) at `t` with the set point; see `Tolerances`."""
        tolerances = self._tolerances
        if t < self.duration:
            error = np.abs(self.sample(t)[0] - q)
            if (error > tolerances.path).any():
                return Outcome(Status.PATH_TOLERANCE_VIOLATED,
                               self._worst(error, tolerances.path, f'{t:.3f} s into the path'))
            return Outcome(Status.RUNNING)
        error = np.abs(self.trajectory.positions[-1] - q)
        if (error <= tolerances.goal).all() and (np.abs(qd) <= tolerances.stopped_velocity).all():
            return Outcome(Status.SUCCEEDED)
        late = t - self.duration
        if late <= tolerances.goal_time_s:
            return Outcome(Status.RUNNING)
        if (error <= tolerances.goal).all():
            j = int(np.argmax(np.abs(qd)))
            message = (f'{self.trajectory.joint_names[j]} still moves at {abs(qd[j]):.3f} rad/s '
                       f'{late:.3f} s after the end')
        else:
            message = self._worst(error, tolerances.goal, f'{late:.3f} s after the end')
        return Outcome(Status.GOAL_TOLERANCE_VIOLATED, message)

    def _worst(self, error: Array, bound: Array, when: str) -> str:
        j = int(np.argmax(error - bound))
        return (f'{self.trajectory.joint_names[j]} is {error[j]:.4f} rad off, '
                f'tolerance {bound[j]:.4f} rad, {when}')


def _linear(trajectory: JointTrajectory) -> Array:
    """Coefficients (n - 1, 2, J), lowest power first."""
    q, h = trajectory.positions, np.diff(trajectory.times)[:, None]
    return np.stack([q[:-1], np.diff(q, axis=0) / h], axis=1)


def _cubic(trajectory: JointTrajectory) -> Array:
    q, v, h = trajectory.positions, trajectory.velocities, np.diff(trajectory.times)[:, None]
    dq, v0, v1 = np.diff(q, axis=0), v[:-1], v[1:]
    return np.stack([q[:-1], v0, (3 * dq / h - 2 * v0 - v1) / h,
                     (v0 + v1 - 2 * dq / h) / h**2], axis=1)


def _quintic(trajectory: JointTrajectory) -> Array:
    q, v, a = trajectory.positions, trajectory.velocities, trajectory.accelerations
    h = np.diff(trajectory.times)[:, None]
    dq, v0, v1, a0, a1 = np.diff(q, axis=0), v[:-1], v[1:], a[:-1], a[1:]
    return np.stack([
        q[:-1], v0, a0 / 2,
        (20 * dq - (8 * v1 + 12 * v0) * h - (3 * a0 - a1) * h**2) / (2 * h**3),
        (-30 * dq + (14 * v1 + 16 * v0) * h + (3 * a0 - 2 * a1) * h**2) / (2 * h**4),
        (12 * dq - 6 * (v1 + v0) * h + (a1 - a0) * h**2) / (2 * h**5),
    ], axis=1)


_COEFFICIENTS = {1: _linear, 3: _cubic, 5: _quintic}
