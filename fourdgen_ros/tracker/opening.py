# SPDX-License-Identifier: Apache-2.0
"""How far the fingers are apart, by one-dimensional search at a known pose.

Solving for the opening together with the pose drags the pose along; a search afterwards does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.contour import draw
from fourdgen_ros.tracker.frames import FrameView, inside_image, pixels_per_metre, to_pixels
from fourdgen_ros.tracker.gripper_model import COVER_SPACING, GripperModel
from fourdgen_ros.tracker.registration import facing

Array = NDArray[np.float64]

CANDIDATES = 11
FINER = 9
STRIDE = 4
WINDOW = 3.0
MAX_CELLS = 96
SAMPLING = 0.35
GRASPED = 0.03
DEPTH_CUT = 0.012
DEPTH_WEIGHT = 0.1
PRIOR_SPREAD = 0.06
PRIOR_WEIGHT = 0.02


def measure_opening(model: GripperModel, views: list[FrameView], pose: Array,
                    prior: float) -> float:
    """Opening in m that best explains the fingers' pixels at pose T_ref_tcp (4, 4).

    `prior` m is what was measured before; it decides only where the images do not.
    """
    low, high = model.opening_range
    seen = [v for v in views if v.outline is not None]

    def search(openings: Array) -> float:
        cost = PRIOR_WEIGHT * np.minimum(((openings - prior) / PRIOR_SPREAD) ** 2, 1.0)
        for view in seen:
            cost += _cost(model, view, pose, openings) / len(seen)
        return _minimum(openings, cost)

    step = (high - low) / (CANDIDATES - 1)
    rough = search(np.linspace(low, high, CANDIDATES))
    return search(np.clip(rough + step * np.linspace(-1.0, 1.0, FINER), low, high))


def _minimum(openings: Array, cost: Array) -> float:
    """The least cost, between candidates where a parabola through it opens upwards."""
    best = int(np.argmin(cost))
    if 0 < best < len(cost) - 1:
        left, middle, right = cost[best - 1:best + 2]
        bend = left - 2.0 * middle + right
        if bend > 1e-12:
            return float(openings[best]
                         + 0.5 * (left - right) / bend * (openings[best + 1] - openings[best]))
    return float(openings[best])


def _cost(model: GripperModel, view: FrameView, pose: Array, openings: Array) -> Array:
    """Cost (C,) of openings (C,): mask drawn against mask seen, and distance along the rays."""
    T = view.camera.T_cam_ref @ pose
    depth = _depth_cost(model, view, T, openings)
    return _mask_cost(model, view, T, openings) + DEPTH_WEIGHT * depth


def _mask_cost(model: GripperModel, view: FrameView, T: Array, openings: Array) -> Array:
    camera = view.camera
    fingers = model.finger_cover + openings[:, None, None] * model.cover_directions
    Y = fingers @ T[:3, :3].T + T[:3, 3]
    uv = to_pixels(camera, Y)
    depth = float(np.median(Y[..., 2]))
    # A window around the fingers at all openings.
    size = np.array([camera.width, camera.height])
    low = np.clip(np.floor(uv.min((0, 1)) - WINDOW), 0, size - 1).astype(int)
    high = np.clip(np.ceil(uv.max((0, 1)) + WINDOW), 0, size - 1).astype(int)
    columns, rows = high - low + 1
    seen = view.mask[low[1]:high[1] + 1, low[0]:high[0] + 1]
    behind = view.depth[low[1]:high[1] + 1, low[0]:high[0] + 1]
    known = (seen > 0.5) | ~(behind < depth + GRASPED)
    if seen.max() < 0.5 or not known.any() or view.outline is None:
        return np.zeros(len(openings))
    # Draw hand and fingers, as soft as the mask.
    cells = int(np.clip(MAX_CELLS // max(columns, rows), 1, 3))
    shape = ((rows - 1) * cells + 1, (columns - 1) * cells + 1)
    spacing = COVER_SPACING * pixels_per_metre(camera, Y)
    hand = to_pixels(camera, se3.apply(T, model.hand_cover))
    drawn = np.maximum(
        draw(uv, shape, float(low[0]), float(low[1]), cells, spacing),
        draw(hand[None], shape, float(low[0]), float(low[1]), cells, spacing))
    blur = max(view.outline.blur, SAMPLING) * cells
    drawn = ndimage.gaussian_filter(drawn, (0.0, blur, blur), truncate=2.5)[:, ::cells, ::cells]
    area = float(np.count_nonzero(seen > 0.5)) ** 0.5 + 5.0
    return np.sum(known * (drawn - seen) ** 2, axis=(1, 2)) / area


def _depth_cost(model: GripperModel, view: FrameView, T: Array, openings: Array) -> Array:
    points, normals = model.finger_points[::STRIDE], model.finger_normals[::STRIDE]
    Y = points + openings[:, None, None] * model.finger_directions[::STRIDE]
    Y = Y @ T[:3, :3].T + T[:3, 3]
    col, row, inside = inside_image(view.camera, Y)
    offset = view.depth[row, col] - Y[..., 2]
    front = facing(Y, normals @ T[:3, :3].T, np.zeros(3)) & inside
    weight = front * view.trust[row, col] * view.mask[row, col]
    error = np.where(np.isfinite(offset), np.minimum((offset / DEPTH_CUT) ** 2, 1.0), 0.0)
    return np.einsum('cn,cn->c', weight, error) / (front.sum(1) + 1e-9)


def filter_openings(openings: Array, confidence: Array) -> Array:
    """Median of three (T,); frames without confidence keep the value before them."""
    value = openings.copy()
    for t in range(1, len(value)):
        if confidence[t] <= 0.0:
            value[t] = value[t - 1]
    return ndimage.median_filter(value, size=3, mode='nearest')
