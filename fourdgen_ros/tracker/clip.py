# SPDX-License-Identifier: Apache-2.0
"""A future as every tracker needs it, checked and calibrated, and the end that they share."""

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
from fourdgen_ros.tracker.registration import Fit
from fourdgen_ros.tracker.smoothing import smooth

Array = NDArray[np.float64]
log = logging.getLogger(__name__)

MIN_PIXELS = 12.0


@dataclass(frozen=True)
class TrackerSettings:
    """What trackers assume of motion and measurements.

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
class Track:
    """One frame: pose T_ref_tcp (4, 4), information (6, 6) of a twist in the TCP frame (zero: not
    seen), opening m, confidence 0..1."""

    pose: Array
    information: Array
    opening: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Clip:
    """A future to be tracked: `frames[t][i]` is view i at frame t, with its depth calibrated.

    first_pose T_ref_tcp (4, 4) and first_opening (m) hold for frame 0; `opening_known` says whether
    the latter was told or measured.
    """

    gripper: GripperModel
    settings: TrackerSettings
    future: Future
    frames: list[list[FrameView]]
    first_pose: Array
    first_opening: float
    opening_known: bool

    def told(self, t: int) -> float | None:
        """The opening (m) at frame t by the generator's own word, if it has one."""
        opening = self.future.opening
        return None if opening is None else _clipped(self.gripper, float(opening[t]))

    def first(self, fit: Fit, confidence: float) -> Track:
        """Frame 0: what the kinematics say and what was seen, weighed by their information."""
        s, pose = self.settings, self.first_pose
        kinematics = np.diag(np.repeat(np.array(s.first_pose_sigma) ** -2.0, 3))
        seen = s.independence * confidence * fit.information
        pull = seen @ se3.log(se3.inverse(pose) @ fit.pose)
        step = np.asarray(np.linalg.solve(seen + kinematics, pull), np.float64)
        opening = self.first_opening
        if not self.opening_known:
            opening = measure_opening(self.gripper, self.frames[0], fit.pose, opening)
        return Track(pose @ se3.exp(step), seen + kinematics, opening, confidence)

    def trajectory(self, tracks: list[Track]) -> GripperTrajectory:
        """All frames smoothed together."""
        s, dt, future = self.settings, self.future.dt, self.future
        poses = smooth(
            np.stack([k.pose for k in tracks]), np.stack([k.information for k in tracks]),
            position_sigma=s.acceleration * dt**2 + 0.003,
            rotation_sigma=s.angular_acceleration * dt**2 + 0.02)
        trust = np.array([k.confidence for k in tracks])
        openings = filter_openings(np.array([k.opening for k in tracks]), trust)
        times = dt * np.arange(future.frames, dtype=float)
        return GripperTrajectory(poses, np.clip(openings, *self.gripper.opening_range), trust,
                                 times, future.frame_id, future.stamp)


def prepare_clip(gripper: GripperModel, settings: TrackerSettings, future: Future,
                 first_pose: NDArray, first_opening: float | None) -> Clip:
    """Check the arguments of `Tracker.track`, find the cameras, calibrate the depth of each view.

    Raises `InputError` and `TrackingError` as `fourdgen_ros.tracker.base.Tracker` says.
    """
    first_pose = checked_pose(first_pose)
    opening = _checked_opening(gripper, first_opening)
    cameras = clip_cameras(future)
    frames = [[frame_view(c, future.points[i, t], future.valid[i, t], future.gripper[i, t])
               for i, c in enumerate(cameras)] for t in range(future.frames)]
    _check_first_frame(gripper, settings, frames[0], future, first_pose)
    if first_opening is None:
        opening = measure_opening(gripper, frames[0], first_pose, opening)
    surface = gripper.surface(opening)
    scales = [depth_scale(*surface, view, first_pose) for view in frames[0]]
    for i, scale in enumerate(scales):
        if scale != 1.0:
            log.info('depth of view %s scaled by %.4f', cameras[i].name, scale)
    frames = [[view if s == 1.0 else view.scaled(s)
               for view, s in zip(views, scales, strict=True)] for views in frames]
    return Clip(gripper, settings, future, frames, first_pose, opening, first_opening is not None)


def _clipped(gripper: GripperModel, opening: float) -> float:
    return float(np.clip(opening, *gripper.opening_range))


def checked_pose(pose: NDArray) -> Array:
    """A first pose as floats; InputError unless it is a rigid (4, 4) transform."""
    pose = np.asarray(pose, float)
    if not se3.is_rigid(pose) or pose.ndim != 2:
        raise InputError('first pose', expected='a rigid (4, 4) transform T_ref_tcp',
                         got=str(pose.tolist()))
    return pose


def _checked_opening(gripper: GripperModel, opening: float | None) -> float:
    low, high = gripper.opening_range
    if opening is None:
        return 0.5 * (low + high)
    if not low - 0.01 <= opening <= high + 0.01:
        raise InputError('first opening', expected=f'{low} to {high} m between the pads',
                         got=f'{opening}', hint='A finger joint of the Franka is half of it.')
    return _clipped(gripper, opening)


def _check_first_frame(gripper: GripperModel, settings: TrackerSettings, views: list[FrameView],
                       future: Future, pose: Array) -> None:
    counts = ', '.join(f'{v.camera.name}: {v.pixels:.0f}' for v in views)
    if max(v.pixels for v in views) < MIN_PIXELS:
        raise TrackingError(
            'gripper mask at frame 0', expected=f'at least {MIN_PIXELS:.0f} px in one view',
            got=counts, hint='Check that the gripper is in sight of a camera, has depth there '
            'and that the generator predicts its mask.')
    points = np.concatenate([v.points for v in views])
    surface, _ = gripper.surface(gripper.opening_range[1])
    offset = float(np.linalg.norm(
        np.median(points, axis=0) - se3.apply(pose, surface).mean(0)))
    if offset > settings.largest_offset:
        raise TrackingError(
            'first pose of the gripper',
            expected=f'within {settings.largest_offset} m of the gripper seen at frame 0',
            got=f'{offset:.3f} m away ({counts} px)',
            hint=f'Check the extrinsics of the reference camera {future.cameras[0]!r} and that '
            'the joint states belong to the same moment.')
