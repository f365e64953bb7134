# SPDX-License-Identifier: Apache-2.0
"""Model-based tracking of the gripper on the CPU.

Per frame: several starts (last motion continued, shift of the gripper's pixels, a few turns) are
scored against all views, the best are refined coarse to fine, then the opening is searched. At the
end the whole clip is smoothed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, TrackingError
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.tracker.calibration import depth_scale
from fourdgen_ros.tracker.frames import FrameView, clip_cameras, frame_view
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.opening import filter_openings, measure_opening
from fourdgen_ros.tracker.registration import COARSE, FINE, LAST, MIDDLE, Fit, refine
from fourdgen_ros.tracker.scoring import Scorer, confidence
from fourdgen_ros.tracker.smoothing import smooth

Array = NDArray[np.float64]
log = logging.getLogger(__name__)

MIN_PIXELS = 12.0
COARSE_STARTS, MIDDLE_STARTS = 3, 2
DOUBTFUL = 0.7
TURN = np.deg2rad(12.0)
SAME_POSE = (0.006, np.deg2rad(4.0))


@dataclass(frozen=True)
class TrackerSettings:
    """Tuning of the embedded tracker.

    acceleration (m/s^2) and angular_acceleration (rad/s^2): how fast the motion may change, one
    sigma; independence: share of residuals that count as independent (neighbouring pixels share
    their error); first_pose_sigma: (m, rad) how well the first pose is known; largest_offset: m
    between the gripper seen at frame 0 and the first pose beyond which the clip is refused.
    """

    acceleration: float = 0.25
    angular_acceleration: float = 0.8
    independence: float = 0.05
    first_pose_sigma: tuple[float, float] = (0.005, 0.02)
    largest_offset: float = 0.15


@dataclass(frozen=True, eq=False)
class _Track:
    """One frame: pose (4, 4), information (6, 6), opening m, confidence."""

    pose: Array
    information: Array
    opening: float
    confidence: float


class EmbeddedTracker:
    """Tracks one gripper through futures; holds no state between clips."""

    def __init__(self, gripper: GripperModel, settings: TrackerSettings | None = None) -> None:
        self._gripper = gripper
        self._settings = TrackerSettings() if settings is None else settings

    def track(self, future: Future, first_pose: NDArray[np.float64],
              first_opening: float | None) -> GripperTrajectory:
        """See `fourdgen_ros.tracker.base.Tracker`."""
        # 1. Check the arguments.
        first_pose = checked_pose(first_pose)
        opening = self._checked_opening(first_opening)

        # 2. Cameras, and the depth scale of each view from frame 0.
        cameras = clip_cameras(future)
        clip = [[frame_view(c, future.points[i, t], future.valid[i, t], future.gripper[i, t])
                 for i, c in enumerate(cameras)] for t in range(future.frames)]
        self._check_first_frame(clip[0], future, first_pose)
        if first_opening is None:
            opening = measure_opening(self._gripper, clip[0], first_pose, opening)
        surface = self._gripper.surface(opening)
        scales = [depth_scale(*surface, view, first_pose) for view in clip[0]]
        for i, scale in enumerate(scales):
            if scale != 1.0:
                log.info('depth of view %s scaled by %.4f', cameras[i].name, scale)
        clip = [[view if s == 1.0 else view.scaled(s)
                 for view, s in zip(views, scales, strict=True)] for views in clip]

        # 3. Frame by frame.
        tracks = [self._first(clip[0], first_pose, opening, known=first_opening is not None)]
        for t in range(1, future.frames):
            told = None if future.opening is None else self._clipped(float(future.opening[t]))
            tracks.append(self._next(clip[t], tracks, _shift(clip[t - 1], clip[t]), told))

        # 4. The whole clip.
        s, dt = self._settings, future.dt
        poses = smooth(
            np.stack([k.pose for k in tracks]), np.stack([k.information for k in tracks]),
            position_sigma=s.acceleration * dt**2 + 0.003,
            rotation_sigma=s.angular_acceleration * dt**2 + 0.02)
        trust = np.array([k.confidence for k in tracks])
        openings = filter_openings(np.array([k.opening for k in tracks]), trust)
        times = dt * np.arange(future.frames, dtype=float)
        return GripperTrajectory(poses, np.clip(openings, *self._gripper.opening_range), trust,
                                 times, future.frame_id, future.stamp)

    def _clipped(self, opening: float) -> float:
        return float(np.clip(opening, *self._gripper.opening_range))

    def _checked_opening(self, opening: float | None) -> float:
        low, high = self._gripper.opening_range
        if opening is None:
            return 0.5 * (low + high)
        if not low - 0.01 <= opening <= high + 0.01:
            raise InputError('first opening', expected=f'{low} to {high} m between the pads',
                             got=f'{opening}', hint='A finger joint of the Franka is half of it.')
        return self._clipped(opening)

    def _check_first_frame(self, views: list[FrameView], future: Future, pose: Array) -> None:
        counts = ', '.join(f'{v.camera.name}: {v.pixels:.0f}' for v in views)
        if max(v.pixels for v in views) < MIN_PIXELS:
            raise TrackingError(
                'gripper mask at frame 0', expected=f'at least {MIN_PIXELS:.0f} px in one view',
                got=counts, hint='Check that the gripper is in sight of a camera, has depth there '
                'and that the generator predicts its mask.')
        points = np.concatenate([v.points for v in views])
        surface, _ = self._gripper.surface(self._gripper.opening_range[1])
        offset = float(np.linalg.norm(
            np.median(points, axis=0) - se3.apply(pose, surface).mean(0)))
        if offset > self._settings.largest_offset:
            raise TrackingError(
                'first pose of the gripper',
                expected=f'within {self._settings.largest_offset} m of the gripper seen at frame 0',
                got=f'{offset:.3f} m away ({counts} px)',
                hint=f'Check the extrinsics of the reference camera {future.cameras[0]!r} and that '
                'the joint states belong to the same moment.')

    def _first(self, views: list[FrameView], pose: Array, opening: float, *,
               known: bool) -> _Track:
        g, s = self._gripper, self._settings
        fit = refine(g, opening, views, pose, MIDDLE + FINE)
        trust = confidence(g, opening, views, fit)
        kinematics = np.diag(np.repeat(np.array(s.first_pose_sigma) ** -2.0, 3))
        seen = s.independence * trust * fit.information
        # Two measurements of the same pose, weighed by their information.
        step = np.linalg.solve(seen + kinematics, seen @ se3.log(se3.inverse(pose) @ fit.pose))
        if not known:
            opening = measure_opening(g, views, fit.pose, opening)
        return _Track(pose @ se3.exp(step), seen + kinematics, opening, trust)

    def _next(self, views: list[FrameView], tracks: list[_Track], shift: Array | None,
              told: float | None) -> _Track:
        """`told`: the opening by the generator's own word, else it is measured on the pixels."""
        last = tracks[-1]
        before = tracks[-2].pose if len(tracks) > 1 else last.pose
        continued = se3.make(last.pose[:3, :3] @ before[:3, :3].T @ last.pose[:3, :3],
                             2.0 * last.pose[:3, 3] - before[:3, 3])
        if sum(v.pixels for v in views) < MIN_PIXELS:
            opening = last.opening if told is None else told
            return _Track(continued, np.zeros((6, 6)), opening, 0.0)
        g = self._gripper
        starts = self._starts(views, last.pose, continued, shift)
        score = Scorer(*g.surface(last.opening), views)(starts)
        starts = starts[np.argsort(-score)]
        fit = self._best(views, last.opening, starts[:COARSE_STARTS])
        if fit.agreement < DOUBTFUL:
            others = self._best(views, last.opening, starts[COARSE_STARTS:])
            fit = max(fit, others, key=lambda f: f.agreement)
        opening = measure_opening(g, views, fit.pose, last.opening) if told is None else told
        fit = refine(g, opening, views, fit.pose, LAST)
        trust = confidence(g, opening, views, fit)
        # Poses alike under symmetry are told apart by continuity alone.
        pose = g.nearest_symmetric(fit.pose, last.pose)
        return _Track(pose, self._settings.independence * trust * fit.information, opening, trust)

    def _best(self, views: list[FrameView], opening: float, starts: Array) -> Fit:
        g = self._gripper
        fits = [refine(g, opening, views, start, COARSE) for start in starts]
        fits = _distinct(sorted(fits, key=lambda f: -f.agreement))[:MIDDLE_STARTS]
        fits = [refine(g, opening, views, f.pose, MIDDLE) for f in fits]
        return refine(g, opening, views, max(fits, key=lambda f: f.agreement).pose, FINE)

    def _starts(self, views: list[FrameView], last: Array, continued: Array,
                shift: Array | None) -> Array:
        """Poses (S, 4, 4) to try: motion continued, pixels followed, and turns about that."""
        middle = self._gripper.hand_points.mean(0)
        centred, turned = last.copy(), continued.copy()
        seen = np.median(np.concatenate([v.points for v in views]), axis=0)
        centred[:3, 3] = seen - last[:3, :3] @ middle
        moved = centred
        if shift is not None:
            moved = last.copy()
            moved[:3, 3] += shift
        turned[:3, 3] = moved[:3, 3]
        starts = [continued, moved, turned, centred]
        for axis in np.vstack([np.eye(3), -np.eye(3)]):
            R = se3.exp_so3(TURN * axis)
            starts.append(moved @ se3.make(R, middle - R @ middle))
        return np.stack(starts)


