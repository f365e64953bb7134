# SPDX-License-Identifier: Apache-2.0
"""Where a camera stands, from its own pointmap: resection with known intrinsics.

A future holds the points of every view in the reference frame but no camera poses. Pixel grid and
pointmap are 2D-3D correspondences, so the pose follows: three-point solutions (Grunert 1841, as in
Haralick et al., IJCV 1994) inside a random-sample search, then robust Gauss-Newton on all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import TrackingError

Array = NDArray[np.float64]

MAX_POINTS = 1500
MIN_POINTS = 50
TRIPLES = 64
ITERATIONS = 12
MAX_MEDIAN_ERROR_PX = 8.0


def estimate_camera(points: NDArray[np.float32], valid: NDArray[np.bool_], K: Array,
                    name: str = '') -> Array:
    """Pose T_ref_cam (4, 4) of the camera that sees `points`.

    points (..., H, W, 3) m in the reference frame, one or more frames of one static camera;
    valid (..., H, W); K (3, 3) px; `name` of the camera for errors. Raises
    `TrackingError` when fewer than 50 points are valid or they do not fit a pinhole camera.
    """
    height, width = points.shape[-3:-1]
    use = valid & np.isfinite(points).all(-1)
    chosen = np.flatnonzero(use.ravel())
    if len(chosen) < MIN_POINTS:
        raise TrackingError(f'pointmap of view {name!r}',
                            expected=f'at least {MIN_POINTS} valid points', got=str(len(chosen)),
                            hint='Check the depth images of this camera.')
    if len(chosen) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(chosen, MAX_POINTS, replace=False)
    X = points.reshape(-1, 3)[chosen].astype(float)
    pixel = chosen % (height * width)
    rays = np.stack([(pixel % width - K[0, 2]) / K[0, 0], (pixel // width - K[1, 2]) / K[1, 1],
                     np.ones(len(pixel))], axis=1)
    T_cam_ref = _search(X, rays)
    T_cam_ref, error = _refine(X, rays, T_cam_ref)
    error_px = error * K[0, 0]
    if not error_px <= MAX_MEDIAN_ERROR_PX:
        raise TrackingError(f'pointmap of view {name!r}',
                            expected='points that fit a pinhole camera',
                            got=f'median reprojection error {error_px:.1f} px',
                            hint='The generated geometry is inconsistent, or K is wrong.')
    return se3.inverse(T_cam_ref)


def _search(X: Array, rays: Array) -> Array:
    """Best T_cam_ref among the three-point solutions of random triples."""
    rng = np.random.default_rng(0)
    unit = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    # Wide triples are far better conditioned: keep the widest quarter.
    triples = np.stack([rng.choice(len(X), 3, replace=False) for _ in range(4 * TRIPLES)])
    corners = rays[triples][:, :, :2]
    area = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    best, best_error = np.eye(4), np.inf
    for triple in triples[np.argsort(-area)[:TRIPLES]]:
        for T in three_point_poses(X[triple], unit[triple]):
            error = _reprojection_errors(X[:300], rays[:300], T)
            median = float(np.median(error))
            if median < best_error:
                best, best_error = T, median
    return best


def three_point_poses(X: Array, unit_rays: Array) -> list[Array]:
    """All T_cam_ref (4, 4) that put three points X (3, 3) on three unit rays (3, 3)."""
    a2, b2, c2 = (float(np.sum((X[i] - X[j]) ** 2)) for i, j in ((1, 2), (0, 2), (0, 1)))
    if min(a2, b2, c2) < 1e-8:
        return []
    ca, cb, cg = (float(unit_rays[i] @ unit_rays[j]) for i, j in ((1, 2), (0, 2), (0, 1)))
    p, q, r = (a2 - c2) / b2, (a2 + c2) / b2, c2 / b2
    coefficients = [
        (p - 1.0) ** 2 - 4.0 * r * ca**2,
        4.0 * (p * (1.0 - p) * cb - (1.0 - q) * ca * cg + 2.0 * r * ca**2 * cb),
        2.0 * (p**2 - 1.0 + 2.0 * p**2 * cb**2 + 2.0 * (1.0 - r) * ca**2 - 4.0 * q * ca * cb * cg
               + 2.0 * (1.0 - a2 / b2) * cg**2),
        4.0 * (-p * (1.0 + p) * cb + 2.0 * a2 / b2 * cg**2 * cb - (1.0 - q) * ca * cg),
        (1.0 + p) ** 2 - 4.0 * a2 / b2 * cg**2,
    ]
    poses = []
    for root in np.roots(coefficients):
        v = float(root.real)
        denominator = 2.0 * (cg - v * ca)
        if abs(root.imag) > 1e-3 * max(1.0, abs(v)) or v <= 0 or abs(denominator) < 1e-9:
            continue
        u = ((p - 1.0) * v**2 - 2.0 * p * cb * v + 1.0 + p) / denominator
        square = 1.0 + v**2 - 2.0 * v * cb
        if u <= 0 or square <= 0:
            continue
        distances = np.sqrt(b2 / square) * np.array([1.0, u, v])
        poses.append(se3.align(X, distances[:, None] * unit_rays))
    return poses


def _reprojection_errors(X: Array, rays: Array, T_cam_ref: Array) -> Array:
    Y = se3.apply(T_cam_ref, X)
    z = np.where(Y[:, 2] > 1e-3, Y[:, 2], np.nan)
    error = np.hypot(Y[:, 0] / z - rays[:, 0], Y[:, 1] / z - rays[:, 1])
    return np.where(np.isfinite(error), error, 1e3)


def _refine(X: Array, rays: Array, T: Array) -> tuple[Array, float]:
    """Gauss-Newton with Tukey weights on the image plane; returns pose and median error."""
    for _ in range(ITERATIONS):
        Y = se3.apply(T, X)
        front = Y[:, 2] > 0.01
        Yf, z = Y[front], Y[front, 2:]
        residual = Yf[:, :2] / z - rays[front, :2]
        norm = np.linalg.norm(residual, axis=1)
        cut = 4.685 * max(1.4826 * float(np.median(norm)), 1e-4)
        w = np.clip(1.0 - (norm / cut) ** 2, 0.0, None) ** 2
        # d(x/z, y/z) for Y' = Y + v + w x Y.
        J = np.zeros((len(Yf), 2, 6))
        J[:, 0, 0] = J[:, 1, 1] = 1.0 / z[:, 0]
        J[:, :, 2] = -Yf[:, :2] / z**2
        rows = J[:, :, :3]
        J[:, :, 3:] = np.cross(Yf[:, None, :], rows)
        H = np.einsum('n,nij,nik->jk', w, J, J)
        g = np.einsum('n,nij,ni->j', w, J, residual)
        step = -np.linalg.solve(H + 1e-9 * np.trace(H) * np.eye(6), g)
        T = se3.exp(step) @ T
        if np.abs(step).max() < 1e-7:
            break
    return T, float(np.median(_reprojection_errors(X, rays, T)))
