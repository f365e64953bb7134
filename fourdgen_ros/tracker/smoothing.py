# SPDX-License-Identifier: Apache-2.0
"""Smoothing of a whole clip on SE(3): measured poses against constant velocity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3

Array = NDArray[np.float64]

ITERATIONS = 6
OUTLIER = 3.0


def smooth(poses: Array, information: Array, *, position_sigma: float,
           rotation_sigma: float) -> Array:
    """Most likely poses (T, 4, 4) given measurements and nearly constant velocity.

    information (T, 6, 6) belongs to twists in the TCP frame (translation first; zero where nothing
    was measured); position_sigma (m) and rotation_sigma (rad) say how much the motion from one
    frame to the next may differ from the one before. Measurements that disagree by more than three
    standard deviations lose weight (Huber).
    """
    count = len(poses)
    if count < 3:
        return poses.copy()
    out = poses.copy()
    prior = np.repeat([position_sigma**-2, rotation_sigma**-2], 3)
    for _ in range(ITERATIONS):
        A, b = np.zeros((6 * count, 6 * count)), np.zeros(6 * count)
        for t in range(count):
            error = se3.log(se3.inverse(poses[t]) @ out[t])
            size = float(np.sqrt(max(error @ information[t] @ error, 0.0)))
            weight = min(1.0, OUTLIER / max(size, 1e-9))
            s = slice(6 * t, 6 * t + 6)
            A[s, s] += weight * information[t]
            b[s] -= weight * information[t] @ error
        for t in range(1, count - 1):
            before, now, after = out[t - 1:t + 2]
            residual = np.concatenate([
                after[:3, 3] - 2.0 * now[:3, 3] + before[:3, 3],
                se3.log_so3(now[:3, :3].T @ after[:3, :3])
                - se3.log_so3(before[:3, :3].T @ now[:3, :3])])
            J = np.zeros((6, 18))
            for k, (T, factor) in enumerate(((before, 1.0), (now, -2.0), (after, 1.0))):
                J[:3, 6 * k:6 * k + 3] = factor * T[:3, :3]
                J[3:, 6 * k + 3:6 * k + 6] = factor * np.eye(3)
            s = slice(6 * (t - 1), 6 * (t + 2))
            A[s, s] += J.T @ (prior[:, None] * J)
            b[s] -= J.T @ (prior * residual)
        step = np.linalg.solve(A + 1e-6 * np.eye(6 * count), b).reshape(count, 6)
        out = np.stack([T @ se3.exp(d) for T, d in zip(out, step, strict=True)])
        if np.abs(step).max() < 1e-5:
            break
    return out
