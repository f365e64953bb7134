# SPDX-License-Identifier: Apache-2.0
"""Metrics on a scene whose geometry is known: a square plate seen by two cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import intrinsics_from_fovy, resize_intrinsics
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future, Observation, RgbdView
from fourdgen_ros.evaluation import metrics
from fourdgen_ros.evaluation.openloop import compare

H, W = 60, 80
K = intrinsics_from_fovy(0.8, H, W)
# the second camera 0.4 m to the right, turned towards the point 1 m before the first
TURN = float(np.arctan2(0.4, 1.0))
T_REF_CAMERAS = np.stack([np.eye(4), se3.make(se3.exp_so3(np.array([0.0, -TURN, 0.0])),
                                              np.array([0.4, 0.0, 0.0]))])
HALF = 0.1


def _view(T_ref_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (H, W, 3) in the reference frame and mask: a plate at z = 1 m, a wall at z = 2 m."""
    v, u = np.mgrid[:H, :W]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((H, W))], -1)
    rays = rays @ T_ref_cam[:3, :3].T
    centre = T_ref_cam[:3, 3]
    plate = centre + rays * ((1.0 - centre[2]) / rays[..., 2:])
    wall = centre + rays * ((2.0 - centre[2]) / rays[..., 2:])
    mask = (np.abs(plate[..., :2]) < HALF).all(-1)
    return np.where(mask[..., None], plate, wall), mask


@pytest.fixture
def plate() -> Future:
    views = [_view(T) for T in T_REF_CAMERAS]
    points = np.stack([np.stack([p, p]) for p, _ in views]).astype(np.float32)
    mask = np.stack([np.stack([m, m]) for _, m in views])
    rgb = np.zeros((2, 2, H, W, 3), np.uint8)
    return Future(rgb=rgb, points=points, valid=np.ones(mask.shape, bool),
                  gripper=mask.astype(np.float32), dt=0.4, K=np.stack([K, K]),
                  cameras=('a', 'b'), stamp=0, generator='test')


def test_views_that_agree(plate: Future) -> None:
    masks, boxes = metrics.cross_view_iou(plate, plate, T_REF_CAMERAS)
    assert masks.shape == boxes.shape == (2, 2)
    assert masks.min() > 0.85
    assert boxes.min() > 0.85


def test_views_that_disagree(plate: Future) -> None:
    """A plate that one view imagines elsewhere lowers the IoU by the share that is missed."""
    points = plate.points.copy()
    points[0, 1, ..., 0] += HALF  # half a plate aside
    masks, _ = metrics.cross_view_iou(replace(plate, points=points), plate, T_REF_CAMERAS)
    assert masks[0, 0] > 0.85
    assert masks[0, 1] == pytest.approx(1.0 / 3.0, abs=0.08)
    points[0, 1, ..., 0] += 3.0 * HALF
    masks, boxes = metrics.cross_view_iou(replace(plate, points=points), plate, T_REF_CAMERAS)
    assert masks[0, 1] == 0.0
    assert boxes[0, 1] == 0.0


def test_no_gripper_is_no_agreement(plate: Future) -> None:
    nothing = replace(plate, gripper=np.zeros_like(plate.gripper))
    masks, boxes = metrics.cross_view_iou(nothing, plate, T_REF_CAMERAS)
    assert (masks == 0.0).all()
    assert (boxes == 0.0).all()
    masks, boxes = metrics.cross_view_iou(nothing, nothing, T_REF_CAMERAS)
    assert np.isnan(masks).all()
    assert np.isnan(boxes).all()
    gone = plate.gripper.copy()
    gone[1] = 0.0  # one view shows it, the other does not
    masks, boxes = metrics.cross_view_iou(replace(plate, gripper=gone), plate, T_REF_CAMERAS)
    assert (masks == 0.0).all()
    assert (boxes == 0.0).all()


def test_one_view_cannot_be_compared(plate: Future) -> None:
    single = Future(**{name: getattr(plate, name)[:1] for name in
                       ('rgb', 'points', 'valid', 'gripper', 'K', 'cameras')},
                    dt=0.4, stamp=0, generator='test')
    with pytest.raises(InputError, match='two views'):
        metrics.cross_view_iou(single, single, T_REF_CAMERAS[:1])


def _part(future: Future, views: int, frames: int) -> Future:
    arrays = {name: getattr(future, name)[:views, :frames] for name in
              ('rgb', 'points', 'valid', 'gripper')}
    return replace(future, **arrays, K=future.K[:views], cameras=future.cameras[:views],
                   frame_ids=future.frame_ids[:views])


def _observation(*cameras: str, scale: int = 1) -> Observation:
    size = scale * H, scale * W
    return Observation(tuple(
        RgbdView(np.zeros((*size, 3), np.uint8), np.ones(size, np.float32),
                 resize_intrinsics(K, (H, W), *size), 0, camera) for camera in cameras))


def test_a_future_with_other_views_cannot_be_compared(plate: Future) -> None:
    metrics.require_comparable(plate, _observation('a', 'b'))
    with pytest.raises(InputError, match=r"\('a', 'b'\); got 1, \('a',\)"):
        metrics.require_comparable(_part(plate, 1, 2), _observation('a', 'b'))
    with pytest.raises(InputError, match=r"\('a',\); got 2, \('a', 'b'\)"):
        metrics.require_comparable(plate, _observation('a'))
    with pytest.raises(InputError, match='in its order'):
        metrics.require_comparable(plate, _observation('b', 'a'))


