# SPDX-License-Identifier: Apache-2.0
"""What each fault of a camera changes and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.sensor_faults import UNITS, VIEW_FAULTS, Fault, hand_eye_error
from fourdgen_ros.core.types import RgbdView

K = np.array([[500.0, 0.0, 63.5], [0.0, 500.0, 47.5], [0.0, 0.0, 1.0]])
seeds = st.integers(0, 2**32 - 1)


def _view(seed: int, height: int = 24, width: int = 32) -> RgbdView:
    """Random colours, and depth with steps and holes."""
    rng = np.random.default_rng(seed)
    depth = rng.choice([0.5, 0.9, 1.4], (height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
    depth[rng.random(depth.shape) < 0.05] = np.nan
    return RgbdView(rng.integers(0, 256, (height, width, 3), np.uint8),
                    depth.astype(np.float32), K, 7, 'cam_left', 'frame')


def _plane(z: float, size: tuple[int, int] = (96, 128)) -> RgbdView:
    return RgbdView(np.full((*size, 3), 100, np.uint8), np.full(size, z, np.float32), K, 0, 'a')


@pytest.mark.parametrize('name', VIEW_FAULTS)
@given(seed=seeds, strength=st.floats(0.0, 30.0))
def test_every_fault_keeps_what_a_view_is(name: str, seed: int, strength: float) -> None:
    view = _view(seed)
    rgb, depth = view.rgb.copy(), view.depth.copy()
    seen, again = (VIEW_FAULTS[name](view, strength, np.random.default_rng(seed))
                   for _ in range(2))
    assert (seen.stamp, seen.camera, seen.frame_id) == (7, 'cam_left', 'frame')
    assert seen.size == view.size  # RgbdView checks the rest
    assert np.isnan(seen.depth[np.isnan(view.depth)]).all()
    assert (seen.depth[np.isfinite(seen.depth)] > 0).all()
    np.testing.assert_array_equal(seen.depth, again.depth)
    np.testing.assert_array_equal(seen.rgb, again.rgb)
    np.testing.assert_array_equal(view.rgb, rgb)
    np.testing.assert_array_equal(view.depth, depth)
    if name == 'exposure':
        np.testing.assert_array_equal(seen.depth, depth)
    else:
        np.testing.assert_array_equal(seen.rgb, rgb)


@pytest.mark.parametrize('name', VIEW_FAULTS)
@given(seed=seeds)
def test_no_strength_changes_nothing(name: str, seed: int) -> None:
    view = _view(seed)
    seen = VIEW_FAULTS[name](view, 0.0, np.random.default_rng(seed))
    np.testing.assert_array_equal(seen.rgb, view.rgb)
    np.testing.assert_array_equal(seen.depth, view.depth)


@pytest.mark.parametrize(('z', 'sigma'), [(0.5, 0.00094), (1.0, 0.00377), (2.0, 0.0151)])
def test_stereo_noise_grows_with_the_square_of_depth(z: float, sigma: float) -> None:
    """0.08 px at f = 424 px and a baseline of 50 mm."""
    seen = VIEW_FAULTS['depth_noise'](_plane(z), 0.08, np.random.default_rng(1)).depth
    assert np.std(seen) == pytest.approx(sigma, rel=0.03)
    assert np.mean(seen) == pytest.approx(z, abs=0.05 * sigma + 1e-4)


@pytest.mark.parametrize(('width', 'radius'), [(5.0, 1), (15.0, 3)])
def test_holes_line_the_edges_of_depth_on_both_sides(width: float, radius: int) -> None:
    """Told in px of an image 640 px wide; this one has 128."""
    view = _plane(1.0)
    view.depth[:, 64:] = 1.2
    holes = np.isnan(VIEW_FAULTS['depth_holes'](view, width, np.random.default_rng(0)).depth)
    expected = np.zeros(view.size, bool)
    expected[:, 64 - radius:64 + radius] = True
    np.testing.assert_array_equal(holes, expected)


def test_a_slope_is_no_edge() -> None:
    view = _plane(1.0)
    view.depth[...] = np.linspace(0.5, 1.5, 128, dtype=np.float32)
    seen = VIEW_FAULTS['depth_holes'](view, 20.0, np.random.default_rng(0))
    assert np.isfinite(seen.depth).all()


@given(seed=seeds, step=st.floats(0.1, 50.0))
def test_depth_comes_in_steps(seed: int, step: float) -> None:
    view = _view(seed)
    seen = VIEW_FAULTS['depth_step'](view, step, np.random.default_rng(0)).depth
    known = np.isfinite(seen)
    assert np.abs(seen - view.depth)[known].max() <= 0.5e-3 * step + 1e-6
    steps = seen[known].astype(float) / (1e-3 * step)
    np.testing.assert_allclose(steps, np.rint(steps), atol=2e-3)


def test_each_view_is_brighter_or_darker_by_lot() -> None:
    """One stop is a factor of 2 in light, 2^(1 / 2.2) = 1.37 in display values."""
    found = {int(VIEW_FAULTS['exposure'](_plane(1.0), 1.0, np.random.default_rng(i)).rgb[0, 0, 0])
             for i in range(20)}
    assert found == {73, 137}


@given(seed=seeds, strength=st.floats(0.0, 50.0))
def test_hand_eye_errors_have_their_strength(seed: int, strength: float) -> None:
    def error(name: str) -> np.ndarray:
        return hand_eye_error(Fault(name, strength), np.random.default_rng(seed))

    metres, angle = se3.distance(np.eye(4), error('hand_eye_shift'))
    assert (1e3 * metres, angle) == pytest.approx((strength, 0.0), abs=1e-6)
    metres, angle = se3.distance(np.eye(4), error('hand_eye_turn'))
    assert (metres, np.degrees(angle)) == pytest.approx((0.0, strength), abs=1e-4)
    np.testing.assert_array_equal(error('depth_noise'), np.eye(4))


def test_faults_as_typed() -> None:
    assert Fault.parse('depth_noise=0.08') == Fault('depth_noise', 0.08)
    assert str(Fault('skew', 100.0)) == 'skew=100'


@pytest.mark.parametrize(('text', 'named'), [
    ('fog=1', 'hand_eye_turn'), ('=1', 'depth_noise'), ('depth_noise', 'NAME=STRENGTH'),
    ('depth_noise=much', 'NAME=STRENGTH'), ('skew=-1', 'at least 0 ms'),
    ('exposure=nan', 'at least 0 stops')])
def test_what_is_no_fault_is_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        Fault.parse(text)


def test_every_fault_has_a_unit() -> None:
    assert set(VIEW_FAULTS) < set(UNITS)
