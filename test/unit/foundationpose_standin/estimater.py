# SPDX-License-Identifier: Apache-2.0
"""A STAND-IN for NVlabs/FoundationPose, for tests: its calls, and none of its code or networks.

Names and signatures are those of FoundationPose's `estimater.py` (bf25183). What they do is a small
point-to-plane ICP on the depth alone, so that poses are found and not made up. Re-stated from its
behaviour: it drops depth whose neighbourhood differs, answers with an identity rotation when fewer
than four pixels of the mask are left, keeps `pose_last` of the centred mesh, seeds every random
generator and logs. Faults are ordered by `faults.json` beside this file: {"track": {"3": "die"}}
lets the third call of `track_one` end the process.
"""

import json
import logging
import os
import sys
import time
import types

import numpy as np
import trimesh
from scipy.spatial import cKDTree

FOLDER = os.path.dirname(os.path.abspath(__file__))
mycpp = wp = kornia = types.SimpleNamespace()  # what FoundationPose needs to have been built
dr = types.SimpleNamespace(RasterizeCudaContext=lambda device=None: object())

POINTS = 800
WIDE, GATES = (0.06, 0.04, 0.03), (0.03, 0.02, 0.015, 0.012, 0.01, 0.01, 0.01, 0.01)
DAMPING = 0.003  # where the depth says nothing, stay


class ScorePredictor:
    def __init__(self, amp=True):
        self.amp = amp


class PoseRefinePredictor:
    def __init__(self,):
        pass


