# SPDX-License-Identifier: Apache-2.0
"""How good a future is: gripper geometry first, because whole images are mostly background."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import project, resize_intrinsics
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future, Observation

Array = NDArray[np.float64]
MASK = 0.5  # a pixel above it shows the gripper
SAME_PIXEL = 0.5  # px between two K of the same image
MOVED = 0.01  # m


def require_comparable(future: Future, observation: Observation) -> None:
    """Raises InputError unless the future has the views of the observation, in that order, shows
    what `resize_view` leaves of them, and has something after frame 0."""
    what = f'future of generator {future.generator!r}'
    cameras = tuple(view.camera for view in observation.views)
    if tuple(future.cameras) != cameras:
        raise InputError(what, expected=f'the views of all cameras of the cell, {cameras}',
                         got=f'{len(future.cameras)}, {tuple(future.cameras)}',
                         hint='Return one view per view of the observation, in its order.')
    if future.frames < 2:
        raise InputError(what, expected='T >= 2: frame 0, the observation, and one after it',
                         got=f'T = {future.frames}', hint='Return more frames.')
    for view, K in zip(observation.views, future.K, strict=True):
        expected = resize_intrinsics(view.K, view.size, *future.rgb.shape[2:4])
        if not np.allclose(K, expected, rtol=0.0, atol=SAME_PIXEL):
            raise InputError(f'K of camera {view.camera!r} in the {what}',
                             expected=f'{np.round(expected, 1).tolist()}, as of the true images',
                             got=str(np.round(K, 1).tolist()),
                             hint='Crop around the centre, then scale both sides alike: '
                                  'core.camera.resize_view does.')


def pose_errors(poses: Array, true: Array) -> tuple[Array, Array]:
    """Distance in mm and angle in degrees between (T, 4, 4) poses, each (T,)."""
    errors = np.array([se3.distance(a, b) for a, b in zip(poses, true, strict=True)])
    return 1e3 * errors[:, 0], np.degrees(errors[:, 1])


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks (H, W); NaN when both are empty."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else float('nan')


def lift(points: NDArray, size: tuple[int, int], K: Array,
         T_camera_ref: Array) -> NDArray[np.bool_]:
    """Mask (H, W) of the pixels onto which (n, 3) points of the reference frame project."""
    height, width = size
    u, v, z = project(se3.apply(T_camera_ref, points), K)
    mask = np.zeros(size, bool)
    with np.errstate(invalid='ignore'):
        seen = (z > 0) & (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    mask[np.rint(v[seen]).astype(int), np.rint(u[seen]).astype(int)] = True
    return mask


def box_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of the bounding boxes of two masks; 0 when one is empty, NaN when
    both are."""
    if not a.any() and not b.any():
        return float('nan')
    if not a.any() or not b.any():
        return 0.0
    (a0, a1), (b0, b1) = _box(a), _box(b)
    shared = np.prod(np.clip(np.minimum(a1, b1) - np.maximum(a0, b0), 0, None))
    return float(shared / (np.prod(a1 - a0) + np.prod(b1 - b0) - shared))


