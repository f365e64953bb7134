# SPDX-License-Identifier: Apache-2.0
"""Where the gripper may be in the next frame, from its motion and from the shift of its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.clip import MIN_PIXELS
from fourdgen_ros.tracker.frames import FrameView
from fourdgen_ros.tracker.gripper_model import GripperModel

Array = NDArray[np.float64]


def continued(before: Array, last: Array) -> Array:
    """The pose (4, 4) after `last` if the motion from `before` to `last` goes on."""
    return se3.make(last[:3, :3] @ before[:3, :3].T @ last[:3, :3],
                    2.0 * last[:3, 3] - before[:3, 3])


def shift(before: list[FrameView], now: list[FrameView]) -> Array | None:
    """How far the gripper's pixels moved (3,) m between two frames, mean over views."""
    shifts, weights = [], []
    for a, b in zip(before, now, strict=True):
        if min(a.pixels, b.pixels) >= MIN_PIXELS:
            shifts.append(np.median(b.points, axis=0) - np.median(a.points, axis=0))
            weights.append(min(a.pixels, b.pixels))
    return np.average(shifts, axis=0, weights=weights) if shifts else None


def likely_poses(gripper: GripperModel, views: list[FrameView], last: Array, onward: Array,
                 moved_by: Array | None) -> Array:
    """Poses (4, 4, 4): motion continued (`onward`), pixels followed (`moved_by` (3,) m, if known),
    both, and the hand put onto its pixels."""
    middle = gripper.hand_points.mean(0)
    centred, turned = last.copy(), onward.copy()
    seen = np.median(np.concatenate([v.points for v in views]), axis=0)
    centred[:3, 3] = seen - last[:3, :3] @ middle
    moved = centred
    if moved_by is not None:
        moved = last.copy()
        moved[:3, 3] += moved_by
    turned[:3, 3] = moved[:3, 3]
    return np.stack([onward, moved, turned, centred])
