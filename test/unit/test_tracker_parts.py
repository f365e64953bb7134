# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.calibration import common_scale, depth_scale
from fourdgen_ros.tracker.contour import outline
from fourdgen_ros.tracker.frames import FrameView, clip_cameras, frame_view
from fourdgen_ros.tracker.gripper_model import load_gripper
from fourdgen_ros.tracker.opening import filter_openings, measure_opening
from fourdgen_ros.tracker.registration import FINE, MIDDLE, refine
from fourdgen_ros.tracker.scoring import Scorer, mask_overlap
from fourdgen_ros.tracker.smoothing import smooth

from .tracker_scene import random_clip

GRIPPER = load_gripper('panda_hand')
CLIP = random_clip(GRIPPER, 5, frames=2)


def views(t: int) -> list[FrameView]:
    f = CLIP.future
    return [frame_view(c, f.points[i, t], f.valid[i, t], f.gripper[i, t])
            for i, c in enumerate(clip_cameras(f))]


VIEWS = views(1)
TRUTH, OPENING = CLIP.poses[1], float(CLIP.opening[1])
small = st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6).map(np.array)


@settings(max_examples=15, deadline=None)
@given(small)
def test_refining_finds_the_pose_from_nearby(twist):
    start = TRUTH @ se3.exp(twist * np.repeat([0.012, 0.06], 3))
    fit = refine(GRIPPER, OPENING, VIEWS, start, MIDDLE + FINE)
    distance, angle = se3.distance(fit.pose, TRUTH)
    assert distance < 0.004
    assert angle < 0.04
    assert fit.agreement > 0.7
    assert np.linalg.eigvalsh(fit.information).min() > 0


def test_score_agreement_and_overlap_fall_with_the_error():
    points, normals = GRIPPER.surface(OPENING)
    moves = [TRUTH @ se3.exp(np.array([0.0, y, 0.0, 0.0, 0.0, 0.0])) for y in (0.0, 0.02, 0.05)]
    scores = Scorer(points, normals, VIEWS)(np.stack(moves))
    overlaps = [mask_overlap(points, VIEWS[0], T) for T in moves]
    assert scores[0] > scores[1] > scores[2]
    assert overlaps[0] > 0.75
    assert overlaps[0] > overlaps[1] > overlaps[2]


@pytest.mark.parametrize('prior', [0.0, 0.04, 0.08])
def test_opening_does_not_depend_on_the_prior_where_fingers_are_seen(prior):
    assert measure_opening(GRIPPER, VIEWS, TRUTH, prior) == pytest.approx(OPENING, abs=0.006)


def test_openings_skip_frames_without_confidence_and_single_jumps():
    opening = np.array([0.08, 0.08, 0.01, 0.08, 0.0, 0.02, 0.02])
    confidence = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    out = filter_openings(opening, confidence)
    assert out[:4] == pytest.approx([0.08] * 4)
    assert out[-1] == pytest.approx(0.02)
    assert out[4] == pytest.approx(0.08)


@pytest.mark.parametrize('scale', [0.95, 0.98, 1.03])
def test_depth_scale_undoes_a_scale(scale):
    points, normals = GRIPPER.surface(float(CLIP.opening[0]))
    for view in views(0):
        found = depth_scale(points, normals, view.scaled(scale), CLIP.poses[0])
        assert found * scale == pytest.approx(1.0, abs=0.004)


def test_depth_scale_leaves_good_depth_alone():
    points, normals = GRIPPER.surface(float(CLIP.opening[0]))
    assert [depth_scale(points, normals, v, CLIP.poses[0]) for v in views(0)] == [1.0, 1.0]


@pytest.mark.filterwarnings('error')
def test_depth_scale_is_none_where_half_of_the_points_are_on_another_surface():
    assert common_scale(np.repeat([0.95, 1.08], 10)) == 1.0
    assert common_scale(np.repeat([0.95, 1.08], [11, 10])) == pytest.approx(0.95)
    assert common_scale(np.repeat(0.95, 11)) == 1.0  # too few


