# SPDX-License-Identifier: Apache-2.0
"""Ray-cast clips of the panda hand over a table, for the tracker's tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import intrinsics_from_fovy
from fourdgen_ros.core.types import Future
from fourdgen_ros.tracker.gripper_model import GripperModel

Array = NDArray[np.float64]
DOWN = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Clip:
    """A future with the truth: poses (T, 4, 4) of the TCP in the reference frame, opening (T,)."""

    future: Future
    poses: Array
    opening: Array
    T_ref_cam: Array


def look_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> Array:
    """Optical frame (4, 4) of a camera at `eye`."""
    z = np.subtract(target, eye)
    z = z / np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    return se3.make(np.stack([x, np.cross(z, x), z], axis=1), np.array(eye))


CAMERAS = (look_at((1.25, -0.45, 0.65), (0.5, 0.0, 0.2)),
           look_at((0.95, 0.75, 0.55), (0.5, 0.0, 0.2)))


def motion(rng: np.random.Generator, frames: int, step: float, turn: float) -> Array:
    """Poses (T, 4, 4) in the base frame: smooth, at most `step` m and `turn` rad a frame."""
    while True:
        centre = np.array([0.5, 0.0, 0.25])
        velocity = rng.normal(size=3)
        spin = rng.normal(size=3)
        p, R = centre + rng.uniform(-0.08, 0.08, 3), DOWN @ se3.exp_so3(
            np.array([0.2, 0.2, 0.8]) * rng.normal(size=3))
        out = []
        for _ in range(frames):
            out.append(se3.make(R, p))
            velocity = 0.7 * velocity / np.linalg.norm(velocity) + 0.5 * rng.normal(size=3)
            spin = 0.7 * spin / np.linalg.norm(spin) + 0.5 * rng.normal(size=3)
            p = p + velocity / np.linalg.norm(velocity) * step * rng.uniform(0.3, 1.0)
            R = R @ se3.exp_so3(spin / np.linalg.norm(spin) * turn * rng.uniform(0.3, 1.0))
        poses = np.stack(out)
        t = poses[:, :3, 3]
        inside = (np.abs(t - centre) < [0.2, 0.2, 0.16]).all()
        if inside and (poses[:, 2, 2] < -0.5).all():
            return poses


def _scenery() -> trimesh.Trimesh:
    table = trimesh.creation.box((1.2, 1.4, 0.05)).apply_translation((0.5, 0, -0.025))
    bowl = trimesh.creation.cylinder(0.07, 0.06).apply_translation((0.55, 0.15, 0.03))
    box = trimesh.creation.box((0.1, 0.15, 0.12)).apply_translation((0.4, -0.2, 0.06))
    wall = trimesh.creation.box((0.05, 2.5, 1.5)).apply_translation((-0.4, 0, 0.5))
    return trimesh.util.concatenate([table, bowl, box, wall])


def render_clip(gripper: GripperModel, poses: Array, opening: Array, *, size: tuple[int, int],
                dt: float = 0.4) -> Clip:
    """Clean clip: exact points, hard masks."""
    h, w = size
    K = intrinsics_from_fovy(np.deg2rad(44.0), h, w)
    v, u = np.mgrid[:h, :w]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((h, w))], -1)
    rays = rays.reshape(-1, 3)
    stub = trimesh.creation.cylinder(0.045, 0.12).apply_translation((0, 0, -0.1034 - 0.087))
    elbow = trimesh.creation.box((0.3, 0.1, 0.1)).apply_translation((-0.12, 0, -0.1034 - 0.19))
    arm, scenery = trimesh.util.concatenate([stub, elbow]), _scenery()
    T_ref_base = se3.inverse(CAMERAS[0])
    V, T = len(CAMERAS), len(poses)
    points = np.full((V, T, h, w, 3), np.nan, np.float32)
    gripper_mask = np.zeros((V, T, h, w), np.float32)
    for t in range(T):
        hand = gripper.mesh(float(opening[t])).apply_transform(poses[t])
        mesh = trimesh.util.concatenate([hand, arm.copy().apply_transform(poses[t]), scenery])
        for i, T_base_cam in enumerate(CAMERAS):
            directions = rays @ T_base_cam[:3, :3].T
            origin = T_base_cam[:3, 3]
            face = mesh.ray.intersects_first(np.tile(origin, (len(rays), 1)), directions)
            hit = face >= 0
            n, a = mesh.face_normals[face[hit]], mesh.triangles[face[hit], 0]
            depth = np.sum(n * (a - origin), 1) / np.sum(n * directions[hit], 1)
            base = origin + depth[:, None] * directions[hit]
            points[i, t].reshape(-1, 3)[hit] = se3.apply(T_ref_base, base)
            gripper_mask[i, t].reshape(-1)[hit] = face[hit] < len(hand.faces)
    rgb = np.zeros(points.shape, np.uint8)
    future = Future(rgb, points, np.isfinite(points).all(-1), gripper_mask, dt,
                    np.tile(K, (V, 1, 1)), tuple(f'cam{i}' for i in range(V)), 0, 'test', 'ref')
    return Clip(future, T_ref_base @ poses, np.asarray(opening, float),
                np.stack([T_ref_base @ c for c in CAMERAS]))


def random_clip(gripper: GripperModel, seed: int, *, frames: int = 9, step: float = 0.1,
                turn: float = 0.2, size: tuple[int, int] = (96, 128)) -> Clip:
    """Clip of random motion with the fingers closing half way."""
    rng = np.random.default_rng(seed)
    poses = motion(rng, frames, step, turn)
    opening = np.where(np.arange(frames) < frames // 2, 0.075, rng.uniform(0.01, 0.06))
    return render_clip(gripper, poses, opening, size=size)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], pixels: float) -> Array:
    noise = ndimage.gaussian_filter(rng.normal(size=shape), (0, 0, pixels, pixels, 0))
    return noise / noise.std()


def corrupted(clip: Clip, seed: int, *, iid: float, correlated: float, blur: float,
              outliers: float = 0.0) -> Future:
    """The clip as a generator would draw it.

    iid, correlated: m of noise per axis, the latter smooth over ~10 px; blur: sigma in px of masks
    and points; outliers: share of pixels thrown up to 10 cm off.
    """
    f = clip.future
    rng = np.random.default_rng(seed)
    # Far background would smear metres into the edges; blurring is done in a bounded range.
    points = np.nan_to_num(f.points.astype(float), nan=1.5)
    sigma = (0, 0, blur, blur, 0)
    if blur > 0:
        points = ndimage.gaussian_filter(points, sigma)
        mask = ndimage.gaussian_filter(f.gripper.astype(float), sigma[:4])
    else:
        mask = f.gripper.astype(float)
    scale = f.points.shape[2] / 96
    points += iid * rng.normal(size=points.shape)
    points += correlated * _smooth_noise(rng, points.shape, 5.0 * scale)
    bad = rng.random(mask.shape) < outliers
    points[bad] += rng.uniform(-0.1, 0.1, (int(bad.sum()), 3))
    return Future(f.rgb, points.astype(np.float32), f.valid, mask.astype(np.float32), f.dt, f.K,
                  f.cameras, f.stamp, f.generator, f.frame_id)
