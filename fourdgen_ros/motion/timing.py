# SPDX-License-Identifier: Apache-2.0
"""Time laws on sampled joint paths: stretching, jerk limit, derivatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Array = NDArray[np.float64]


def derivatives(positions: Array, dt: float) -> tuple[Array, Array, Array]:
    """Differentiate positions (n, J) that start and end at rest, every dt s.

    Returns velocity (n, J), acceleration (n, J) and jerk (n + 1, J): differences on the grid, so
    that they agree with what is executed.
    """
    padded = np.concatenate([positions[:1], positions[:1], positions, positions[-1:],
                             positions[-1:]])
    velocity = (padded[3:-1] - padded[1:-3]) / (2.0 * dt)
    acceleration: Array = np.diff(padded, 2, axis=0) / dt**2
    jerk = np.diff(acceleration, axis=0) / dt
    velocity[[0, -1]] = 0.0
    return velocity, acceleration[1:-1], jerk


def stretch(positions: Array, dt: float, factor: float, dt_out: float) -> Array:
    """Slow a path (n, J) down by `factor`, resampled from step dt to dt_out (s)."""
    duration = (len(positions) - 1) * dt * factor
    n = max(2, round(duration / dt_out))
    spline = CubicSpline(np.linspace(0.0, 1.0, len(positions)), positions)
    return spline(np.linspace(0.0, 1.0, n + 1))


def limit_jerk(positions: Array, dt: float, jerk: Array) -> Array:
    """Average positions (n, J) over time such that jerk stays within `jerk` (J,) rad/s^3.

    An average over the time W turns a step in acceleration of at most 2 a into a ramp, so the jerk
    is at most 2 a / W; velocity and acceleration can only fall, the motion grows longer by W. The
    path is cut short at corners by an amount that later checks measure.
    """
    _, acceleration, _ = derivatives(positions, dt)
    window = float((2.0 * np.abs(acceleration).max(axis=0) / jerk).max())
    taps = max(1, int(np.ceil(window / dt)))
    padded = np.concatenate([np.repeat(positions[:1], taps - 1, axis=0), positions,
                             np.repeat(positions[-1:], taps - 1, axis=0)])
    total = np.cumsum(np.concatenate([np.zeros((1, positions.shape[1])), padded]), axis=0)
    return (total[taps:] - total[:-taps]) / taps


def slow_down(positions: Array, dt: float, *, velocity: Array, acceleration: Array,
              jerk: Array) -> float:
    """Return by how much (>= 1) a motion must be stretched to keep all three limits (J,)."""
    v, a, j = derivatives(positions, dt)
    return max(1.0, float((np.abs(v) / velocity).max()),
               float((np.abs(a) / acceleration).max()) ** 0.5,
               float((np.abs(j) / jerk).max()) ** (1.0 / 3.0))
