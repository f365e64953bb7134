# SPDX-License-Identifier: Apache-2.0
"""Surface model of a parallel gripper, in its TCP frame."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import numpy as np
import trimesh
import yaml
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import gripper_folder

Array = NDArray[np.float64]

HAND_SAMPLES = 700
FINGER_SAMPLES = 160
RIM_LENGTH = 0.006
COVER_SPACING = 0.003
LEAST_SEEN = 0.2  # of a part's surface, from outside; a finger of the Franka Hand has 0.59
_CANDIDATES = 5


@dataclass(frozen=True, eq=False)
class Rims:
    """Convex mesh edges cut into short pieces: an outline consists of some of them.

    points (E, 3) centres when closed, directions (E, 3) motion per metre of opening, normals_a and
    normals_b (E, 3) of the two faces that meet, lengths (E,) m.
    """

    points: Array
    directions: Array
    normals_a: Array
    normals_b: Array
    lengths: Array

    def outline(self, opening: float, eye: Array,
                stride: int = 1) -> tuple[Array, Array, Array]:
        """Pieces where the surface turns away from `eye` (3,): points, outward normals, lengths.

        With a stride every n-th piece stands for n.
        """
        a, b = self.normals_a[::stride], self.normals_b[::stride]
        points = self.points[::stride] + opening * self.directions[::stride]
        view = eye - points
        turns = (np.einsum('ni,ni->n', view, a) > 0) != (np.einsum('ni,ni->n', view, b) > 0)
        view = view[turns]
        outward = a[turns] + b[turns]
        along = np.einsum('ni,ni->n', outward, view) / np.einsum('ni,ni->n', view, view)
        outward -= along[:, None] * view
        outward /= np.sqrt(np.einsum('ni,ni->n', outward, outward))[:, None] + 1e-12
        return points[turns], outward, stride * self.lengths[::stride][turns]


@dataclass(frozen=True, eq=False)
class GripperModel:
    """Meshes and surface samples in the TCP frame (z approach, y opening direction), metres.

    hand_points, hand_normals (N, 3); finger_points, finger_normals (M, 3) of all fingers when
    closed; finger_directions (M, 3), how far each of them moves per metre of opening. Samples are
    in farthest-point order, so any leading slice is an even subsample. `hand_cover`, `finger_cover`
    with `cover_directions` are many more points, ~3 mm apart, to draw silhouettes with.
    `symmetries` (S, 4, 4) are the turns about the TCP that leave the gripper alike, identity first.
    """

    name: str
    hand_points: Array
    hand_normals: Array
    finger_points: Array
    finger_normals: Array
    finger_directions: Array
    opening_range: tuple[float, float]
    symmetries: Array
    hand_cover: Array
    finger_cover: Array
    cover_directions: Array
    rims: Rims
    hand_mesh: trimesh.Trimesh
    finger_meshes: tuple[tuple[trimesh.Trimesh, Array], ...]

    def surface(self, opening: float) -> tuple[Array, Array]:
        """Points and outward normals (N + M, 3) with the fingers `opening` m apart."""
        fingers = self.finger_points + opening * self.finger_directions
        return (np.concatenate([self.hand_points, fingers]),
                np.concatenate([self.hand_normals, self.finger_normals]))

    def cover(self, opening: float) -> Array:
        """Dense points (n, 3) with the fingers `opening` m apart."""
        return np.concatenate(
            [self.hand_cover, self.finger_cover + opening * self.cover_directions])

    def mesh(self, opening: float) -> trimesh.Trimesh:
        """Triangle mesh with the fingers `opening` m apart."""
        parts = [self.hand_mesh]
        for mesh, direction in self.finger_meshes:
            parts.append(mesh.copy().apply_translation(opening * direction))
        return _joined(parts)

    def nearest_symmetric(self, pose: Array, reference: Array) -> Array:
        """Whichever of pose @ symmetries (4, 4) turns least against `reference`."""
        candidates = pose @ self.symmetries
        traces = np.einsum('sij,ij->s', candidates[:, :3, :3], reference[:3, :3])
        return candidates[int(np.argmax(traces))]


def _joined(meshes: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    return cast(trimesh.Trimesh, trimesh.util.concatenate(meshes))


def load_gripper(name: str) -> GripperModel:
    """Model of a gripper by its name, e.g. 'panda_hand', or its folder, see `gripper_folder`."""
    return load_gripper_folder(gripper_folder(name))


def load_gripper_folder(folder: Path) -> GripperModel:
    """Model from a folder with `gripper.yaml` and the meshes (metres) it names.

    Raises `InputError` for a file that is missing, malformed or not in metres, and for a part that
    nobody can see.
    """
    path = folder / 'gripper.yaml'
    try:
        spec = yaml.safe_load(path.read_text())
        T_tcp_hand = se3.inverse(_transform(spec['tcp']))
        hand = _load_mesh(folder / spec['hand_mesh'], T_tcp_hand)
        fingers = []
        for finger in spec['fingers']:
            T_hand_finger = _transform(finger, 'origin')
            mesh = _load_mesh(folder / finger['mesh'], T_tcp_hand @ T_hand_finger)
            # Each finger moves by its share of the opening, whatever their number.
            axis = T_tcp_hand[:3, :3] @ np.asarray(finger['axis'], float)
            fingers.append((mesh, 0.5 * axis / np.linalg.norm(axis)))
        low, high = (float(v) for v in spec['opening_range'])
        symmetries = [np.eye(4)] + [
            se3.make(se3.exp_so3(np.deg2rad(np.asarray(v, float)))) for v in spec['symmetries']]
        name = str(spec['name'])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f'gripper description {path}', expected='a complete gripper.yaml',
                         got=f'{type(error).__name__}: {error}',
                         hint='Compare it with assets/grippers/panda_hand/gripper.yaml.') from error
    if not 0.0 <= low < high:
        raise InputError(f'opening_range in {path}', expected='0 <= closed < open, metres',
                         got=str((low, high)))
    middle = 0.5 * (low + high)
    everything = _joined(
        [hand] + [m.copy().apply_translation(middle * d) for m, d in fingers])
    hand_points, hand_normals = _sample(f'hand_mesh of {path}', hand, everything, np.zeros(3),
                                        HAND_SAMPLES)
    sampled = [_sample(f'finger {i} of {path}', m, everything, middle * d, FINGER_SAMPLES)
               for i, (m, d) in enumerate(fingers)]
    covers = [_cover(m) for m, _ in fingers]
    rims = [_rims(hand, everything, np.zeros(3), np.zeros(3))]
    rims += [_rims(m, everything, middle * d, d) for m, d in fingers]
    return GripperModel(
        name=name, rims=_join(rims), hand_cover=_cover(hand),
        finger_cover=np.concatenate(covers),
        cover_directions=np.concatenate(
            [np.tile(d, (len(p), 1)) for p, (_, d) in zip(covers, fingers, strict=True)]),
        hand_points=hand_points, hand_normals=hand_normals,
        finger_points=np.concatenate([p for p, _ in sampled]),
        finger_normals=np.concatenate([n for _, n in sampled]),
        finger_directions=np.concatenate(
            [np.tile(d, (len(p), 1)) for (p, _), (_, d) in zip(sampled, fingers, strict=True)]),
        opening_range=(low, high), symmetries=np.stack(symmetries), hand_mesh=hand,
        finger_meshes=tuple(fingers))


def _transform(spec: dict, translation: str = 'translation') -> Array:
    rotation = se3.exp_so3(np.deg2rad(np.asarray(spec['rotation_vector'], float)))
    return se3.make(rotation, np.asarray(spec[translation], float))


def _load_mesh(path: Path, T: Array) -> trimesh.Trimesh:
    mesh = cast(trimesh.Trimesh, trimesh.load(path, force='mesh'))
    size = float(np.max(mesh.extents))
    if not 0.01 <= size <= 1.0:
        raise ValueError(f'{path.name} is {size:.3g} m long; a gripper part has 0.01 to 1 m: '
                         'meshes must be in metres')
    if mesh.volume < 0.0:
        mesh.invert()  # its faces look inwards
    return mesh.apply_transform(T)


def _sample(part: str, mesh: trimesh.Trimesh, everything: trimesh.Trimesh, shift: Array,
            count: int) -> tuple[Array, Array]:
    """Even samples of the surface that can be seen from outside, in farthest-point order."""
    points, faces = trimesh.sample.sample_surface(mesh, _CANDIDATES * count, seed=0)
    points, normals = np.asarray(points), np.asarray(mesh.face_normals[faces])
    seen = _visible(points + shift, normals, everything)
    if not seen.mean() >= LEAST_SEEN:
        raise InputError(part, expected=f'{100 * LEAST_SEEN:.0f} % of its surface in sight from '
                                        'outside', got=f'{100 * seen.mean():.0f} %',
                         hint='Do its faces look outwards, and is it where it belongs?')
    points, normals = points[seen], normals[seen]
    order = _farthest_point_order(points, min(count, len(points)))
    return points[order], normals[order]


def _cover(mesh: trimesh.Trimesh) -> Array:
    count = int(mesh.area / COVER_SPACING**2)
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=0)
    return np.asarray(points)


def _rims(mesh: trimesh.Trimesh, everything: trimesh.Trimesh, shift: Array,
          direction: Array) -> Rims:
    convex = mesh.face_adjacency_convex & (mesh.face_adjacency_angles > 1e-3)
    ends = mesh.vertices[mesh.face_adjacency_edges[convex]]
    pair = mesh.face_normals[mesh.face_adjacency[convex]]
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    pieces = np.maximum(np.ceil(length / RIM_LENGTH).astype(int), 1)
    edge = np.repeat(np.arange(len(ends)), pieces)
    u = (np.concatenate([np.arange(n) for n in pieces]) + 0.5) / pieces[edge]
    points = ends[edge, 0] + u[:, None] * (ends[edge, 1] - ends[edge, 0])
    mean = pair[edge].sum(1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-12
    seen = _visible(points + shift, mean, everything)
    return Rims(points[seen], np.tile(direction, (int(seen.sum()), 1)), pair[edge, 0][seen],
                pair[edge, 1][seen], (length / pieces)[edge][seen])


def _join(parts: list[Rims]) -> Rims:
    order = np.random.default_rng(0).permutation(sum(len(p.points) for p in parts))
    return Rims(*(np.concatenate([getattr(p, f.name) for p in parts])[order]
                  for f in fields(Rims)))


def _visible(points: Array, normals: Array, mesh: trimesh.Trimesh) -> NDArray[np.bool_]:
    """Whether any of 42 directions leaves the surface point without meeting the mesh again."""
    seen = np.zeros(len(points), bool)
    for direction in trimesh.creation.icosphere(subdivisions=1).vertices:
        todo = np.flatnonzero(~seen & (normals @ direction > 0.1))
        if len(todo):
            origins = points[todo] + 1e-4 * normals[todo]
            blocked = mesh.ray.intersects_any(origins, np.tile(direction, (len(todo), 1)))
            seen[todo[~blocked]] = True
    return seen


def _farthest_point_order(points: Array, count: int) -> NDArray[np.int64]:
    order = np.zeros(count, np.int64)
    distance = np.full(len(points), np.inf)
    for i in range(1, count):
        distance = np.minimum(distance, np.sum((points - points[order[i - 1]]) ** 2, axis=1))
        order[i] = int(np.argmax(distance))
    return order
