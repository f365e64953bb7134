# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as (4, 4) float64 arrays.

`T_a_b` maps points of frame b into frame a: `p_a = T_a_b @ p_b`. Quaternions are in ROS order,
x, y, z, w. Twists are (6,): translation part first (m), rotation vector second (rad); increments
act from the left, `exp(twist) @ T`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def make(rotation: Array | None = None, translation: Array | None = None) -> Array:
    """Build (..., 4, 4) from rotations (..., 3, 3) and translations (..., 3) in metres; None is
    identity."""
    R = np.eye(3) if rotation is None else np.asarray(rotation)
    p = np.zeros(3) if translation is None else np.asarray(translation)
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], p.shape[:-1]), 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, p, 1.0
    return T


def inverse(T: Array) -> Array:
    """Inverse of (..., 4, 4) rigid transforms."""
    R_t = np.swapaxes(T[..., :3, :3], -1, -2)
    out = np.zeros_like(T)
    out[..., :3, :3] = R_t
    out[..., :3, 3] = -(R_t @ T[..., :3, 3:4])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def apply(T: Array, points: NDArray) -> NDArray:
    """Map (..., 3) points by one (4, 4) transform; keeps the points' dtype."""
    R, t = T[:3, :3].astype(points.dtype), T[:3, 3].astype(points.dtype)
    return points @ R.T + t


def align(source: Array, target: Array) -> Array:
    """Least-squares rigid (4, 4) that maps source (n, 3) onto target (n, 3) (Kabsch)."""
    cs, ct = source.mean(0), target.mean(0)
    U, _, Vt = np.linalg.svd((target - ct).T @ (source - cs))
    R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    return make(R, ct - R @ cs)


def hat(w: Array) -> Array:
    """Skew-symmetric (3, 3) of a (3,) vector."""
    return np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])


def exp_so3(w: Array) -> Array:
    """Rotation (3, 3) of a rotation vector (3,) in rad (Rodrigues)."""
    angle = float(np.linalg.norm(w))
    K = hat(w)
    if angle < 1e-8:
        return np.eye(3) + K + 0.5 * K @ K
    return np.eye(3) + np.sin(angle) / angle * K + (1.0 - np.cos(angle)) / angle**2 * K @ K


def log_so3(R: Array) -> Array:
    """Rotation vector (3,) in rad of a rotation (3, 3); stable near 0 and pi."""
    q = quaternion_from_matrix(R)
    v, w = q[:3], q[3]
    n = float(np.linalg.norm(v))
    if n < 1e-12:
        return np.zeros(3)
    return 2.0 * np.arctan2(n, w) / n * v


def exp(twist: NDArray) -> Array:
    """Transform exp of a twist with the translation applied directly (R(w), t = v)."""
    return make(exp_so3(twist[3:]), twist[:3])


def log(T: Array) -> Array:
    """Inverse of `exp`: (translation, rotation vector)."""
    return np.concatenate([T[:3, 3], log_so3(T[:3, :3])])


def quaternion_from_matrix(R: Array) -> Array:
    """Unit quaternion (x, y, z, w), w >= 0, of a rotation (3, 3) (largest-component method)."""
    m = R
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    squares = np.array([
        1.0 + 2.0 * m[0, 0] - trace,
        1.0 + 2.0 * m[1, 1] - trace,
        1.0 + 2.0 * m[2, 2] - trace,
        1.0 + trace,
    ])
    i = int(np.argmax(squares))
    if i == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]])
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q = np.empty(4)
        q[i], q[j], q[k], q[3] = squares[i], m[j, i] + m[i, j], m[k, i] + m[i, k], m[k, j] - m[j, k]
    q /= np.linalg.norm(q)
    return -q if q[3] < 0 else q


def matrix_from_quaternion(q: Array) -> Array:
    """Rotation (3, 3) of a quaternion (x, y, z, w); normalises it.

    Raises ValueError when the norm is not within 1 % of 1.
    """
    norm = float(np.linalg.norm(q))
    if not 0.99 <= norm <= 1.01:
        raise ValueError(f'quaternion {np.asarray(q).tolist()} has norm {norm:.4f}, expected 1')
    x, y, z, w = np.asarray(q, float) / norm
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])


def interpolate(T0: Array, T1: Array, u: float) -> Array:
    """Straight line in translation and great arc in rotation; u = 0 gives T0, u = 1 gives T1."""
    R = T0[:3, :3] @ exp_so3(u * log_so3(T0[:3, :3].T @ T1[:3, :3]))
    return make(R, (1.0 - u) * T0[:3, 3] + u * T1[:3, 3])


def distance(T0: Array, T1: Array) -> tuple[float, float]:
    """Translation distance in m and rotation angle in rad between two poses."""
    angle = float(np.linalg.norm(log_so3(T0[:3, :3].T @ T1[:3, :3])))
    return float(np.linalg.norm(T0[:3, 3] - T1[:3, 3])), angle


def is_rigid(T: NDArray, tolerance: float = 1e-3) -> bool:
    """Whether (..., 4, 4) are finite, orthonormal, right-handed and have the last row 0 0 0 1.

    Of no transforms at all, (0, 4, 4), this holds.
    """
    if T.shape[-2:] != (4, 4) or not np.isfinite(T).all():
        return False
    R = T[..., :3, :3]
    eye_ok = (np.abs(np.swapaxes(R, -1, -2) @ R - np.eye(3)) < tolerance).all()
    last_ok = (np.abs(T[..., 3, :] - np.array([0.0, 0.0, 0.0, 1.0])) < tolerance).all()
    return bool(eye_ok and last_ok and (np.linalg.det(R) > 0).all())
