# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, TrackingError
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.gripper_model import load_gripper

from .tracker_scene import DOWN, Clip, corrupted, motion, random_clip, render_clip

GRIPPER = load_gripper('panda_hand')
TRACKER = EmbeddedTracker(GRIPPER)


def follow(future: Future, clip: Clip) -> GripperTrajectory:
    return TRACKER.track(future, clip.poses[0], float(clip.opening[0]))


def errors(result: GripperTrajectory, clip: Clip) -> np.ndarray:
    """Per frame after the first: TCP mm, rotation deg, opening mm."""
    rows = [se3.distance(a, b) for a, b in zip(result.poses, clip.poses, strict=True)]
    opening = np.abs(result.opening - clip.opening)
    return np.column_stack([np.array(rows) * [1e3, np.rad2deg(1.0)], 1e3 * opening])[1:]


def cropped(clip: Clip, frames: int) -> Clip:
    f = clip.future
    short = replace(f, rgb=f.rgb[:, :frames], points=f.points[:, :frames],
                    valid=f.valid[:, :frames], gripper=f.gripper[:, :frames])
    return Clip(short, clip.poses[:frames], clip.opening[:frames], clip.T_ref_cam)


@pytest.fixture(scope='module')
def clip() -> Clip:
    return random_clip(GRIPPER, 0)


@pytest.fixture(scope='module')
def short(clip: Clip) -> Clip:
    return cropped(clip, 4)


@pytest.mark.parametrize('seed', [0, 1])
def test_clean_clip(seed):
    clip = random_clip(GRIPPER, seed)
    result = follow(clip.future, clip)
    tcp, angle, opening = np.median(errors(result, clip), axis=0)
    assert tcp <= 2.0
    assert angle <= 1.0
    assert opening <= 4.0
    assert result.confidence.min() > 0.8
    assert result.frame_id == 'ref'
    assert result.times == pytest.approx(np.arange(9) * 0.4)


@pytest.mark.parametrize(('settings', 'limits'), [
    pytest.param({'iid': 0.003, 'correlated': 0.003, 'blur': 0.7, 'outliers': 0.03},
                 (5.0, 3.0, 5.0), id='noisy'),
    pytest.param({'iid': 0.002, 'correlated': 0.007, 'blur': 1.2}, (6.0, 4.0, 6.0), id='blurred')])
def test_clip_as_a_generator_draws_it(clip, settings, limits):
    result = follow(corrupted(clip, 7, **settings), clip)
    assert (np.median(errors(result, clip), axis=0) <= limits).all()
    assert result.confidence.min() > 0.5


def test_fast_motion_is_followed():
    clip = random_clip(GRIPPER, 11, step=0.12, turn=np.deg2rad(15.0))
    steps = np.linalg.norm(np.diff(clip.poses[:, :3, 3], axis=0), axis=1)
    assert steps.max() > 0.09
    result = follow(corrupted(clip, 1, iid=0.003, correlated=0.003, blur=0.7), clip)
    tcp, angle, _ = errors(result, clip).max(0)
    assert tcp < 15.0
    assert angle < 10.0


def test_one_view_that_loses_the_gripper_is_made_up_for_by_the_other(clip):
    mask = clip.future.gripper.copy()
    mask[1, 3:] = 0.0
    result = follow(replace(clip.future, gripper=mask), clip)
    tcp, angle, _ = np.median(errors(result, clip), axis=0)
    assert tcp <= 5.0
    assert angle <= 3.0


def test_single_view_clip(clip):
    f = clip.future
    single = replace(f, rgb=f.rgb[:1], points=f.points[:1], valid=f.valid[:1],
                     gripper=f.gripper[:1], K=f.K[:1], cameras=f.cameras[:1],
                     frame_ids=f.frame_ids[:1])
    tcp, _, _ = np.median(errors(follow(single, clip), clip), axis=0)
    assert tcp <= 5.0


def test_confidence_drops_to_zero_where_the_gripper_is_gone_and_comes_back(clip):
    mask = clip.future.gripper.copy()
    mask[:, 4:6] = 0.0
    result = follow(replace(clip.future, gripper=mask), clip)
    assert (result.confidence[4:6] == 0.0).all()
    assert result.confidence[:4].min() > 0.8
    assert result.confidence[6:].min() > 0.8
    assert errors(result, clip)[6:, 0].max() < 10.0


