# SPDX-License-Identifier: Apache-2.0
"""Is the robot where the plan has it? The measured TCP is held against the planned one in motion.

A controller lags, and nobody knows exactly when it began. So a measured pose is compared with the
nearest of the planned poses within a short time around now, not with that of one instant: what is
late by less than that does not count, what has left the path or stands still does.
No clock is read here, and nothing is moved.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import ExecutionError, InputError
from fourdgen_ros.motion.path import METRES_PER_RADIAN

Array = NDArray[np.float64]
PERIOD = 0.02  # s between two looks


@dataclass(frozen=True, kw_only=True)
class DeviationLimits:
    """How far the TCP may be from the plan: `distance` m and `angle` rad (0.0: any), compared with
    what is planned up to `lag` s earlier or later."""

    distance: float = 0.03
    angle: float = float(np.deg2rad(20.0))
    lag: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value >= 0.0):
                raise InputError(f'{field.name} of the deviation', got=str(value),
                                 expected='a finite number, not negative')

    @property
    def watched(self) -> bool:
        """Whether anything is limited."""
        return self.distance > 0.0 or self.angle > 0.0


@dataclass(frozen=True)
class Deviation:
    """The TCP is `distance` m and `angle` rad from the plan, `time` s into a motion."""

    distance: float = 0.0
    angle: float = 0.0
    time: float = 0.0

    def __str__(self) -> str:
        return (f'{1e3 * self.distance:.1f} mm and {np.rad2deg(self.angle):.1f} deg from the plan '
                f'{self.time:.2f} s into the motion')


class DeviationError(ExecutionError):
    """The robot was not where the plan had it; `deviation` says by how much."""

    def __init__(self, deviation: Deviation, limits: DeviationLimits) -> None:
        bounds = [f'{1e3 * limits.distance:.1f} mm'] if limits.distance > 0.0 else []
        bounds += [f'{np.rad2deg(limits.angle):.1f} deg'] if limits.angle > 0.0 else []
        super().__init__('the tool is not where it was imagined',
                         expected=f'within {" and ".join(bounds)}', got=str(deviation),
                         hint='Something holds or pushes the arm, or its controller lags.')
        self.deviation = deviation


class DeviationMonitor:
    """Watches one segment of a plan."""

    def __init__(self, times: Array, poses: Array, limits: DeviationLimits) -> None:
        """`poses` (n, 4, 4) of the TCP are planned at `times` (n,) s after the start of the
        segment; before and after them it stands at their ends."""
        if len(times) != len(poses) or len(times) == 0:
            raise InputError('planned path of the TCP', expected='a pose for each time',
                             got=f'{len(poses)} poses for {len(times)} times')
        self._times, self._poses, self._limits = times, poses, limits
        self.distance = 0.0  # greatest so far, m
        self.angle = 0.0  # greatest so far, rad

    def check(self, pose: Array, t: float) -> None:
        """Compare the measured pose (4, 4) at `t` s. Raises DeviationError."""
        now, limits = self.measure(pose, t), self._limits
        self.distance = max(self.distance, now.distance)
        self.angle = max(self.angle, now.angle)
        # Written such that NaN is a deviation.
        if ((limits.distance > 0.0 and not now.distance <= limits.distance)
                or (limits.angle > 0.0 and not now.angle <= limits.angle)):
            raise DeviationError(now, limits)

    def measure(self, pose: Array, t: float) -> Deviation:
        """Distance to the nearest pose that is planned within the lag around `t` s."""
        last = len(self._times) - 1
        begin = int(np.searchsorted(self._times, t - self._limits.lag, side='right')) - 1
        end = int(np.searchsorted(self._times, t + self._limits.lag, side='left'))
        planned = self._poses[min(max(begin, 0), last):min(end, last) + 1]
        gaps = np.linalg.norm(planned[:, :3, 3] - pose[:3, 3], axis=1)
        trace = np.einsum('nij,ij->n', planned[:, :3, :3], pose[:3, :3])
        angles = np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))
        i = int((gaps + METRES_PER_RADIAN * angles).argmin())
        return Deviation(float(gaps[i]), float(angles[i]), t)
