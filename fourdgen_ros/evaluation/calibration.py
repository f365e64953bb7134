# SPDX-License-Identifier: Apache-2.0
"""How well a camera's place in the base frame agrees with what the camera sees of the gripper.

The kinematics say where the gripper is, the hand-eye transform where the camera is. The gripper's
model is put there and registered to the measured depth around it: how far it has to move is the
error. One pose of the arm cannot tell hand-eye, joint offsets and depth scale apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap, resize_view
from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.tracker.frames import Camera, frame_view, inside_image, to_pixels
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.registration import FINE, LAST, MIDDLE, facing, refine

Array = NDArray[np.float64]

# The gripper's pixels are those whose points lie so near to the model (m), coarse to fine.
_ROUNDS = ((0.03, MIDDLE), (0.02, FINE), (0.012, LAST))
_ON_MODEL = 0.008  # m between a model point and the depth at its pixel that count as the same
_SEARCH_TOLERANCE = 0.015  # the same while searching
_SEARCH = np.arange(-0.075, 0.076, 0.015)  # m along each axis ...
_TURNS = np.deg2rad(6.0)  # ... and turns about each axis that are tried
_STRIDE = 6  # of the model's points while searching
_STARTS = 6  # of the best that are refined
_LEAST_POINTS = 60  # of the model in sight
_LEAST_AGREEMENT = 0.45  # share of them that the image confirms, less those it denies
_WIDTH = 320  # px; more detail is not needed to register
# Axes of an optical frame (x right, y down, z forward) in a camera's body frame (x forward, z up).
T_LINK_OPTICAL = se3.make(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))


class Verdict(StrEnum):
    """What to think of a calibration."""

    GOOD = 'good'
    ROUGH = 'rough'
    BAD = 'bad'
    UNSEEN = 'unseen'


@dataclass(frozen=True)
class CheckLimits:
    """Up to `good` (m, rad) a calibration is good, up to `rough` it is rough.

    The tracker refuses a start that is 30 mm or 20 deg off; what is below adds to every motion.
    """

    good: tuple[float, float] = (0.006, float(np.deg2rad(2.0)))
    rough: tuple[float, float] = (0.015, float(np.deg2rad(5.0)))


@dataclass(frozen=True, eq=False)
class CameraCheck:
    """What was found for one camera.

    expected, found (4, 4): T_base_tcp by the kinematics, and where the camera sees it (None: it was
    not found). distance m and angle rad between them, `along` m of it along the viewing ray
    (positive: the camera sees it further away), `pixels` the RMS distance between the outlines of
    both in px; `share` 0..1 of the model that the image confirms.
    """

    view: RgbdView
    T_base_camera: Array
    opening: float
    expected: Array
    found: Array | None
    verdict: Verdict
    advice: str
    distance: float = float('nan')
    angle: float = float('nan')
    along: float = float('nan')
    pixels: float = float('nan')
    share: float = 0.0


def check_camera(view: RgbdView, T_base_camera: Array, T_base_tcp: Array, opening: float,
                 gripper: GripperModel, limits: CheckLimits | None = None) -> CameraCheck:
    """Compare where a gripper `opening` m wide should be with where `view` shows it."""
    limits = CheckLimits() if limits is None else limits
    small = view if view.size[1] <= _WIDTH else resize_view(
        view, view.size[0] * _WIDTH // view.size[1], _WIDTH)
    found, share, points = _register(small, _camera(small, T_base_camera), T_base_tcp, opening,
                                     gripper)
    if found is None:
        return CameraCheck(view, T_base_camera, opening, T_base_tcp, None,
                           *_explain(small, T_base_camera, T_base_tcp, opening, gripper, points),
                           share=share)
    camera = _camera(view, T_base_camera)
    found = _refined(view, camera, found, opening, gripper, _ROUNDS[-1:])
    distance, angle = se3.distance(T_base_tcp, found)
    ray = found[:3, 3] - camera.centre
    along = float((found[:3, 3] - T_base_tcp[:3, 3]) @ ray / np.linalg.norm(ray))
    verdict = Verdict.BAD
    for name, (metres, radians) in ((Verdict.ROUGH, limits.rough), (Verdict.GOOD, limits.good)):
        if distance <= metres and angle <= radians:
            verdict = name
    return CameraCheck(
        view, T_base_camera, opening, T_base_tcp, found, verdict,
        _advice(verdict, distance, along), distance, angle, along,
        _outline_distance(camera, gripper, opening, T_base_tcp, found), share)


def _camera(view: RgbdView, T_base_camera: Array) -> Camera:
    return Camera(view.camera, T_base_camera, view.K, *view.size)


def _register(view: RgbdView, camera: Camera, start: Array, opening: float,
              gripper: GripperModel) -> tuple[Array | None, float, int]:
    """T_base_tcp (4, 4) where the gripper is seen, or None; how much of it is confirmed there, and
    how many points of the model are in sight at `start`."""
    surface = gripper.surface(opening)
    in_sight, _ = _agreement(view, camera, start[None], surface, _ON_MODEL)
    if in_sight[0] < _LEAST_POINTS:
        return None, 0.0, int(in_sight[0])
    starts = _starts(start, surface[0].mean(0))
    few = tuple(part[::_STRIDE] for part in surface)
    _, scores = _agreement(view, camera, starts, few, _SEARCH_TOLERANCE)
    best, agreement = start, -1.0
    for i in _apart(starts, scores):
        pose = _refined(view, camera, starts[i], opening, gripper, _ROUNDS)
        _, score = _agreement(view, camera, pose[None], surface, _ON_MODEL)
        if score[0] > agreement:
            best, agreement = pose, float(score[0])
    return (best if agreement >= _LEAST_AGREEMENT else None), agreement, int(in_sight[0])


def _starts(start: Array, middle: Array) -> Array:
    """Poses (S, 4, 4) around the start: shifted, and turned about the gripper's middle (3,)."""
    turns = [np.eye(4)]
    for axis in np.vstack([np.eye(3), -np.eye(3)]):
        R = se3.exp_so3(_TURNS * axis)
        turns.append(se3.make(R, middle - R @ middle))
    shifts = np.stack(np.meshgrid(_SEARCH, _SEARCH, _SEARCH), axis=-1).reshape(-1, 3)
    starts = np.tile(start @ np.stack(turns), (len(shifts), 1, 1, 1))
    starts[..., :3, 3] += shifts[:, None]
    return starts.reshape(-1, 4, 4)


