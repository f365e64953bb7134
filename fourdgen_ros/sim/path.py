# SPDX-License-Identifier: Apache-2.0
"""Timed Cartesian paths through waypoints, as the scripted expert follows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3

Array = NDArray[np.float64]
RAMP = 0.25  # s to reach the travel speed
TURN_SPEED = 1.2  # rad/s


def _always() -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Leg:
    """Move to T_base_tcp `pose` at `speed` (m/s) while the gripper goes to `opening` (m), then wait
    `hold` s. `blend`: round the corner into the next leg instead of stopping. The plan is worth
    nothing any more when `holds_true` says no while the leg runs."""

    pose: Array
    opening: float
    hold: float = 0.0
    speed: float = 0.28
    blend: bool = False
    holds_true: Callable[[], bool] = _always


class Path:
    """Position over time of a chain of legs from a start pose at rest.

    Each leg adds its displacement with its own smooth speed profile (ramp up, travel, ramp down);
    blended legs overlap by one ramp, so that the speed is kept through the corner.
    """

    def __init__(self, start: Array, legs: list[Leg]) -> None:
        self._start, self.legs = start, legs
        self._moves: list[tuple[float, float, Array, Array]] = []
        self._ends: list[float] = []
        t, pose = 0.0, start
        for leg in legs:
            shift = leg.pose[:3, 3] - pose[:3, 3]
            turn = se3.log_so3(leg.pose[:3, :3] @ pose[:3, :3].T)
            duration = max(_duration(float(np.linalg.norm(shift)), leg.speed),
                           _duration(float(np.linalg.norm(turn)), TURN_SPEED))
            self._moves.append((t, duration, shift, turn))
            t += duration + leg.hold
            if leg.blend and duration >= 2.0 * RAMP:
                t -= RAMP
            self._ends.append(t)
            pose = leg.pose
        self.duration = max((start + length + leg.hold for (start, length, _, _), leg
                             in zip(self._moves, legs, strict=True)), default=0.0)

    def leg(self, t: float) -> int:
        """Index of the leg that runs at time t s; the last one after the end, -1 without legs."""
        return min(int(np.searchsorted(self._ends, t, side='right')), len(self.legs) - 1)

    def pose(self, t: float) -> Array:
        """T_base_tcp (4, 4) at time t s."""
        position, rotation = self._start[:3, 3].copy(), self._start[:3, :3]
        for start, duration, shift, turn in self._moves:
            share = _progress(t - start, duration)
            position += share * shift
            rotation = se3.exp_so3(share * turn) @ rotation
        return se3.make(rotation, position)


def _duration(length: float, speed: float) -> float:
    if length < 1e-6:
        return 0.0
    if length >= speed * RAMP:
        return length / speed + RAMP
    return 2.0 * RAMP * np.sqrt(length / (speed * RAMP))


def _progress(t: float, duration: float) -> float:
    """Share 0..1 of a move; smooth speed ramps at both ends, constant speed between them."""
    if t >= duration:
        return 1.0
    if t <= 0.0:
        return 0.0
    ramp = min(RAMP, duration / 2.0)
    peak = 1.0 / (duration - ramp)

    def ramped(u: float) -> float:  # integral of the smoothstep 3u^2 - 2u^3
        return ramp * peak * (u**3 - 0.5 * u**4)

    if t < ramp:
        return ramped(t / ramp)
    if t > duration - ramp:
        return 1.0 - ramped((duration - t) / ramp)
    return ramped(1.0) + peak * (t - ramp)
