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


# (joints, poses as position and quaternion x y z w): a spatula is lifted with a hand that is tilted
# by 40 degrees, where joints 5 and 7 turn about nearly the same axis or joint 7 is at its limit.
CRAMPED = {
    'singular wrist': (
        [-0.7642, 0.3957, 0.7148, -2.1676, 1.3465, 3.4505, -0.6453],
        [[0.5968, -0.1703, 0.2100, 0.9331, -0.0956, 0.3427, 0.0531],
         [0.5965, -0.1556, 0.2119, 0.9634, 0.0410, 0.2643, 0.0165],
         [0.5973, -0.1622, 0.3045, -0.9613, -0.0421, -0.2719, 0.0156],
         [0.5995, -0.1620, 0.3640, -0.9554, -0.0320, -0.2932, 0.0124],
         [0.5849, -0.1203, 0.3455, -0.9724, -0.0443, -0.2291, 0.0050],
         [0.5672, -0.0406, 0.2788, 0.9896, 0.0969, 0.1051, 0.0156]]),
    'joint limit': (
        [-0.4985, 0.3830, 0.0170, -1.9538, -2.1003, 3.2467, 2.7768],
        [[0.6063, -0.2096, 0.2108, 0.9156, -0.1555, 0.3654, 0.0627],
         [0.6096, -0.2072, 0.2269, 0.9198, -0.0751, 0.3828, 0.0425],
         [0.6133, -0.2105, 0.3286, 0.9190, -0.0779, 0.3850, 0.0336],
         [0.6171, -0.1951, 0.3670, 0.9231, -0.0739, 0.3755, 0.0364],
         [0.6042, -0.1277, 0.3379, 0.9510, -0.0204, 0.3066, 0.0359],
         [0.5944, -0.0468, 0.2937, 0.9789, 0.0352, 0.1958, 0.0469]])}


def cramped(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Joints (7,) and poses (6, 4, 4) of one of `CRAMPED`."""
    joints, rows = (np.array(values) for values in CRAMPED[name])
    unit = rows[:, 3:] / np.linalg.norm(rows[:, 3:], axis=1, keepdims=True)
    return joints, np.stack([se3.make(se3.matrix_from_quaternion(q), p)
                             for p, q in zip(rows[:, :3], unit, strict=True)])
