# SPDX-License-Identifier: Apache-2.0
"""From noisy tracked poses to a Cartesian path that a robot can follow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import PlanningError
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.motion.robot import FingerTip

Array = NDArray[np.float64]

# What counts as 1 m of path when the tool only turns: 0.2 m per rad, about the arm of the hand.
METRES_PER_RADIAN = 0.2
# A path leads away from the robot when it is farther off by this than it was: tracks are noisy.
LEADS_AWAY = 0.01  # m


def resolve_flips(poses: Array, reference: Array) -> tuple[Array, int]:
    """Choose T or T*Rz(180) for each of (n, 4, 4), whichever is nearer to the pose before it.

    A parallel gripper grasps equally well either way, and a tracker may take one for the other.
    The first pose is compared with `reference` (4, 4), where the robot is. Returns the poses and
    how many were turned.
    """
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    out, flips = [], 0
    for pose in poses:
        turned = pose @ half_turn
        if se3.distance(reference, turned)[1] < se3.distance(reference, pose)[1]:
            pose, flips = turned, flips + 1
        out.append(pose)
        reference = pose
    return np.stack(out), flips


def trusted_frames(confidence: Array, minimum: float, max_gap: int) -> Array:
    """Select the frames to follow from (n,) confidences in 0..1; returns their indices.

    Frame 0 counts always: the robot is there. A run of at most `max_gap` frames below `minimum`
    is left out and bridged; at a longer run, and at one that reaches the end, the path ends.
    """
    kept = [0]
    for frame in range(1, len(confidence)):
        if confidence[frame] >= minimum:
            if frame - kept[-1] - 1 > max_gap:
                break
            kept.append(frame)
    return np.array(kept)


def smooth(poses: Array, times: Array, confidence: Array, *, noise: tuple[float, float],
           acceleration: tuple[float, float]) -> Array:
    """Most probable path (n, 4, 4) for noisy poses; the first is exact and stays.

    Least squares of pose errors against accelerations (a Whittaker smoother with its natural
    scales): the error of a pose has the standard deviation `noise` (m, rad) / confidence, the
    acceleration between three poses `acceleration` (m/s^2, rad/s^2). Rotations are smoothed as
    quaternions of equal sign, right for turns well below 180 degrees between frames.
    """
    n = len(poses)
    if n < 3:
        return poses.copy()
    values = _to_vectors(poses)
    second = np.zeros((n - 2, n))
    for i in range(n - 2):
        before, after = times[i + 1] - times[i], times[i + 2] - times[i + 1]
        scale = 2.0 / (before + after)
        second[i, i:i + 3] = scale / before, -scale * (1 / before + 1 / after), scale / after
    out = values.copy()
    # A quaternion moves by half the angle, hence the factor 2.
    for columns, sigma, prior in ((slice(0, 3), noise[0], acceleration[0]),
                                  (slice(3, 7), noise[1] / 2.0, acceleration[1] / 2.0)):
        weight = (np.maximum(confidence, 1e-3) / sigma) ** 2
        penalty = second.T @ second / prior**2
        hessian = np.diag(weight) + penalty
        right = weight[1:, None] * values[1:, columns] - hessian[1:, :1] * values[:1, columns]
        out[1:, columns] = np.linalg.solve(hessian[1:, 1:], right)
    return _to_poses(out)


def densify(poses: Array, times: Array, step: float) -> tuple[Array, Array]:
    """Smooth interpolation with points at most `step` (m of path) apart.

    Monotone cubics (PCHIP) per coordinate: between two poses no coordinate leaves their range, so
    a descent that ends on the table does not swing below it. Returns the poses (m, 4, 4) and the
    index of each input pose among them.
    """
    values = _to_vectors(poses)
    counts = np.maximum(1, np.ceil(path_steps(poses) / step)).astype(int)
    knots = np.r_[0, np.cumsum(counts)]
    samples = np.interp(np.arange(knots[-1] + 1), knots, times)
    return _to_poses(PchipInterpolator(times, values)(samples)), knots


def without_passed(trajectory: GripperTrajectory, pose: Array,
                   opening_change: float) -> GripperTrajectory:
    """The trajectory from its frame nearest to `pose` (4, 4), where the robot is now, on.

    A path that leads away from the robot and comes back is still ahead. Only frames before the
    gripper's opening changes by half of `opening_change` (m) can have been passed: a grasp that is
    still to come is never skipped. Times start at 0 again. Raises PlanningError when nothing lies
    ahead.
    """
    same = np.abs(trajectory.opening - trajectory.opening[0]) < opening_change / 2.0
    passed = len(same) if same.all() else int(same.argmin())
    pairs = [se3.distance(pose, p) for p in trajectory.poses[:passed]]
    away = np.array([move + METRES_PER_RADIAN * turn for move, turn in pairs])
    leaves = np.flatnonzero(away > np.minimum.accumulate(away) + LEADS_AWAY)
    first = int(away[:leaves[0] if len(leaves) else None].argmin())
    if first == len(trajectory.poses) - 1:
        raise PlanningError('trajectory', expected='frames that the robot has not passed yet',
                            got='none', hint='Observe and generate again.')
    return replace(trajectory, poses=trajectory.poses[first:], opening=trajectory.opening[first:],
                   confidence=trajectory.confidence[first:],
                   times=trajectory.times[first:] - trajectory.times[first])


def path_steps(poses: Array) -> Array:
    """Length (n - 1,) of each step in m, turns counted with METRES_PER_RADIAN."""
    pairs = (se3.distance(a, b) for a, b in pairwise(poses))
    return np.array([move + METRES_PER_RADIAN * turn for move, turn in pairs])


def lift(poses: Array, tip: FingerTip, opening: float, table: float,
         clearance: float) -> tuple[Array, float]:
    """Raise (n, 4, 4) poses so that no finger is nearer than `clearance` (m) to the table.

    Fingers that already are nearer at the first pose (they may be holding something flat) may stay
    as low as they are. Returns the poses and the greatest lift in m.
    """
    lowest = tip.lowest(poses, opening)
    floor = min(table + clearance, float(lowest[0]))
    amount = np.maximum(0.0, floor - lowest)
    out = poses.copy()
    out[:, 2, 3] += amount
    return out, float(amount.max())


def _to_vectors(poses: Array) -> Array:
    """(n, 7): position and quaternion, signs such that neighbours are near."""
    out = np.stack([np.r_[T[:3, 3], se3.quaternion_from_matrix(T[:3, :3])] for T in poses])
    for i in range(1, len(out)):
        if out[i, 3:] @ out[i - 1, 3:] < 0:
            out[i, 3:] *= -1.0
    return out


def _to_poses(vectors: Array) -> Array:
    unit = vectors[:, 3:] / np.linalg.norm(vectors[:, 3:], axis=1, keepdims=True)
    return np.stack([se3.make(se3.matrix_from_quaternion(q), v[:3])
                     for v, q in zip(vectors, unit, strict=True)])
