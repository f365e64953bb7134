# SPDX-License-Identifier: Apache-2.0
"""What surrounds an estimator of single images: checks, our own score, fusion, loss and return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, TrackingError
from fourdgen_ros.tracker.by_estimator import EstimatorTracker, object_image
from fourdgen_ros.tracker.clip import TrackerSettings, prepare_clip
from fourdgen_ros.tracker.estimator import ObjectImage, checked_mesh, gripper_object
from fourdgen_ros.tracker.fusion import FusionSettings, is_jump, judge, mean_pose
from fourdgen_ros.tracker.gripper_model import load_gripper

from .tracker_scene import Clip, random_clip

GRIPPER = load_gripper('panda_hand')
OBJECT = gripper_object(GRIPPER, 0.04)
OK = FusionSettings()
TWISTS = st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6).map(np.array)


def image(height: int = 48, width: int = 64, **values) -> ObjectImage:
    K = np.array([[60.0, 0, width / 2], [0, 60.0, height / 2], [0, 0, 1]])
    shape = (height, width)
    return ObjectImage(**{'camera': 'left', 'rgb': np.zeros((*shape, 3), np.uint8),
                          'depth': np.ones(shape, np.float32), 'K': K,
                          'mask': np.ones(shape, bool), **values})


# --- what an estimator is given -------------------------------------------------------------------

@pytest.mark.parametrize(('values', 'text'), [
    ({'rgb': np.zeros((48, 64, 3), np.float32)}, 'rgb of camera'),
    ({'rgb': np.zeros((48, 64, 4), np.uint8)}, 'rgb of camera'),
    ({'depth': np.ones((48, 64))}, 'depth of camera'),
    ({'depth': np.full((48, 64), 850.0, np.float32)}, 'millimetres'),
    ({'depth': np.full((48, 64), np.nan, np.float32)}, 'negative or not finite'),
    ({'depth': np.full((48, 64), -1.0, np.float32)}, 'negative or not finite'),
    ({'mask': np.ones((48, 64), np.uint8)}, 'mask of camera'),
    ({'mask': np.ones((24, 32), bool)}, 'mask of camera'),
    ({'K': np.diag([600.0, 600.0, 1.0])[:, [1, 0, 2]]}, 'K of camera'),
    ({'K': np.array([[60.0, 0, 320], [0, 60, 240], [0, 0, 1]])}, 'scaled with every resize'),
    ({'K': np.eye(4)}, 'K of camera')])
def test_images_of_wrong_type_unit_or_camera_are_refused(values, text) -> None:
    with pytest.raises(InputError, match=text):
        image(**values)


@given(u=st.floats(0, 63), v=st.floats(0, 47), z=st.floats(0.3, 2.0), factor=st.integers(1, 4))
def test_enlarging_keeps_rays_and_pixels(u, v, z, factor) -> None:
    small = image(depth=np.arange(48 * 64, dtype=np.float32).reshape(48, 64) / 1e4)
    large = small.enlarged(factor)
    point = z * np.linalg.inv(small.K) @ [u, v, 1.0]
    at = large.K @ point / z
    # A pixel's centre lies in the middle of the pixels that came of it.
    np.testing.assert_allclose(at[:2], np.array([u, v]) * factor + (factor - 1) / 2, atol=1e-9)
    col, row = np.rint(at[:2]).astype(int)
    col, row = min(col, 64 * factor - 1), min(row, 48 * factor - 1)
    assert large.depth[row, col] == small.depth[row // factor, col // factor]
    assert large.valid == factor**2 * small.valid


def test_the_object_is_the_gripper_about_the_middle_of_its_box() -> None:
    np.testing.assert_allclose(OBJECT.mesh.bounds.sum(0), 0.0, atol=1e-6)
    back = se3.apply(OBJECT.T_tcp_object, OBJECT.mesh.vertices)
    np.testing.assert_allclose(back, GRIPPER.mesh(0.04).vertices, atol=1e-9)
    # The same turn, told in either frame.
    np.testing.assert_allclose(OBJECT.T_tcp_object @ OBJECT.symmetries,
                               GRIPPER.symmetries @ OBJECT.T_tcp_object, atol=1e-12)


def test_meshes_in_millimetres_and_impossible_openings_are_refused() -> None:
    with pytest.raises(InputError, match=r'scaled by 0\.001'):
        checked_mesh(trimesh.creation.box((60.0, 200.0, 140.0)), 'mesh')
    with pytest.raises(InputError, match='opening of the mesh'):
        gripper_object(GRIPPER, 0.2)


# --- judging and fusing ---------------------------------------------------------------------------

@given(a=TWISTS, b=TWISTS)
def test_mean_of_two_poses(a, b) -> None:
    A, B = se3.exp(a), se3.exp(b)
    equal = mean_pose([A, B], [np.eye(6), np.eye(6)])
    half = se3.log(se3.inverse(A) @ B) / 2
    np.testing.assert_allclose(equal, A @ se3.exp(half), atol=1e-4)
    # What only one knows comes from that one.
    sure, unsure = np.diag([1e6, 1e6, 1e6, 1e6, 1e6, 1e6]), 1e-3 * np.eye(6)
    np.testing.assert_allclose(mean_pose([A, B], [sure, unsure]), A, atol=1e-4)


def test_each_view_decides_what_it_knows_best() -> None:
    A, B = np.eye(4), se3.make(translation=np.array([0.01, 0.01, 0.0]))
    x_is_known, y_is_known = np.diag([1e6, 1, 1e6, 1e6, 1e6, 1e6]), np.diag([1, 1e6] + [1e6] * 4)
    mean = mean_pose([A, B], [x_is_known, y_is_known])
    np.testing.assert_allclose(mean[:3, 3], [0.0, 0.01, 0.0], atol=1e-5)


def test_jumps_depend_on_the_time_that_has_passed() -> None:
    moved = se3.make(translation=np.array([0.3, 0.0, 0.0]))
    assert is_jump(OK, np.eye(4), moved, 0.4)
    assert not is_jump(OK, np.eye(4), moved, 0.8)
    turned = se3.exp(np.array([0, 0, 0, 0, 0, 1.2]))
    assert is_jump(OK, np.eye(4), turned, 0.4)
    assert not is_jump(OK, np.eye(4), turned, 0.8)


@pytest.fixture(scope='module')
def clip() -> Clip:
    """A clip whose images tell in their first pixel which they are."""
    clip = random_clip(GRIPPER, 0, frames=7)
    rgb = clip.future.rgb.copy()
    for i, view in enumerate(rgb):
        for t, frame in enumerate(view):
            frame[0, 0] = [i, t, 0]
    return replace(clip, future=replace(clip.future, rgb=rgb))


def prepared(clip: Clip):
    return prepare_clip(GRIPPER, TrackerSettings(), clip.future, clip.poses[0],
                        float(clip.opening[0]))


def test_our_score_tells_right_poses_from_wrong_ones(clip) -> None:
    frames = prepared(clip).frames
    for t in (0, 3):
        scores = [judge(GRIPPER, float(clip.opening[t]), frames[t], clip.poses[t] @ se3.exp(
            np.array(offset)))[1] for offset in (
            [0.0] * 6, [0.002, 0, 0, 0.01, 0, 0], [0.03, 0.03, 0, 0, 0, 0], [0, 0, 0, 0.8, 0, 0],
            [0.2, 0, 0, 0, 0, 0])]
        assert scores[0] > 0.8
        assert scores[1] > 0.7
        assert max(scores[2:]) < 0.5
        assert scores[4] == 0.0


def test_an_estimator_is_given_each_view_in_its_own_frame(clip) -> None:
    """The surface of the gripper lies where its depth says, seen by that very camera."""
    frames = prepared(clip).frames
    for i in (0, 1):
        seen = object_image(clip.future, frames[2][i], i, 2)
        rows, cols = np.nonzero(seen.mask & (seen.depth > 0))
        rays = np.stack([cols, rows, np.ones(len(rows))], axis=1) @ np.linalg.inv(seen.K).T
        points = rays * seen.depth[rows, cols, None]
        T_cam_tcp = se3.inverse(clip.T_ref_cam[i]) @ clip.poses[2]
        surface = se3.apply(T_cam_tcp, GRIPPER.cover(float(clip.opening[2])))  # 3 mm apart
        distance, _ = cKDTree(surface).query(points)
        assert np.median(distance) < 0.003


# --- the loop -------------------------------------------------------------------------------------

Change = Callable[[np.ndarray], 'np.ndarray | None']


class NoisyTruth:
    """An estimator that knows the truth, seen through seeded noise and ordered failures.

    `failures` maps (call, view, frame) to what becomes of the answer.
    """

    def __init__(self, clip: Clip, failures: dict[tuple[str, int, int], Change] | None = None,
                 noise: tuple[float, float] = (0.002, 0.01)) -> None:
        self._clip, self._failures, self._noise = clip, failures or {}, noise
        self._rng = np.random.default_rng(0)
        self.calls: list[tuple[str, int, int]] = []
        self.starts: dict[tuple[int, int], np.ndarray] = {}

    def register(self, image: ObjectImage) -> np.ndarray | None:
        return self._answer('register', image)

    def track(self, image: ObjectImage, start: np.ndarray) -> np.ndarray | None:
        self.starts[int(image.rgb[0, 0, 0]), int(image.rgb[0, 0, 1])] = start
        return self._answer('track', image)

    def close(self) -> None:
        self.calls.append(('close', 0, 0))

    def true(self, view: int, frame: int) -> np.ndarray:
        T_ref_cam = self._clip.T_ref_cam[view]
        return se3.inverse(T_ref_cam) @ self._clip.poses[frame] @ OBJECT.T_tcp_object

    def _answer(self, call: str, image: ObjectImage) -> np.ndarray | None:
        view, frame = int(image.rgb[0, 0, 0]), int(image.rgb[0, 0, 1])
        self.calls.append((call, view, frame))
        noise = self._rng.normal(size=6) * np.repeat(self._noise, 3)
        pose = self.true(view, frame) @ se3.exp(noise)
        change = self._failures.get((call, view, frame))
        return pose if change is None else change(pose)


def gone(pose: np.ndarray) -> None:
    """Not found."""


def elsewhere(pose: np.ndarray) -> np.ndarray:
    """A jump."""
    return se3.make(translation=np.array([0.5, 0.0, 0.0])) @ pose


def drifted(pose: np.ndarray) -> np.ndarray:
    """Wrong, but as near as motion could be."""
    return se3.make(translation=np.array([0.05, 0.04, 0.0])) @ pose


def flipped(pose: np.ndarray) -> np.ndarray:
    """The same hand, half a turn about its approach further."""
    return pose @ se3.inverse(OBJECT.T_tcp_object) @ GRIPPER.symmetries[1] @ OBJECT.T_tcp_object


def refuses(pose: np.ndarray) -> None:
    raise TrackingError('the worker is gone')


def in_all(call: str, frames: list[int], change: Change) -> dict:
    return {(call, view, frame): change for view in (0, 1) for frame in frames}


def follow(clip: Clip, estimator: NoisyTruth, **settings):
    tracker = EstimatorTracker(GRIPPER, OBJECT, estimator, fusion=FusionSettings(**settings))
    return tracker.track(clip.future, clip.poses[0], float(clip.opening[0]))


def errors(result, clip: Clip) -> np.ndarray:
    """Per frame: TCP mm and rotation deg."""
    rows = [se3.distance(a, b) for a, b in zip(result.poses, clip.poses, strict=True)]
    return np.array(rows) * [1e3, np.rad2deg(1.0)]


def test_a_clip_is_followed_in_both_views_and_told_as_the_embedded_tracker_tells_it(clip) -> None:
    estimator = NoisyTruth(clip)
    result = follow(clip, estimator)
    assert errors(result, clip)[:, 0].max() < 5.0
    assert errors(result, clip)[:, 1].max() < 2.5
    assert result.confidence.min() > 0.7
    assert np.abs(result.opening - clip.opening).max() < 0.008
    assert (result.frame_id, result.stamp) == (clip.future.frame_id, clip.future.stamp)
    assert result.times == pytest.approx(0.4 * np.arange(7))
    assert estimator.calls == [('track', i, t) for t in range(7) for i in (0, 1)]
    # Frame 0 starts from the kinematics, in each camera's own frame.
    for i in (0, 1):
        np.testing.assert_allclose(estimator.starts[i, 0], estimator.true(i, 0), atol=2e-3)
        for t in range(1, 7):  # 10 cm of motion a frame are foreseen to a few cm
            distance, angle = se3.distance(estimator.starts[i, t], estimator.true(i, t))
            assert distance < 0.05
            assert angle < 0.4


def test_the_mean_of_two_views_is_better_than_one(clip) -> None:
    noise = (0.004, 0.02)
    f = clip.future
    one = replace(f, rgb=f.rgb[:1], points=f.points[:1], valid=f.valid[:1], gripper=f.gripper[:1],
                  K=f.K[:1], cameras=f.cameras[:1], frame_ids=f.frame_ids[:1])
    both = errors(follow(clip, NoisyTruth(clip, noise=noise)), clip)
    single = errors(follow(replace(clip, future=one), NoisyTruth(clip, noise=noise)), clip)
    assert both.mean(0)[0] < single.mean(0)[0]


@pytest.mark.parametrize('change', [gone, elsewhere, drifted], ids=lambda f: f.__name__)
def test_a_view_that_loses_the_gripper_is_made_up_for_by_the_other(clip, change) -> None:
    estimator = NoisyTruth(clip, {('track', 1, t): change for t in (2, 3, 4)})
    result = follow(clip, estimator)
    assert errors(result, clip)[:, 0].max() < 8.0
    assert result.confidence.min() > 0.7
    assert not [call for call in estimator.calls if call[0] == 'register']
    # Afterwards it starts where the other has seen it.
    assert se3.distance(estimator.starts[1, 5], estimator.true(1, 5))[0] < 0.05


def test_a_view_without_the_gripper_is_not_asked(clip) -> None:
    mask = clip.future.gripper.copy()
    mask[1, 3:] = 0.0
    estimator = NoisyTruth(clip)
    result = follow(replace(clip, future=replace(clip.future, gripper=mask)), estimator)
    assert not [call for call in estimator.calls if call[1] == 1 and call[2] >= 3]
    assert errors(result, clip)[:, 0].max() < 8.0


@pytest.mark.parametrize(('change', 'settings'), [
    pytest.param(gone, {}, id='gone'),
    pytest.param(elsewhere, {'least_confidence': 0.0}, id='jump'),  # by the jump test alone
    pytest.param(drifted, {'speed': 10.0}, id='drift')])  # by our score alone
def test_a_lost_gripper_is_found_again_by_its_mask(clip, change, settings) -> None:
    estimator = NoisyTruth(clip, in_all('track', [3], change))
    result = follow(clip, estimator, **settings)
    assert [call for call in estimator.calls if call[0] == 'register'] == [
        ('register', 0, 3), ('register', 1, 3)]
    assert errors(result, clip)[:, 0].max() < 6.0
    assert result.confidence.min() > 0.7


def test_a_frame_in_which_nothing_is_found_has_no_confidence_and_is_bridged(clip) -> None:
    failures = in_all('track', [3, 4], elsewhere) | in_all('register', [3, 4], elsewhere)
    result = follow(clip, NoisyTruth(clip, failures))
    assert (result.confidence[[3, 4]] == 0.0).all()
    assert result.confidence[[0, 1, 2, 5, 6]].min() > 0.7
    assert errors(result, clip)[[0, 1, 2, 5, 6], 0].max() < 8.0
    assert errors(result, clip)[:, 0].max() < 120.0  # guessed, and it says so


def test_half_turns_of_an_estimator_do_not_turn_the_track(clip) -> None:
    estimator = NoisyTruth(clip, {('track', 0, 1): flipped} | in_all('track', [2, 5], flipped))
    result = follow(clip, estimator)
    assert errors(result, clip)[:, 1].max() < 2.5
    assert result.confidence.min() > 0.7
    assert not [call for call in estimator.calls if call[0] == 'register']


def test_frame_zero_is_the_kinematics_where_the_estimator_says_nothing(clip) -> None:
    result = follow(clip, NoisyTruth(clip, in_all('track', [0], gone)))
    assert errors(result, clip)[0, 0] < 2.0
    assert result.confidence[0] > 0.8


def test_an_estimator_that_does_not_answer_ends_the_clip_and_not_the_tracker(clip) -> None:
    failures = in_all('track', [2], refuses)
    estimator = NoisyTruth(clip, failures)
    tracker = EstimatorTracker(GRIPPER, OBJECT, estimator)
    arguments = (clip.future, clip.poses[0], float(clip.opening[0]))
    with pytest.raises(TrackingError, match='the worker is gone'):
        tracker.track(*arguments)
    failures.clear()
    after = tracker.track(*arguments)
    assert errors(after, clip)[:, 0].max() < 5.0
    tracker.close()
    assert estimator.calls[-1][0] == 'close'


def test_the_generators_own_opening_is_believed(clip) -> None:
    told = np.linspace(0.07, 0.01, 7).astype(np.float32)
    result = follow(replace(clip, future=replace(clip.future, opening=told)), NoisyTruth(clip))
    assert result.opening[1:-1] == pytest.approx(told[1:-1], abs=1e-3)


def test_arguments_are_checked_as_by_the_embedded_tracker(clip) -> None:
    tracker = EstimatorTracker(GRIPPER, OBJECT, NoisyTruth(clip))
    with pytest.raises(InputError, match='first pose'):
        tracker.track(clip.future, np.zeros((4, 4)), 0.05)
    with pytest.raises(InputError, match='first opening'):
        tracker.track(clip.future, clip.poses[0], 0.3)
    with pytest.raises(TrackingError, match='Check the extrinsics'):
        tracker.track(clip.future, se3.make(translation=np.array([0.3, 0, 0])) @ clip.poses[0],
                      0.05)
