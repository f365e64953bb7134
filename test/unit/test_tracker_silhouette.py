# SPDX-License-Identifier: Apache-2.0
"""The gripper's path from masks alone, with calibrated cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, TrackingError
from fourdgen_ros.core.types import Future
from fourdgen_ros.tracker.gripper_model import load_gripper
from fourdgen_ros.tracker.silhouette import SilhouetteTracker

from .tracker_scene import CAMERAS, Clip, corrupted, random_clip

GRIPPER = load_gripper('panda_hand')
POSES = {f'cam{i}': pose for i, pose in enumerate(CAMERAS)}
TRACKER = SilhouetteTracker(GRIPPER, lambda: POSES)


def flat(future: Future, clip: Clip) -> Future:
    """The future without points, with the true opening, as an RGB-only generator tells it."""
    return replace(future, points=np.full_like(future.points, np.nan),
                   valid=np.zeros_like(future.valid), opening=clip.opening.astype(np.float32))


def errors(future: Future, clip: Clip) -> np.ndarray:
    """TCP mm and rotation deg of the frames after the first."""
    result = TRACKER.track(future, clip.poses[0], float(clip.opening[0]))
    return np.array([se3.distance(a, b) for a, b in zip(result.poses, clip.poses, strict=True)]
                    )[1:] * [1e3, np.rad2deg(1.0)]


@pytest.fixture(scope='module')
def clip() -> Clip:
    return random_clip(GRIPPER, 0)


@pytest.mark.parametrize('seed', [0, 1])
def test_clean_masks(seed: int) -> None:
    clip = random_clip(GRIPPER, seed)
    tcp, angle = np.median(errors(flat(clip.future, clip), clip), axis=0)
    assert tcp <= 8.0
    assert angle <= 5.0


def test_soft_masks_as_a_generator_draws_them(clip: Clip) -> None:
    soft = corrupted(clip, 7, iid=0.0, correlated=0.0, blur=1.2)
    tcp, angle = np.median(errors(flat(soft, clip), clip), axis=0)
    assert tcp <= 12.0
    assert angle <= 8.0


def test_points_are_not_looked_at(clip: Clip) -> None:
    first, second = (TRACKER.track(f, clip.poses[0], None).poses
                     for f in (replace(clip.future, opening=clip.opening.astype(np.float32)),
                               flat(clip.future, clip)))
    np.testing.assert_array_equal(first, second)


def test_a_gripper_out_of_sight_is_not_trusted(clip: Clip) -> None:
    mask = clip.future.gripper.copy()
    mask[:, 4:6] = 0.0
    result = TRACKER.track(flat(replace(clip.future, gripper=mask), clip), clip.poses[0], 0.08)
    assert (result.confidence[4:6] == 0.0).all()
    assert result.confidence[1:4].min() > 0.5


def test_what_is_missing_is_named(clip: Clip) -> None:
    mask = clip.future.gripper.copy()
    mask[:, 0] = 0.0
    with pytest.raises(TrackingError, match='cam0: 0, cam1: 0'):
        TRACKER.track(flat(replace(clip.future, gripper=mask), clip), clip.poses[0], 0.08)
    alone = SilhouetteTracker(GRIPPER, lambda: {'cam0': CAMERAS[0]})
    with pytest.raises(InputError, match=r"calibration.*'cam1'"):
        alone.track(flat(clip.future, clip), clip.poses[0], 0.08)
    with pytest.raises(InputError, match='rigid'):
        TRACKER.track(flat(clip.future, clip), np.ones((4, 4)), 0.08)
