# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras: projection, and K through crops and resizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdgen_ros.core import camera
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import RgbdView

K = camera.intrinsics_from_fovy(0.8, 24, 32)


def view(height: int, width: int, depth: np.ndarray | None = None) -> RgbdView:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.arange(width)
    if depth is None:
        depth = np.ones((height, width), np.float32)
    return RgbdView(rgb, depth, camera.intrinsics_from_fovy(0.8, height, width), 7, 'cam')


def test_the_optical_axis_goes_through_the_image_centre():
    u, v, z = camera.project(np.array([0.0, 0.0, 2.0]), K)
    assert (u, v, z) == (15.5, 11.5, 2.0)


def test_field_of_view_reaches_the_outer_edges_of_the_pixels():
    edge = np.array([0.0, np.tan(0.4), 1.0])
    assert camera.project(edge, K)[1] == pytest.approx(23.5)


def test_pointmap_and_projection_are_inverse_and_keep_nan():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.2, 3.0, (24, 32)).astype(np.float32)
    depth[3, 4] = np.nan
    points = camera.pointmap(depth, K)
    assert points.dtype == np.float32
    assert np.isnan(points[3, 4]).all()
    u, v, z = camera.project(points.astype(float), K)
    rows, cols = np.indices((24, 32))
    good = np.isfinite(depth)
    np.testing.assert_allclose(u[good], cols[good], atol=1e-4)
    np.testing.assert_allclose(v[good], rows[good], atol=1e-4)
    np.testing.assert_array_equal(z[good], depth[good])


@given(st.floats(0.1, 2.0), st.floats(0.1, 2.0))
def test_scaling_k_moves_pixel_edges_with_the_grid(sx, sy):
    scaled = camera.scale_intrinsics(K, sx, sy)
    point = np.array([0.1, -0.2, 1.3])
    u, v, _ = camera.project(point, K)
    us, vs, _ = camera.project(point, scaled)
    assert us == pytest.approx((u + 0.5) * sx - 0.5)
    assert vs == pytest.approx((v + 0.5) * sy - 0.5)


def test_resize_crops_to_the_aspect_and_scales_k():
    small = camera.resize_view(view(48, 80), 12, 16)
    assert small.size == (12, 16)
    np.testing.assert_allclose(small.K, camera.intrinsics_from_fovy(0.8, 12, 16))
    # 48x80 is cropped by 8 columns on either side; each target pixel is the mean of 4 columns.
    np.testing.assert_array_equal(small.rgb[0, :, 0], np.rint(8 + 1.5 + 4 * np.arange(16)))
    assert small.stamp == 7


def test_depth_is_never_interpolated():
    depth = np.where(np.indices((48, 64))[1] < 32, 1.0, 2.0).astype(np.float32)
    depth[0, 0] = np.nan
    small = camera.resize_view(view(48, 64, depth), 15, 20)
    values = small.depth[np.isfinite(small.depth)]
    assert set(np.unique(values)) == {1.0, 2.0}


def test_an_image_is_never_enlarged():
    with pytest.raises(InputError, match='at least 64x48'):
        camera.resize_view(view(24, 32), 48, 64)


def test_a_view_of_the_right_size_stays_itself():
    same = view(24, 32)
    assert camera.resize_view(same, 24, 32) is same