class FoundationPose:
    def __init__(self, model_pts, model_normals, symmetry_tfs=None, mesh=None,
                 scorer: ScorePredictor = None, refiner: PoseRefinePredictor = None, glctx=None,
                 debug=0, debug_dir='/home/bowen/debug/novel_pose_debug/'):
        os.makedirs(debug_dir, exist_ok=True)
        self.model_center = (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2
        centred = mesh.copy()
        centred.vertices = mesh.vertices - self.model_center.reshape(1, 3)
        points, faces = trimesh.sample.sample_surface(centred, POINTS, seed=0)
        self._points, self._normals = np.asarray(points), np.asarray(centred.face_normals[faces])
        self.mesh_path = os.path.join(debug_dir, 'mesh.obj')
        centred.export(self.mesh_path)
        self.symmetry_tfs = tensor(symmetry_tfs)
        self._calls = {'register': 0, 'track': 0}
        self.pose_last = None

    def get_tf_to_centered_mesh(self):
        tf = np.eye(4)
        tf[:3, 3] = -self.model_center
        return tensor(tf)

    def register(self, K, rgb, depth, ob_mask, ob_id=None, glctx=None, iteration=5):
        np.random.seed(0)
        self._fault('register', None)
        assert rgb.dtype == np.uint8 and rgb.shape == (*depth.shape, 3) and K.shape == (3, 3)
        depth = eroded(depth)
        rows, cols = np.nonzero((depth >= 0.001) & (ob_mask > 0))
        if len(rows) < 4:
            return np.eye(4)
        seen = np.stack([(cols - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1],
                         np.ones(len(rows))], axis=1) * depth[rows, cols, None]
        middle = np.median(seen, axis=0)
        fits = []
        for R in rotations():
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = R, middle
            T = self._icp(T, depth, K, WIDE, 4)
            fits.append((self._cost(T, seen, ob_mask, K), T))
        fits.sort(key=lambda fit: fit[0])
        refined = [self._icp(T, depth, K, GATES * iteration, 1) for _, T in fits[:12]]
        best = min(refined, key=lambda T: self._cost(T, seen, ob_mask, K))
        self.pose_last = tensor(best)
        return (self.pose_last @ self.get_tf_to_centered_mesh()).numpy()

    def track_one(self, rgb, depth, K, iteration, extra={}):  # noqa: B006
        if self.pose_last is None:
            raise RuntimeError
        logging.info('Welcome')
        assert rgb.dtype == np.uint8 and rgb.shape == (*depth.shape, 3) and K.shape == (3, 3)
        start = self.pose_last.numpy().astype(float)
        pose = self._icp(start, eroded(depth), K, GATES * iteration, 1)
        pose = self._fault('track', pose)
        self.pose_last = tensor(pose)
        return (self.pose_last @ self.get_tf_to_centered_mesh()).numpy().reshape(4, 4)

    def _icp(self, T, depth, K, gates, stride):
        """Pose (4, 4) that puts the model's visible points onto the surface that was measured."""
        q, n = self._points[::stride], self._normals[::stride]
        for gate in gates:
            Y, N = q @ T[:3, :3].T + T[:3, 3], n @ T[:3, :3].T
            row, col, inside = pixels(Y, K, depth.shape)
            z = depth[row, col]
            use = inside & (np.einsum('ni,ni->n', -Y, N) > 0.2 * np.linalg.norm(Y, axis=1))
            use &= (z > 0.001) & (np.abs(z - Y[:, 2]) < 2 * gate)
            if use.sum() < 12:
                return T
            Y, N, z = Y[use], N[use], z[use]
            along = np.einsum('ni,ni->n', Y * (z / Y[:, 2])[:, None] - Y, N)
            J = np.concatenate([N, np.cross(Y, N)], axis=1)
            weighted = J * np.clip(1 - (along / gate) ** 2, 0, None)[:, None] ** 2
            centre = np.eye(6)  # damp turns about the object, not about the camera
            x, y, w = T[:3, 3]
            centre[:3, 3:] = [[0, w, -y], [-w, 0, x], [y, -x, 0]]
            J, weighted = J @ np.linalg.inv(centre), weighted @ np.linalg.inv(centre)
            H = weighted.T @ J
            scale = np.trace(H[:3, :3]) / 3 * np.array([1, 1, 1, 0.01, 0.01, 0.01])
            step = np.linalg.solve(H + DAMPING * np.diag(scale), weighted.T @ along)
            moved = exp(np.concatenate([np.zeros(3), step[3:]]))[:3, :3]
            T = T.copy()
            T[:3, :3], T[:3, 3] = moved @ T[:3, :3], T[:3, 3] + step[:3]
        return T

    def _cost(self, T, seen, mask, K):
        """How far what was seen lies from the model, and how much of the model beside the mask."""
        Y = self._points @ T[:3, :3].T + T[:3, 3]
        distance, _ = cKDTree(Y).query(seen, distance_upper_bound=0.03)
        row, col, inside = pixels(Y, K, mask.shape)
        return np.mean(np.minimum(distance / 0.03, 1.0) ** 2) + np.mean(
            ~inside | (mask[row, col] == 0))

    def _fault(self, call, pose):
        self._calls[call] += 1
        path = os.path.join(FOLDER, 'faults.json')
        if not os.path.isfile(path):
            return pose
        with open(path) as file:
            faults = json.load(file).get(call, {})
        fault = faults.get(str(self._calls[call]), faults.get('all'))
        if fault == 'die':
            sys.stderr.write('stand-in: CUDA error: an illegal memory access\n')
            sys.stderr.flush()
            os._exit(7)
        if fault == 'raise':
            raise RuntimeError('CUDA out of memory')
        if fault == 'sleep':
            time.sleep(60)
        if fault == 'jump':
            pose = pose.copy()
            pose[:3, 3] += [0.4, 0.0, 0.0]
        if fault == 'drift':  # too little for a jump, too much for the truth
            pose = pose.copy()
            pose[:3, 3] += [0.05, 0.03, 0.0]
        if fault == 'flip':
            pose = pose @ np.diag([-1.0, -1.0, 1.0, 1.0])
        if fault == 'nan':
            pose = np.full((4, 4), np.nan)
        return pose


def tensor(values):
    """A float32 tensor, of the CPU; loading torch takes seconds, so only who needs it does."""
    import torch

    return torch.as_tensor(np.asarray(values), dtype=torch.float)


def eroded(depth, radius=2, threshold=0.001, share=0.8):
    """Depth (H, W), 0 where more than `share` of the neighbourhood lies further off than 1 mm."""
    h, w = depth.shape
    padded = np.pad(np.asarray(depth, float), radius, constant_values=np.nan)
    bad, total = np.zeros((h, w)), np.zeros((h, w))
    for dr_ in range(2 * radius + 1):
        for dc in range(2 * radius + 1):
            other = padded[dr_:dr_ + h, dc:dc + w]
            there = np.isfinite(other)
            other = np.where(there, other, 0.0)
            total += there
            bad += there & ((other < 0.001) | (np.abs(other - depth) > threshold))
    return np.where((bad / total > share) | (depth < 0.001), 0.0, depth)


def pixels(Y, K, shape):
    """Row, column and whether points (n, 3) fall into an image; 0 where they do not."""
    uv = Y[:, :2] / np.maximum(Y[:, 2:], 0.05) * K[[0, 1], [0, 1]] + K[:2, 2]
    col, row = np.rint(uv).astype(int).T
    inside = (Y[:, 2] > 0.05) & (col >= 0) & (col < shape[1]) & (row >= 0) & (row < shape[0])
    return np.where(inside, row, 0), np.where(inside, col, 0), inside


def rotations():
    """Rotations (n, 3, 3) of an object before a camera: all around, six turns in the plane each."""
    out = []
    for z in trimesh.creation.icosphere(subdivisions=1).vertices:
        x = np.cross([0.3, 0.5, 0.8], z)
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z], axis=1)
        for angle in np.deg2rad(np.arange(0, 360, 60)):
            c, s = np.cos(angle), np.sin(angle)
            out.append((R @ [[c, -s, 0], [s, c, 0], [0, 0, 1]]).T)
    return out


def exp(twist):
    """SE(3) (4, 4) of a small twist (6,), translation first."""
    w = twist[3:]
    angle = np.linalg.norm(w) + 1e-12
    a, b, c = w / angle
    W = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    T = np.eye(4)
    T[:3, :3] += np.sin(angle) * W + (1 - np.cos(angle)) * W @ W
    T[:3, 3] = twist[:3]
    return T
