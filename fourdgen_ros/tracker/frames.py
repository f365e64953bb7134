# SPDX-License-Identifier: Apache-2.0
"""What the tracker looks at: the gripper's pixels of one frame in every view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.types import Future
from fourdgen_ros.tracker.contour import Outline, outline
from fourdgen_ros.tracker.resection import estimate_camera

Array = NDArray[np.float64]

MASK_LOW, MASK_HIGH = 0.3, 0.7
MAX_PIXELS = 500
STEEP = 3.0
SOLID_LOW = 0.8
NEAR = 0.05


@dataclass(frozen=True, eq=False)
class Camera:
    """A static camera: name, T_ref_cam (4, 4) optical, K (3, 3), image height and width in px."""

    name: str
    T_ref_cam: Array
    K: Array
    height: int
    width: int

    @cached_property
    def T_cam_ref(self) -> Array:
        """Inverse of `T_ref_cam`."""
        return se3.inverse(self.T_ref_cam)

    @property
    def centre(self) -> Array:
        """Optical centre (3,) in the reference frame."""
        return self.T_ref_cam[:3, 3]

    @cached_property
    def rays(self) -> Array:
        """Viewing rays (H, W, 3) in the reference frame, one metre long along the optical axis."""
        v, u = np.mgrid[:self.height, :self.width]
        rays = np.stack([(u - self.K[0, 2]) / self.K[0, 0], (v - self.K[1, 2]) / self.K[1, 1],
                         np.ones(u.shape)], axis=-1)
        return rays @ self.T_ref_cam[:3, :3].T


@dataclass(frozen=True, eq=False)
class FrameView:
    """One frame of one view.

    depth (H, W) m along the optical axis, NaN where unknown; trust (H, W) 0..1, low at depth edges;
    mask (H, W) 0..1; `points` (n, 3) in the reference frame and `weights` (n,) 0..1 of the
    gripper's pixels; `pixels`, the soft count of gripper pixels with depth; `outline` of the mask,
    None where there is no mask.
    """

    camera: Camera
    depth: Array
    trust: Array
    mask: Array
    points: Array
    weights: Array
    pixels: float
    outline: Outline | None

    def scaled(self, scale: float) -> FrameView:
        """The same with all depths multiplied by `scale` along the viewing rays."""
        centre = self.camera.centre
        return replace(self, depth=scale * self.depth,
                       points=centre + scale * (self.points - centre))


def clip_cameras(future: Future) -> tuple[Camera, ...]:
    """Cameras of a clip. The reference (views[0]) is the identity by definition."""
    height, width = future.rgb.shape[2:4]
    poses = [np.eye(4)]
    for i in range(1, len(future.cameras)):
        poses.append(estimate_camera(future.points[i], future.valid[i], future.K[i],
                                     future.cameras[i]))
    return tuple(Camera(name, T, np.asarray(K, float), height, width)
                 for name, T, K in zip(future.cameras, poses, future.K, strict=True))


def frame_view(camera: Camera, points: NDArray[np.float32], valid: NDArray[np.bool_],
               mask: NDArray[np.float32]) -> FrameView:
    """Prepare one frame of one view: points (H, W, 3) in the reference frame, valid, mask (H, W).

    Pixel and camera are known exactly, so of a generated point only its distance is believed: each
    point is put back onto its pixel's ray, which removes two of three parts of the noise.
    """
    usable = valid & np.isfinite(points).all(-1)
    offset = np.where(usable[..., None], points - camera.centre, 0.0)
    rays = camera.rays
    depth = np.sum(offset * rays, -1) / np.sum(rays * rays, -1)
    usable &= depth > 0.0
    depth = np.where(usable, depth, np.nan)
    soft = np.where(np.isfinite(mask), mask, 0.0).astype(np.float64)
    weight = np.clip((soft - MASK_LOW) / (MASK_HIGH - MASK_LOW), 0.0, 1.0) * usable
    pixels = float(weight.sum())
    # Where the mask is soft, so is the depth: a blend of gripper and background.
    solid = np.clip((soft - SOLID_LOW) / (1.0 - SOLID_LOW), 0.0, 1.0)
    trust = solid * usable / (1.0 + (_steepness(depth, camera) / STEEP) ** 4)
    rows, cols = _limited(np.nonzero(weight))
    chosen = camera.centre + depth[rows, cols, None] * rays[rows, cols]
    return FrameView(camera, depth, trust, soft, chosen, (weight * trust)[rows, cols],
                     pixels, outline(soft))


def to_pixels(camera: Camera, Y: Array) -> Array:
    """u, v (..., 2) px of points (..., 3) in the camera's optical frame."""
    z = np.maximum(Y[..., 2:], NEAR)
    return Y[..., :2] / z * camera.K[[0, 1], [0, 1]] + camera.K[:2, 2]


def pixels_per_metre(camera: Camera, Y: Array) -> float:
    """Image scale at the median depth of points (..., 3) in the optical frame."""
    return float(camera.K[0, 0]) / max(float(np.median(Y[..., 2])), NEAR)


def inside_image(camera: Camera, Y: Array) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Column, row and whether points (..., 3) in the optical frame fall into the image.

    Column and row are 0 where they do not, so that they can always index an image.
    """
    uv = to_pixels(camera, Y)
    ok = ((uv > -0.5) & (uv < [camera.width - 0.5, camera.height - 0.5])).all(-1)
    ok &= Y[..., 2] > NEAR
    uv = np.where(ok[..., None], np.rint(uv), 0.0).astype(int)
    return uv[..., 0], uv[..., 1], ok


def _limited(index: tuple[NDArray, ...]) -> tuple[NDArray, NDArray]:
    rows, cols = index
    if len(rows) > MAX_PIXELS:
        keep = np.linspace(0, len(rows) - 1, MAX_PIXELS).astype(int)
        return rows[keep], cols[keep]
    return rows, cols


def _steepness(depth: Array, camera: Camera) -> Array:
    """Tangent of the angle (H, W) between surface and image; a smeared depth edge is steep."""
    filled = np.nan_to_num(depth, nan=10.0)
    dv, du = np.gradient(filled)
    return np.hypot(du * camera.K[0, 0], dv * camera.K[1, 1]) / filled