def test_a_future_of_other_pixels_cannot_be_compared(plate: Future) -> None:
    metrics.require_comparable(plate, _observation('a', 'b', scale=4))
    near, squeezed = plate.K.copy(), plate.K.copy()
    near[1, 0, 2] += 0.4
    metrics.require_comparable(replace(plate, K=near), _observation('a', 'b'))
    squeezed[1, 0] *= 0.75
    with pytest.raises(InputError, match="K of camera 'b'.*resize_view"):
        metrics.require_comparable(replace(plate, K=squeezed), _observation('a', 'b'))


def test_a_future_of_one_frame_cannot_be_compared(plate: Future) -> None:
    with pytest.raises(InputError, match='T >= 2.*got T = 1'):
        metrics.require_comparable(_part(plate, 2, 1), _observation('a', 'b'))


def test_lift_leaves_out_what_the_camera_cannot_see() -> None:
    points = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [9.0, 0.0, 1.0], [np.nan] * 3])
    assert metrics.lift(points, (H, W), K, np.eye(4)).sum() == 1


def test_point_errors_by_region(plate: Future) -> None:
    gripper = plate.gripper[:, 1] > 0.5
    true_points = plate.points.copy()
    true_points[:, 1, :10] += np.float32(0.1)  # what truly moves: ten rows that show no gripper
    true = replace(plate, points=true_points)
    assert not gripper[:, :10].any()
    points = true_points.copy()
    points[:, 0] += 1.0  # frame 0 is given, not generated
    points[:, 1, ..., 0] += np.float32(0.002)
    points[:, 1, :10, :, 0] += np.float32(0.004)
    points[:, 1, ..., 0][gripper] += np.float32(0.001)
    valid = plate.valid.copy()
    valid[:, 1, -5:] = False  # 5 of 60 rows
    points[~valid] = np.nan
    errors = metrics.point_errors(replace(plate, points=points, valid=valid), true)
    assert errors['gripper_points_mm'] == pytest.approx(3.0, abs=1e-3)
    assert errors['moving_points_mm'] == pytest.approx(6.0, abs=1e-3)
    assert 2.0 < errors['points_mm'] < 3.0
    assert errors['points_missing'] == pytest.approx(5.0 / H)
    assert errors['gripper_points_missing'] == 0.0
    assert np.isnan(metrics.point_errors(plate, plate)['moving_points_mm'])


def test_gripper_points_that_are_left_out_are_counted(plate: Future) -> None:
    gripper, valid = plate.gripper > metrics.MASK, plate.valid.copy()
    valid[0, 1] &= ~gripper[0, 1]  # that of one view
    errors = metrics.point_errors(replace(plate, valid=valid), plate)
    assert errors['gripper_points_missing'] == pytest.approx(
        gripper[0, 1].sum() / gripper[:, 1].sum())
    assert 0.0 < errors['points_missing'] < 0.1
    nowhere = replace(plate, gripper=np.zeros_like(plate.gripper))
    assert np.isnan(metrics.point_errors(plate, nowhere)['gripper_points_missing'])


def test_a_view_without_depth_is_wrong_everywhere(plate: Future) -> None:
    points, valid = plate.points.copy(), plate.valid.copy()
    points[1, 1:], valid[1, 1:] = np.nan, False
    row = compare(replace(plate, points=points, valid=valid), plate, T_REF_CAMERAS)
    assert row['delta_125'] == pytest.approx(0.5)
    assert row['abs_rel'] == pytest.approx(0.0, abs=1e-6)
    assert row['points_missing'] == pytest.approx(0.5)
    nothing = np.full(3, np.nan)
    assert np.isnan(metrics.depth_errors(nothing, nothing)[1])


def test_a_camera_that_is_thought_elsewhere(plate: Future) -> None:
    points = plate.points.copy()
    points[1, 0, ..., 1] += np.float32(0.004)  # of the second view; the first is the reference
    points[0, 0] += np.float32(0.5)
    points[:, 1] += np.float32(0.5)
    valid = plate.valid.copy()
    valid[1, 0, :9] = False
    off = replace(plate, points=points, valid=valid)
    assert metrics.camera_error(off, plate) == pytest.approx(4.0, abs=1e-3)
    assert metrics.camera_error(plate, plate) == 0.0
    assert np.isnan(metrics.camera_error(plate, replace(plate, valid=np.zeros_like(valid))))


def test_pose_errors() -> None:
    true = np.stack([np.eye(4)] * 2)
    moved = true @ se3.make(se3.exp_so3(np.array([0.0, 0.0, np.radians(7.0)])),
                            np.array([0.003, 0.0, 0.004]))
    mm, degrees = metrics.pose_errors(moved, true)
    assert mm == pytest.approx([5.0, 5.0])
    assert degrees == pytest.approx([7.0, 7.0])


def test_psnr() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    assert metrics.psnr(image, image) == float('inf')
    assert metrics.psnr(image + np.uint8(10), image) == pytest.approx(28.1308, abs=1e-3)


def test_depth_errors_are_metric_and_skip_invalid_pixels() -> None:
    true = np.array([1.0, 1.0, 2.0, np.nan, 0.0])
    assert metrics.depth_errors(true * 1.1, true) == pytest.approx((0.1, 1.0))
    relative, near = metrics.depth_errors(np.array([1.3, 1.0, 2.0, 1.0, 1.0]), true)
    assert relative == pytest.approx(0.1)
    assert near == pytest.approx(2.0 / 3.0)


def test_view_depth_is_along_the_axis_of_each_camera(plate: Future) -> None:
    depth = metrics.view_depth(plate, 1, T_REF_CAMERAS[1])
    middle = plate.points[1, 0, H // 2, W // 2]
    distance = np.linalg.norm(middle - T_REF_CAMERAS[1, :3, 3])
    assert depth.shape == (2, H, W)
    assert depth[0, H // 2, W // 2] == pytest.approx(distance, rel=1e-3)
