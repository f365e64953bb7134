# SPDX-License-Identifier: Apache-2.0
"""From tracked poses to waypoints: flips, confidence, smoothing, interpolation, gripper events."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.motion import path, timing
from fourdgen_ros.motion.gripper import GripperEvent, find_events
from fourdgen_ros.motion.robot import FingerTip

from .motion_cases import DOWN, DT, line, moved, random_path

START = se3.make(DOWN, np.array([0.45, 0.0, 0.3]))
TIP = FingerTip(reach=0.0089, half_width=0.0105, thickness=0.0263)
LIMITS = (0.0, 0.08)
TIMES = DT * np.arange(9)


@given(st.lists(st.booleans(), min_size=9, max_size=9), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_half_turns_are_undone(turned, seed):
    poses = random_path(np.random.default_rng(seed), START, 0.005, 0.05)
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    tracked = np.stack([T @ half_turn if t else T for T, t in zip(poses, turned, strict=True)])
    resolved, count = path.resolve_flips(tracked, START)
    assert np.allclose(resolved, poses)
    assert count == sum(turned)


@pytest.mark.parametrize(('confidence', 'kept'), [
    ([.0, .9, .9, .9, .9], [0, 1, 2, 3, 4]),       # frame 0 is the robot itself
    ([.9, .9, .1, .1, .9], [0, 1, 4]),             # a short gap is bridged
    ([.9, .9, .1, .1, .1, .9], [0, 1]),            # a long one ends the path
    ([.9, .9, .9, .1, .1], [0, 1, 2]),             # and so does a lost end
    ([.9, .1, .1, .1, .1], [0]),
])
def test_trusted_frames(confidence, kept):
    assert path.trusted_frames(np.array(confidence), 0.2, 2).tolist() == kept


def test_smoothing_keeps_clean_paths_and_the_start():
    poses = line(START, moved(START, x=0.1, z=-0.2))
    out = path.smooth(poses, TIMES, np.full(9, 0.9), noise=(0.004, 0.03), acceleration=(0.2, 1.5))
    assert np.allclose(out, poses, atol=1e-9)


def test_smoothing_reduces_noise_and_doubts_what_is_doubtful():
    rng = np.random.default_rng(0)
    before, after, outlier = [], [], []
    for _ in range(50):
        clean = line(START, moved(START, x=0.1, z=-0.1))
        noisy = clean.copy()
        noisy[1:, :3, 3] += rng.normal(0.0, 0.007, (8, 3))
        noisy[4, :3, 3] += [0.0, 0.05, 0.0]
        confidence = np.full(9, 0.5)
        confidence[4] = 0.05
        out = path.smooth(noisy, TIMES, confidence, noise=(0.004, 0.03), acceleration=(0.2, 1.5))
        assert np.allclose(out[0], START)
        assert se3.is_rigid(out, 1e-9)
        good = [1, 2, 3, 5, 6, 7, 8]
        before.append(np.linalg.norm(noisy[good, :3, 3] - clean[good, :3, 3], axis=1).mean())
        after.append(np.linalg.norm(out[good, :3, 3] - clean[good, :3, 3], axis=1).mean())
        outlier.append(np.linalg.norm(out[4, :3, 3] - clean[4, :3, 3]))
    assert np.mean(after) < 0.9 * np.mean(before)
    assert np.median(outlier) < 0.012


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_densified_paths_pass_the_poses_and_stay_between_them(seed):
    poses = random_path(np.random.default_rng(seed), START, 0.007, 0.03)
    dense, knots = path.densify(poses, TIMES, 0.01)
    assert np.allclose(dense[knots], poses, atol=1e-9)
    for i, (a, b) in enumerate(itertools.pairwise(knots)):
        low = np.minimum(poses[i, :3, 3], poses[i + 1, :3, 3]) - 1e-9
        high = np.maximum(poses[i, :3, 3], poses[i + 1, :3, 3]) + 1e-9
        assert (dense[a:b, :3, 3] >= low).all()
        assert (dense[a:b, :3, 3] <= high).all()
    assert path.path_steps(dense).max() < 0.02


def test_lift_raises_only_what_is_too_low():
    poses = line(START, moved(START, z=-0.295))
    out, amount = path.lift(poses, TIP, 0.08, 0.0, 0.002)
    assert amount == pytest.approx(0.002 + 0.0089 - 0.005)
    assert TIP.lowest(out, 0.08).min() == pytest.approx(0.002)
    assert np.array_equal(out[:-1], poses[:-1])


def test_lift_lets_fingers_that_touch_stay():
    low = moved(START, z=-0.2915)
    out, amount = path.lift(line(low, moved(low, x=0.1)), TIP, 0.08, 0.0, 0.002)
    assert amount == 0.0
    assert out[0, 2, 3] == pytest.approx(0.0085)


@pytest.mark.parametrize(('opening', 'now', 'events'), [
    ([80, 80, 79, 50, 50, 51, 50, 50, 50], 80, [(3, True)]),
    ([80, 80, 72, 65, 55, 50, 50, 50, 50], 80, [(3, True)]),
    ([50, 51, 50, 49, 50, 80, 80, 80, 80], 50, [(5, False)]),
    ([80, 80, 14, 14, 14, 14, 80, 80, 80], 80, [(2, True), (6, False)]),
    ([80, 76, 82, 78, 75, 81, 77, 80, 78], 80, []),            # noise
    ([80, 80, 80, 40, 80, 80, 80, 80, 80], 80, []),            # one bad frame
    ([62, 62, 61, 62, 79, 80, 80, 80, 80], 80, []),            # is open already
    ([20, 20, 2, 1, 0, 0, 0, 0, 0], 0, []),                    # is closed already
    ([80, 80, 80, 80, 80, 80, 80, 80, 50], 80, [(8, True)]),
])
def test_gripper_events(opening, now, events):
    found = find_events(np.array(opening) * 1e-3, now * 1e-3, LIMITS)
    assert found == [GripperEvent(*e) for e in events]


@given(st.lists(st.floats(-0.0049, 0.0049), min_size=9, max_size=9))
@settings(max_examples=50, deadline=None)
def test_tracking_noise_makes_no_events(noise):
    assert find_events(0.05 + np.array(noise), 0.05, LIMITS) == []


@given(st.integers(0, 2**31), st.floats(1.0, 20.0))
@settings(max_examples=30, deadline=None)
def test_jerk_limit_holds_and_the_ends_stay(seed, amplitude):
    rng = np.random.default_rng(seed)
    # Piecewise constant acceleration: the worst that a time-optimal law hands over.
    acceleration = np.repeat(rng.uniform(-amplitude, amplitude, (6, 2)), 30, axis=0)
    velocity = np.cumsum(acceleration, axis=0) * 0.01
    velocity -= np.linspace(0, 1, len(velocity))[:, None] * velocity[-1]
    q = np.cumsum(velocity, axis=0) * 0.01
    jerk = np.array([50.0, 80.0])
    out = timing.limit_jerk(q, 0.01, jerk)
    assert np.allclose(out[[0, -1]], q[[0, -1]])
    padded = np.concatenate([out[:1]] * 3 + [out] + [out[-1:]] * 3)
    assert (np.abs(np.diff(padded, 3, axis=0) / 0.01**3) <= jerk * (1 + 1e-6)).all()


def test_stretch_keeps_the_path():
    q = np.sin(np.linspace(0.0, 1.0, 201))[:, None]
    out = timing.stretch(q, 0.005, 2.0, 0.01)
    assert len(out) == 201
    assert np.allclose(out, q, atol=1e-6)