def _distinct(fits: list[Fit]) -> list[Fit]:
    """Without those that came to nearly the same pose as one before them."""
    kept: list[Fit] = []
    for fit in fits:
        if all(_apart(fit.pose, other.pose) for other in kept):
            kept.append(fit)
    return kept


def _apart(a: Array, b: Array) -> bool:
    distance, angle = se3.distance(a, b)
    return distance > SAME_POSE[0] or angle > SAME_POSE[1]


def _shift(before: list[FrameView], now: list[FrameView]) -> Array | None:
    """How far the gripper's pixels moved (3,) m between two frames, mean over views."""
    shifts, weights = [], []
    for a, b in zip(before, now, strict=True):
        if min(a.pixels, b.pixels) >= MIN_PIXELS:
            shifts.append(np.median(b.points, axis=0) - np.median(a.points, axis=0))
            weights.append(min(a.pixels, b.pixels))
    return np.average(shifts, axis=0, weights=weights) if shifts else None


def checked_pose(pose: NDArray) -> Array:
    """A first pose as floats; InputError unless it is a rigid (4, 4) transform."""
    pose = np.asarray(pose, float)
    if not se3.is_rigid(pose) or pose.ndim != 2:
        raise InputError('first pose', expected='a rigid (4, 4) transform T_ref_tcp',
                         got=str(pose.tolist()))
    return pose