def disc(radius: float, blur: float) -> np.ndarray:
    """Mask (40, 50) of a disc around pixel (25, 20), area-sampled and blurred."""
    v, u = (np.mgrid[:400, :500] - 4.5) / 10.0
    fine = (np.hypot(u - 25.0, v - 20.0) < radius).astype(float)
    fine = ndimage.gaussian_filter(fine, 10.0 * blur)
    return fine.reshape(40, 10, 50, 10).mean((1, 3))


@pytest.mark.parametrize('blur', [0.0, 1.0])
def test_outline_of_a_disc_is_found_below_a_pixel(blur):
    found = outline(disc(8.0, blur))
    angle = np.linspace(0.0, 2.0 * np.pi, 40)
    for radius in (6.0, 8.0, 10.0):
        uv = np.column_stack([25.0 + radius * np.cos(angle), 20.0 + radius * np.sin(angle)])
        distance, gradient = found.observed(uv)
        assert distance == pytest.approx(radius - 8.0, abs=0.35)
        assert np.abs(distance.mean() - (radius - 8.0)) < (0.1 if radius == 8.0 else 0.25)
        outwards = np.column_stack([np.cos(angle), np.sin(angle)])
        assert np.sum(gradient * outwards, 1).min() > 0.7


@pytest.mark.parametrize('blur', [0.8, 1.2, 1.8])
def test_blur_of_a_mask_is_measured(blur):
    assert outline(disc(8.0, blur)).blur == pytest.approx(blur, rel=0.25)


def test_thin_parts_recede_alike_in_the_drawing():
    # A bar of 3 px, blurred: its tip recedes, and the model drawn as softly knows by how much.
    v, u = np.mgrid[:40, :60].astype(float)
    bar = ((np.abs(v - 20.0) <= 1.0) & (u >= 20) & (u <= 40)).astype(float)
    found = outline(ndimage.gaussian_filter(bar, 1.2))
    points = np.stack(np.meshgrid(np.arange(19.5, 40.6, 0.2), np.arange(18.5, 21.6, 0.2)), -1)
    drawn = found.drawn(points.reshape(-1, 2), 0.3)
    tip = np.array([[40.5, 20.0]])
    observed = found.observed(tip)[0][0]
    assert observed > 0.3
    assert drawn(tip)[0][0] == pytest.approx(observed, abs=0.35)


@pytest.mark.parametrize('value', [0.4, 0.9])
def test_mask_of_nothing_or_everything_has_no_outline(value):
    assert outline(np.full((20, 30), value)) is None


STEADY = np.stack([se3.make(se3.exp_so3(0.1 * t * np.array([0.3, -0.5, 0.8])),
                            np.array([0.05 * t, 0.02 * t, 0.8])) for t in range(7)])
INFORMATION = np.tile(np.diag(np.repeat([1e5, 2.5e3], 3)), (7, 1, 1))


def test_smoothing_keeps_a_steady_motion():
    out = smooth(STEADY, INFORMATION, position_sigma=0.02, rotation_sigma=0.1)
    assert out == pytest.approx(STEADY, abs=1e-6)


def test_smoothing_fills_a_gap_and_withstands_an_outlier():
    poses, information = STEADY.copy(), INFORMATION.copy()
    poses[2, :3, 3] += 0.3
    information[2] = 0.0
    poses[4, :3, 3] += [0.1, 0.0, 0.0]
    out = smooth(poses, information, position_sigma=0.01, rotation_sigma=0.1)
    assert np.linalg.norm(out[2, :3, 3] - STEADY[2, :3, 3]) < 0.02
    assert np.linalg.norm(out[4, :3, 3] - STEADY[4, :3, 3]) < 0.06


@settings(max_examples=20, deadline=None)
@given(small, st.integers(0, 100))
def test_smoothing_does_not_depend_on_the_frame(twist, seed):
    rng = np.random.default_rng(seed)
    noisy = np.stack([T @ se3.exp(rng.normal(size=6) * np.repeat([0.004, 0.02], 3))
                      for T in STEADY])
    G = se3.exp(twist * np.repeat([1.0, 2.0], 3))
    one = smooth(noisy, INFORMATION, position_sigma=0.02, rotation_sigma=0.1)
    two = smooth(G @ noisy, INFORMATION, position_sigma=0.02, rotation_sigma=0.1)
    assert two == pytest.approx(G @ one, abs=1e-5)
