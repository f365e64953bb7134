# SPDX-License-Identifier: Apache-2.0
"""How well poses explain a frame: many at once and roughly, or one and thoroughly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.frames import FrameView, inside_image, pixels_per_metre, to_pixels
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.registration import OCCLUSION, Fit, facing

Array = NDArray[np.float64]

TOLERANCE = 0.02
POINTS = 200
PIXELS = 80
COVER = 0.006
AGREEMENT = (0.15, 0.6)
OVERLAP = (0.3, 0.6)
PIXELS_HALF = 20.0


class Scorer:
    """Render-and-compare of many poses of one gripper surface against one frame."""

    def __init__(self, points: Array, normals: Array, views: list[FrameView]) -> None:
        stride = max(1, len(points) // POINTS)
        self._q, self._n = points[::stride], normals[::stride]
        self._tree = cKDTree(points)
        self._views = [v for v in views if v.pixels > 0]

    def __call__(self, poses: Array) -> Array:
        """Scores (S,) of poses (S, 4, 4): at most 2, higher is better."""
        total = sum(v.pixels for v in self._views)
        score = np.zeros(len(poses))
        for view in self._views:
            score += view.pixels / total * (self._pixels(view, poses) + self._model(view, poses))
        return score

    def _pixels(self, view: FrameView, poses: Array) -> Array:
        """Share (S,) of the gripper's pixels that lie on the model."""
        stride = max(1, len(view.points) // PIXELS)
        p, w = view.points[::stride], view.weights[::stride]
        inverse = se3.inverse(poses)
        local = np.einsum('sij,nj->sni', inverse[:, :3, :3], p) + inverse[:, None, :3, 3]
        distance, _ = self._tree.query(local, distance_upper_bound=2.0 * TOLERANCE)
        return np.clip(1.0 - (distance / TOLERANCE) ** 2, 0.0, None) @ w / (w.sum() + 1e-9)

    def _model(self, view: FrameView, poses: Array) -> Array:
        """Share (S,) of the visible model that the image confirms, less half of what it denies."""
        T = view.camera.T_cam_ref @ poses
        Y = np.einsum('sij,nj->sni', T[:, :3, :3], self._q) + T[:, None, :3, 3]
        n = np.einsum('sij,nj->sni', T[:, :3, :3], self._n)
        col, row, front = inside_image(view.camera, Y)
        front &= facing(Y, n, np.zeros(3))
        depth, mask = view.depth[row, col], view.mask[row, col]
        error = np.nan_to_num(depth - Y[..., 2], nan=1.0)
        agree = mask * np.clip(1.0 - (error / TOLERANCE) ** 2, 0.0, None)
        denied = (1.0 - mask) * (error > -OCCLUSION)
        return np.sum(front * (agree - 0.5 * denied), 1) / np.maximum(front.sum(1), 1)


def confidence(model: GripperModel, opening: float, views: list[FrameView], fit: Fit) -> float:
    """Trust in one fitted pose, 0..1: fit of points and outlines x mask overlap x pixels.

    A right pose has an agreement above 0.5 even in a blurred clip, a lost one below 0.3.
    """
    points, _ = model.surface(opening)
    total = sum(v.pixels for v in views)
    overlap = sum(v.pixels / total * mask_overlap(points, v, fit.pose)
                  for v in views if v.pixels > 0)
    enough = total / (total + PIXELS_HALF)
    return _ramp(fit.agreement, *AGREEMENT) * _ramp(overlap, *OVERLAP) * enough


def mask_overlap(points: Array, view: FrameView, pose: Array) -> float:
    """Soft intersection over union of the rendered model (n, 3) and the mask of one view."""
    Y = se3.apply(view.camera.T_cam_ref @ pose, points)
    uv = to_pixels(view.camera, Y)
    rows, cols = np.nonzero(view.mask > 0.05)
    height, width = view.mask.shape
    low = np.floor(np.minimum(uv.min(0), [cols.min(), rows.min()])).clip(0, [width, height])
    high = np.ceil(np.maximum(uv.max(0), [cols.max(), rows.max()])).clip(0, [width - 1, height - 1])
    u, v = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    col, row = u.astype(int).ravel(), v.astype(int).ravel()
    away, nearest = cKDTree(uv).query(np.stack([col, row], axis=1))
    covered = away < COVER * pixels_per_metre(view.camera, Y)
    mask = view.mask[row, col]
    hidden = (mask < 0.5) & (view.depth[row, col] < Y[nearest, 2] - OCCLUSION)
    union = np.maximum(mask, covered)[~hidden].sum()
    return float(np.minimum(mask, covered)[~hidden].sum() / (union + 1e-9))


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))