def _apart(starts: Array, scores: Array) -> list[int]:
    """The best starts of which no two are neighbours."""
    chosen: list[int] = []
    for i in np.argsort(-scores, kind='stable'):
        if all(np.linalg.norm(starts[i, :3, 3] - starts[j, :3, 3]) > 0.02 for j in chosen):
            chosen.append(int(i))
        if len(chosen) == _STARTS:
            break
    return chosen


def _refined(view: RgbdView, camera: Camera, pose: Array, opening: float, gripper: GripperModel,
             rounds: tuple) -> Array:
    """Register the model to the pixels whose points lie near to it.

    Nobody has drawn this mask, so its outline says nothing and is left out.
    """
    points = se3.apply(camera.T_ref_cam, pointmap(view.depth, view.K).astype(float))
    valid = np.isfinite(points).all(-1)
    near = np.linalg.norm(np.where(valid[..., None], points, np.inf) - pose[:3, 3], axis=-1) < 0.3
    cover = gripper.cover(opening)
    for reach, stages in rounds:
        distance, _ = cKDTree(cover).query(se3.apply(se3.inverse(pose), points[near]),
                                           distance_upper_bound=reach)
        mask = np.zeros(near.shape, np.float32)
        mask[near] = np.isfinite(distance)
        frame = replace(frame_view(camera, points.astype(np.float32), near, mask), outline=None)
        if len(frame.points) < _LEAST_POINTS:
            break
        pose = refine(gripper, opening, [frame], pose, stages).pose
    return pose


def _agreement(view: RgbdView, camera: Camera, poses: Array, surface: tuple[Array, Array],
               tolerance: float) -> tuple[NDArray[np.int64], Array]:
    """For poses (S, 4, 4): how many surface points look towards the camera inside its image (S,),
    and the share of them that lies at the depth measured there, less the share that the image
    denies because it sees through them (S,). What is hidden counts for neither."""
    counts, scores = [], []
    for part in np.array_split(poses, max(1, len(poses) * len(surface[0]) // 100_000)):
        T = camera.T_cam_ref @ part
        Y = np.einsum('sij,nj->sni', T[:, :3, :3], surface[0]) + T[:, None, :3, 3]
        col, row, seen = inside_image(camera, Y)
        seen &= facing(Y, np.einsum('sij,nj->sni', T[:, :3, :3], surface[1]), np.zeros(3))
        error = np.where(seen, view.depth[row, col] - Y[..., 2], np.nan)
        counts.append(seen.sum(1))
        agree = (np.abs(error) <= tolerance).sum(1) - (error > tolerance).sum(1)
        scores.append(agree / np.maximum(counts[-1], 1))
    return np.concatenate(counts), np.concatenate(scores)


def _outline_distance(camera: Camera, gripper: GripperModel, opening: float, expected: Array,
                      found: Array) -> float:
    points, _, lengths = gripper.rims.outline(
        opening, se3.inverse(camera.T_cam_ref @ found)[:3, 3])
    a, b = (to_pixels(camera, se3.apply(camera.T_cam_ref @ pose, points))
            for pose in (expected, found))
    return float(np.sqrt(np.average(((a - b) ** 2).sum(-1), weights=lengths)))


def _advice(verdict: Verdict, distance: float, along: float) -> str:
    if verdict is Verdict.GOOD:
        return 'Check again in two other poses of the arm.'
    if abs(along) > 0.8 * distance:
        return ('The error lies along the viewing ray: check depth unit, depth scale and '
                'alignment of depth to colour before the hand-eye calibration.')
    if verdict is Verdict.ROUGH:
        return 'Calibrate again with more poses, or lower what you expect of grasps.'
    return ('Calibrate again (docs/calibration.md). If the error changes with the pose of the arm, '
            'look at the joint offsets and the TCP first.')


def _explain(view: RgbdView, T_base_camera: Array, T_base_tcp: Array, opening: float,
             gripper: GripperModel, in_sight: int) -> tuple[Verdict, str]:
    """Why the gripper is not where it should be: the usual mix-ups are tried."""
    for T, mistake in (
            (T_base_camera @ T_LINK_OPTICAL, 'The transform is that of the camera\'s body (x '
             'forward), published for its optical frame: turn it, or publish it for the body.'),
            (T_base_camera @ se3.inverse(T_LINK_OPTICAL), 'The transform is that of the optical '
             'frame (z forward), published for the camera\'s body: name the optical frame.'),
            (se3.inverse(T_base_camera), 'The transform is inverted: publish base -> camera.')):
        found, _, _ = _register(view, _camera(view, T), T_base_tcp, opening, gripper)
        if found is not None:
            return Verdict.BAD, f'The gripper is seen if frames were mixed up. {mistake}'
    if in_sight < _LEAST_POINTS:
        return Verdict.UNSEEN, ('By the transforms the gripper is not in this image. If you see it '
                                'there, the calibration is wrong; else move the arm into view.')
    return Verdict.BAD, ('Nothing like the gripper is near the place where it should be: more than '
                         'about 5 cm off, hidden, or without depth. Look at the picture.')