def _box(mask: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    cells = np.argwhere(mask)
    return cells.min(0), cells.max(0) + 1


def cross_view_iou(future: Future, true: Future, T_ref_cameras: Array) -> tuple[Array, Array]:
    """Whether the views agree on where the gripper is: IoU of masks and of boxes, (pairs, T).

    The gripper's pixels of one view are lifted by their points into the other (every ordered pair
    of views), with its true pose T_ref_camera (V, 4, 4), and compared with the gripper mask there
    (the protocol of 4DGen). Two cameras see different sides of a hand, so that even a true future
    stays far below 1: compare with its value. Where neither view shows the gripper it is 0 if the
    truth shows it in both, or else leaving the gripper out would cost nothing, and NaN if not.
    """
    views, frames = future.rgb.shape[:2]
    if views < 2:
        raise InputError('future', expected='two views or more to compare', got=str(views))
    gripper = future.gripper > MASK
    shown = (true.gripper > MASK).any((2, 3))
    size = future.rgb.shape[2:4]
    pairs = list(permutations(range(views), 2))
    masks, boxes = np.empty((2, len(pairs), frames))
    for i, (a, b) in enumerate(pairs):
        T_b_ref = se3.inverse(T_ref_cameras[b])
        for t in range(frames):
            chosen = gripper[a, t] & future.valid[a, t]
            lifted = lift(future.points[a, t][chosen].astype(float), size, future.K[b], T_b_ref)
            lifted = _fill(lifted)
            masks[i, t] = mask_iou(lifted, gripper[b, t])
            boxes[i, t] = box_iou(lifted, gripper[b, t])
        expected = shown[a] & shown[b]
        for found in (masks[i], boxes[i]):
            found[expected & np.isnan(found)] = 0.0
    return masks, boxes


def _fill(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close the one-pixel gaps that lie between lifted pixels."""
    from scipy.ndimage import binary_closing

    return binary_closing(np.pad(mask, 1), np.ones((3, 3), bool))[1:-1, 1:-1]


def point_errors(future: Future, true: Future) -> dict[str, float]:
    """Mean distance in mm between generated and true points of a pixel, frames 1..T-1.

    `points_mm`: of all pixels; `moving_points_mm`: where the true point is more than `MOVED` away
    from that of frame 0; `gripper_points_mm`: where the truth shows the gripper; NaN where there is
    no such pixel. Pixels count that are valid in both; `points_missing` and, of the gripper,
    `gripper_points_missing` are the shares of the truly valid ones that the future leaves out.
    """
    known, gripper = true.valid[:, 1:], true.gripper[:, 1:] > MASK
    both = known & future.valid[:, 1:]
    error = np.linalg.norm(future.points[:, 1:].astype(float) - true.points[:, 1:], axis=-1)
    with np.errstate(invalid='ignore'):
        moved = np.linalg.norm(true.points[:, 1:] - true.points[:, :1], axis=-1) > MOVED
    regions = {'points_mm': both, 'moving_points_mm': both & moved,
               'gripper_points_mm': both & gripper}
    row = {name: float(1e3 * error[chosen].mean()) if chosen.any() else float('nan')
           for name, chosen in regions.items()}
    return row | {'points_missing': _left_out(both, known),
                  'gripper_points_missing': _left_out(both & gripper, known & gripper)}


def _left_out(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    """Share of `whole` that is not in `part`; NaN of nothing."""
    return 1.0 - float(part.sum() / whole.sum()) if whole.any() else float('nan')


def camera_error(future: Future, true: Future) -> float:
    """Median distance in mm between points of frame 0 and true ones, of all views but the
    reference. They are measured, so what is wrong with them is where their camera is thought to be.
    NaN for a single view or without points.
    """
    both = (true.valid & future.valid)[1:, 0]
    error = np.linalg.norm(future.points[1:, 0].astype(float) - true.points[1:, 0], axis=-1)[both]
    return float(1e3 * np.median(error)) if error.size else float('nan')


def psnr(image: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of 8 bit images; inf when they are equal."""
    mse = np.mean(np.square(image.astype(np.float64) - true))
    return float('inf') if mse == 0 else float(10.0 * np.log10(255.0**2 / mse))


def depth_errors(depth: NDArray, true: NDArray) -> tuple[float, float]:
    """AbsRel and the share with max(d / d*, d* / d) < 1.25, metric and without alignment, over the
    pixels where both depths are finite and positive. Without any such pixel AbsRel is NaN, and the
    share is 0 where the truth has depth."""
    with np.errstate(invalid='ignore'):
        both = (depth > 0) & (true > 0)
    d, t = depth[both].astype(float), true[both].astype(float)
    if not len(d):
        return float('nan'), 0.0 if (true > 0).any() else float('nan')
    ratio = np.maximum(d / t, t / d)
    return float(np.mean(np.abs(d - t) / t)), float(np.mean(ratio < 1.25))


def view_depth(future: Future, view: int, T_ref_camera: Array) -> NDArray[np.float32]:
    """Depth (T, H, W) m of a view along its own axis, by its pose in the reference frame."""
    return se3.apply(se3.inverse(T_ref_camera), future.points[view])[..., 2]
