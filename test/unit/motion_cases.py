# SPDX-License-Identifier: Apache-2.0
"""Random tabletop trajectories for the tests of motion."""

from __future__ import annotations

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.core.types import GripperTrajectory

DOWN = np.diag([1.0, -1.0, -1.0])
FRAMES, DT = 9, 0.4


def trajectory(poses, opening=0.08, confidence=0.8, stamp=0) -> GripperTrajectory:
    """Poses (n, 4, 4) as a trajectory in the base frame; scalars are spread over the frames."""
    n = len(poses)
    return GripperTrajectory(np.array(poses), np.broadcast_to(opening, n).astype(float),
                             np.broadcast_to(confidence, n).astype(float), DT * np.arange(n),
                             'panda_link0', stamp)


def line(start, *targets, frames=FRAMES):
    """Poses from `start` (4, 4) through targets at even times, straight and without noise."""
    keys = [start, *targets]
    u = np.linspace(0.0, len(keys) - 1.0, frames)
    index = np.minimum(u.astype(int), len(keys) - 2)
    return np.stack([se3.interpolate(keys[i], keys[i + 1], v - i)
                     for i, v in zip(index, u, strict=True)])


def moved(pose, x=0.0, y=0.0, z=0.0):
    """The pose shifted in the base frame."""
    out = pose.copy()
    out[:3, 3] += [x, y, z]
    return out


def random_target(rng, near, reach=0.2):
    """A pose above the table within `reach` (m) of `near`, tilted by up to about 30 degrees."""
    while True:
        position = rng.uniform([0.35, -0.25, 0.06], [0.6, 0.25, 0.4])
        if np.linalg.norm(position - near[:3, 3]) < reach:
            tilt = se3.exp_so3(rng.uniform(-0.5, 0.5, 3))
            return se3.make(DOWN @ tilt @ se3.exp_so3(np.array([0, 0, rng.uniform(-0.5, 0.5)])),
                            position)


def random_path(rng, start, noise=0.0, turn_noise=0.0):
    """(9, 4, 4) from `start` over two random targets; noise in m and rad on all but the first."""
    first = random_target(rng, start)
    poses = line(start, first, random_target(rng, first))
    for pose in poses[1:]:
        pose[:3, 3] += rng.normal(0.0, noise, 3)
        pose[:3, :3] = pose[:3, :3] @ se3.exp_so3(rng.normal(0.0, turn_noise, 3))
    return poses
