# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras, depth and pointmaps. Pixel centres lie at integers (REP 104, OpenCV)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import RgbdView


def intrinsics_from_fovy(fovy: float, height: int, width: int) -> NDArray[np.float64]:
    """K (3, 3) of square pixels from the vertical field of view in rad."""
    f = height / (2.0 * np.tan(fovy / 2.0))
    return np.array([[f, 0.0, width / 2.0 - 0.5], [0.0, f, height / 2.0 - 0.5], [0.0, 0.0, 1.0]])


def scale_intrinsics(K: NDArray[np.float64], sx: float, sy: float) -> NDArray[np.float64]:
    """K after a resize by (sx, sy); the centre moves with the pixel grid's half pixel."""
    out = K.copy()
    out[0] *= sx
    out[1] *= sy
    out[0, 2] = (K[0, 2] + 0.5) * sx - 0.5
    out[1, 2] = (K[1, 2] + 0.5) * sy - 0.5
    return out


def crop_intrinsics(K: NDArray[np.float64], top: int, left: int) -> NDArray[np.float64]:
    """K after the image lost `top` rows and `left` columns."""
    out = K.copy()
    out[0, 2] -= left
    out[1, 2] -= top
    return out


def pointmap(depth: NDArray[np.float32], K: NDArray[np.float64]) -> NDArray[np.float32]:
    """(H, W, 3) metric points in the optical frame of a depth image (H, W); NaN stays NaN."""
    h, w = depth.shape
    x = (np.arange(w, dtype=np.float32) - np.float32(K[0, 2])) / np.float32(K[0, 0])
    y = (np.arange(h, dtype=np.float32) - np.float32(K[1, 2])) / np.float32(K[1, 1])
    return np.stack([depth * x[None, :], depth * y[:, None], depth], axis=-1)


def project(points: NDArray, K: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """Pixel coordinates u, v and depth z of (..., 3) points in the optical frame.

    u and v mean nothing where z <= 0: the point is behind the camera.
    """
    z = points[..., 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        u = points[..., 0] / z * K[0, 0] + K[0, 2]
        v = points[..., 1] / z * K[1, 1] + K[1, 2]
    return u, v, z


def _area_resize(image: NDArray, height: int, width: int) -> NDArray[np.float32]:
    """Mean over the (fractional) source area of each target pixel; separable and exact."""

    def weights(n_in: int, n_out: int) -> NDArray[np.float32]:
        edges = np.linspace(0.0, n_in, n_out + 1)
        lo = np.maximum(edges[:-1, None], np.arange(n_in)[None])
        hi = np.minimum(edges[1:, None], np.arange(1, n_in + 1)[None])
        w = np.clip(hi - lo, 0.0, None)
        return (w / w.sum(1, keepdims=True)).astype(np.float32)

    out = np.tensordot(weights(image.shape[0], height), image.astype(np.float32), axes=(1, 0))
    return np.moveaxis(np.tensordot(weights(image.shape[1], width), out, axes=(1, 1)), 0, 1)


def resize_view(view: RgbdView, height: int, width: int) -> RgbdView:
    """Resize to (height, width): colour by area mean, depth by nearest, K scaled.

    The view is first cropped around its centre to the target's aspect ratio. Depth is never
    interpolated: that would make points that float between surfaces. Raises InputError when the
    view is smaller than asked for.
    """
    h, w = view.size
    if (h, w) == (height, width):
        return view
    if height > h or width > w:
        raise InputError(f'image of camera {view.camera!r}', expected=f'at least {width}x{height}',
                         got=f'{w}x{h}', hint='Use a larger camera profile, e.g. 640x480.')
    return replace(view, rgb=resize_color(view.rgb, height, width),
                   depth=resize_nearest(view.depth, height, width),
                   K=resize_intrinsics(view.K, (h, w), height, width))


def _crop(h: int, w: int, height: int, width: int) -> tuple[int, int, int, int]:
    """top, left, height and width of the centred crop of (h, w) with the target's aspect ratio."""
    crop_h, crop_w = min(h, round(w * height / width)), min(w, round(h * width / height))
    return (h - crop_h) // 2, (w - crop_w) // 2, crop_h, crop_w


def resize_color(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The colour part of `resize_view`."""
    top, left, crop_h, crop_w = _crop(rgb.shape[0], rgb.shape[1], height, width)
    mean = _area_resize(rgb[top:top + crop_h, left:left + crop_w], height, width)
    return np.clip(np.rint(mean), 0, 255).astype(np.uint8)


def resize_nearest(image: NDArray, height: int, width: int) -> NDArray:
    """The depth part of `resize_view`, for anything that must not be interpolated."""
    top, left, crop_h, crop_w = _crop(image.shape[0], image.shape[1], height, width)
    rows = np.minimum(((np.arange(height) + 0.5) * crop_h / height).astype(int), crop_h - 1)
    cols = np.minimum(((np.arange(width) + 0.5) * crop_w / width).astype(int), crop_w - 1)
    return np.ascontiguousarray(image[np.ix_(top + rows, left + cols)])


def resize_intrinsics(K: NDArray[np.float64], size: tuple[int, int], height: int,
                      width: int) -> NDArray[np.float64]:
    """The K of `resize_view`, for an image of `size` (height, width) before."""
    top, left, crop_h, crop_w = _crop(*size, height, width)
    return scale_intrinsics(crop_intrinsics(K, top, left), width / crop_w, height / crop_h)
