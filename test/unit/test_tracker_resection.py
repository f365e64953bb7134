# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import intrinsics_from_fovy, pointmap
from fourdgen_ros.core.errors import TrackingError
from fourdgen_ros.tracker.resection import estimate_camera, three_point_poses

H, W = 48, 64
K = intrinsics_from_fovy(np.deg2rad(45.0), H, W)


def scene(rng: np.random.Generator, T_ref_cam: np.ndarray, *, plane: bool) -> np.ndarray:
    """Points (H, W, 3) in the reference frame of a tilted plane, with boxes unless `plane`."""
    v, u = np.mgrid[:H, :W]
    depth = 1.0 + 0.004 * v - 0.003 * u
    if not plane:
        for _ in range(4):
            r, c = rng.integers(0, H - 12), rng.integers(0, W - 12)
            depth[r:r + 12, c:c + 12] -= rng.uniform(0.1, 0.4)
    return se3.apply(T_ref_cam, pointmap(depth.astype(np.float32), K).astype(float))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3),
       st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3), st.booleans(),
       st.integers(0, 1000))
def test_exact_points_give_the_exact_pose(w, t, plane, seed):
    truth = se3.make(se3.exp_so3(np.array(w)), np.array(t))
    points = scene(np.random.default_rng(seed), truth, plane=plane)
    found = estimate_camera(points.astype(np.float32), np.ones((H, W), bool), K)
    distance, angle = se3.distance(found, truth)
    assert distance < 1e-3
    assert angle < 1e-3


def test_noise_and_outliers_are_survived():
    rng = np.random.default_rng(3)
    truth = se3.make(se3.exp_so3(np.array([0.2, 1.2, -0.3])), np.array([0.8, 0.1, 0.5]))
    points = scene(rng, truth, plane=False) + rng.normal(0, 0.005, (H, W, 3))
    bad = rng.random((H, W)) < 0.2
    points[bad] += rng.uniform(-0.5, 0.5, (int(bad.sum()), 3))
    valid = rng.random((H, W)) < 0.8
    points[~valid] = np.nan
    distance, angle = se3.distance(estimate_camera(points.astype(np.float32), valid, K), truth)
    assert distance < 0.005
    assert angle < np.deg2rad(0.3)


def test_several_frames_of_one_camera_are_pooled():
    rng = np.random.default_rng(4)
    truth = se3.make(se3.exp_so3(np.array([0.0, -0.8, 0.1])), np.array([-0.5, 0.1, 0.2]))
    frames = np.stack([scene(rng, truth, plane=False) for _ in range(3)])
    valid = np.zeros((3, H, W), bool)
    valid[0, :20], valid[1, 20:30], valid[2, 30:] = True, True, True
    distance, _ = se3.distance(estimate_camera(frames.astype(np.float32), valid, K), truth)
    assert distance < 1e-3


def test_three_points_include_the_true_pose():
    rng = np.random.default_rng(5)
    Y = np.column_stack([rng.uniform(-0.4, 0.4, (3, 2)), rng.uniform(0.7, 1.5, 3)])
    truth = se3.make(se3.exp_so3(rng.normal(size=3)), rng.normal(size=3))
    X = se3.apply(se3.inverse(truth), Y)
    poses = three_point_poses(X, Y / np.linalg.norm(Y, axis=1, keepdims=True))
    assert min(np.abs(T - truth).max() for T in poses) < 1e-6


def test_too_few_points_are_refused():
    valid = np.zeros((H, W), bool)
    valid[0, :20] = True
    with pytest.raises(TrackingError, match='got 20'):
        estimate_camera(np.zeros((H, W, 3), np.float32), valid, K)


def test_points_of_no_camera_are_refused():
    points = np.random.default_rng(0).uniform(0.5, 1.5, (H, W, 3)).astype(np.float32)
    with pytest.raises(TrackingError, match='reprojection'):
        estimate_camera(points, np.ones((H, W), bool), K)