def test_confidence_is_low_where_the_mask_shows_something_else(short):
    mask = short.future.gripper.copy()
    mask[:, 2:] = 0.0
    mask[:, 2:, 60:75, 40:60] = 1.0  # table and box
    mask[:, 3] = 1.0  # everything
    result = follow(replace(short.future, gripper=mask), short)
    assert result.confidence[2:].max() < 0.3
    assert result.confidence[:2].min() > 0.8


@pytest.mark.parametrize('seed', [11, 14])
def test_nothing_is_built_on_frames_in_which_the_gripper_was_not_found(seed):
    poses = motion(np.random.default_rng(seed), 6, 0.03, 0.05)
    clip = render_clip(GRIPPER, poses, np.full(6, 0.03), size=(96, 128))
    mask = clip.future.gripper.copy()
    for view in mask:
        for t in (2, 3):
            view[t] = gaussian_filter(maximum_filter(view[t], 9), 1.5)
    result = follow(replace(clip.future, gripper=mask), clip)
    assert (result.confidence[2:4] == 0.0).all()
    assert result.confidence[4:].min() > 0.8
    assert errors(result, clip)[3:, 0].max() < 5.0
    assert np.abs(result.opening - clip.opening).max() < 0.005


def test_half_a_turn_is_not_mistaken_for_none():
    # Hand and hand turned by 180 degrees look alike; only continuity tells them apart.
    angles = np.linspace(0.0, np.pi, 13)
    poses = np.stack([se3.make(DOWN @ se3.exp_so3(np.array([0.0, 0.0, a])),
                               np.array([0.5, 0.0, 0.25])) for a in angles])
    clip = render_clip(GRIPPER, poses, np.full(13, 0.06), size=(96, 128))
    assert errors(follow(clip.future, clip), clip)[:, 1].max() < 5.0


def test_wrong_depth_scale_is_calibrated_on_frame_zero(short):
    f = short.future
    points = f.points.copy()
    for i, scale in enumerate((1.03, 0.97)):
        centre = short.T_ref_cam[i][:3, 3].astype(np.float32)
        points[i] = centre + scale * (points[i] - centre)
    assert np.median(errors(follow(replace(f, points=points), short), short)[:, 0]) <= 4.0


def test_inaccurate_first_pose_does_not_derail_the_rest(short):
    offset = se3.exp(np.array([0.006, -0.006, 0.006, 0.04, -0.04, 0.04]))
    result = TRACKER.track(short.future, short.poses[0] @ offset, float(short.opening[0]))
    assert errors(result, short)[:, 0].max() <= 12.0


def test_opening_need_not_be_known(short):
    result = TRACKER.track(short.future, short.poses[0], None)
    assert np.abs(result.opening - short.opening).max() < 0.008


def test_same_clip_gives_the_same_result(short):
    first, second = follow(short.future, short), follow(short.future, short)
    assert (first.poses == second.poses).all()
    assert (first.opening == second.opening).all()


def test_no_gripper_in_frame_zero_names_views_and_counts(short):
    mask = short.future.gripper.copy()
    mask[:, 0] = 0.0
    mask[1, 0, 50, 60:65] = 1.0
    with pytest.raises(TrackingError, match='cam0: 0, cam1: 5'):
        follow(replace(short.future, gripper=mask), short)


def test_first_pose_elsewhere_is_refused(short):
    pose = short.poses[0].copy()
    pose[0, 3] += 0.3
    with pytest.raises(TrackingError, match='extrinsics'):
        TRACKER.track(short.future, pose, 0.08)


def test_first_pose_must_be_rigid(short):
    with pytest.raises(InputError, match='rigid'):
        TRACKER.track(short.future, 2.0 * np.eye(4), 0.08)
    with pytest.raises(InputError, match='rigid'):
        TRACKER.track(short.future, np.eye(3), 0.08)


@pytest.mark.parametrize('opening', [0.5, -0.05, float('nan')])
def test_opening_out_of_range_is_refused(short, opening):
    with pytest.raises(InputError, match='opening'):
        TRACKER.track(short.future, short.poses[0], opening)


def test_view_without_depth_is_named(short):
    valid = short.future.valid.copy()
    valid[1] = False
    with pytest.raises(TrackingError, match='cam1'):
        follow(replace(short.future, valid=valid), short)
