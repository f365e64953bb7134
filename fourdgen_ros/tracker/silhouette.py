# SPDX-License-Identifier: Apache-2.0
"""Tracking of the gripper in futures without points: silhouettes in calibrated views.

For generators that imagine RGB alone. Depth is replaced by what a calibrated stereo rig knows, the
poses of the cameras: per frame the outlines of the gripper's meshes are registered to the masks of
all views. The translation starts from the middle of the masks, triangulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, TrackingError
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.tracker.embedded import (
    DOUBTFUL,
    MIN_PIXELS,
    TURN,
    TrackerSettings,
    checked_pose,
)
from fourdgen_ros.tracker.frames import (
    NEAR,
    Camera,
    FrameView,
    frame_view,
    inside_image,
    to_pixels,
)
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.opening import filter_openings
from fourdgen_ros.tracker.registration import Fit, Stage, refine
from fourdgen_ros.tracker.scoring import confidence, mask_overlap
from fourdgen_ros.tracker.smoothing import smooth

Array = NDArray[np.float64]

_COARSE = (Stage(0.05, 4, 3, points=False),)
_FINE = (Stage(0.03, 3, points=False), Stage(0.015, 4, projective=True, points=False))
_REFINED = 2  # starts that are worth it
_SHIFTS = 3  # Gauss-Newton steps of the translation that `_centred` makes
# how the gripper goes on between frames, where it is not seen: 8 cm and 9 deg, one sigma
_STEADY = np.diag(np.repeat([0.08**-2, 0.15**-2], 3))
_DAMPING = 0.05  # of the sight of one view, which does not see along its own rays


class SilhouetteTracker:
    """Implements the `Tracker` protocol for futures whose points are not valid.

    `camera_poses()` gives T_base_camera (4, 4), optical, of the cameras by name; any common frame
    will do. The opening is the future's own or stays as it is: of three pixels of a finger without
    depth nothing is measured. `mount` (n, 3), m in the TCP frame, some mm apart: the surface of
    what carries the gripper, which hides a part of it.
    """

    def __init__(self, gripper: GripperModel, camera_poses: Callable[[], Mapping[str, Array]],
                 mount: Array | None = None, settings: TrackerSettings | None = None) -> None:
        self._gripper, self._camera_poses = gripper, camera_poses
        self._mount = np.zeros((0, 3)) if mount is None else mount
        self._settings = TrackerSettings() if settings is None else settings

    def track(self, future: Future, first_pose: NDArray[np.float64],
              first_opening: float | None) -> GripperTrajectory:
        """See `fourdgen_ros.tracker.base.Tracker`; InputError also for an unknown camera."""
        first_pose = checked_pose(first_pose)
        low, high = self._gripper.opening_range
        told = future.opening if future.opening is not None else np.full(
            future.frames, high if first_opening is None else first_opening)
        openings = np.clip(np.asarray(told, float), low, high)
        cameras = self._cameras(future)
        clip = [[_silhouette(c, future.gripper[i, t]) for i, c in enumerate(cameras)]
                for t in range(future.frames)]
        if max(v.pixels for v in clip[0]) < MIN_PIXELS:
            raise TrackingError('gripper mask at frame 0',
                                expected=f'at least {MIN_PIXELS:.0f} px in one view',
                                got=', '.join(f'{v.camera.name}: {v.pixels:.0f}' for v in clip[0]))

        known = np.diag(np.repeat(np.array(self._settings.first_pose_sigma) ** -2.0, 3))
        poses, information, trust = [first_pose], [known], [1.0]
        for t in range(1, future.frames):
            fit, sure = self._next(clip[t], float(openings[t]), poses)
            poses.append(fit.pose)
            information.append(self._settings.independence * sure * fit.information)
            trust.append(sure)
        s, dt = self._settings, future.dt
        smoothed = smooth(np.stack(poses), np.stack(information),
                          position_sigma=s.acceleration * dt**2 + 0.003,
                          rotation_sigma=s.angular_acceleration * dt**2 + 0.02)
        confidence = np.array(trust)
        opening = np.clip(filter_openings(openings, confidence), low, high)
        return GripperTrajectory(smoothed, opening, confidence,
                                 dt * np.arange(future.frames, dtype=float), future.frame_id,
                                 future.stamp)

    def _cameras(self, future: Future) -> list[Camera]:
        known = self._camera_poses()
        missing = [name for name in future.cameras if name not in known]
        if missing:
            raise InputError('calibration', expected=f'the poses of {list(future.cameras)}',
                             got=f'none of {missing}')
        T_ref_base = se3.inverse(known[future.cameras[0]])
        height, width = future.rgb.shape[2:4]
        return [Camera(name, T_ref_base @ known[name], np.asarray(K, float), height, width)
                for name, K in zip(future.cameras, future.K, strict=True)]

    def _next(self, views: list[FrameView], opening: float,
              poses: list[Array]) -> tuple[Fit, float]:
        """The gripper's pose, which follows `poses`, and the trust in it."""
        last, before = poses[-1], poses[-2] if len(poses) > 1 else poses[-1]
        continued = se3.make(last[:3, :3] @ before[:3, :3].T @ last[:3, :3],
                             2.0 * last[:3, 3] - before[:3, 3])
        views = [v for v in views if v.pixels >= MIN_PIXELS]
        if not views:
            return Fit(continued, np.zeros((6, 6)), 0.0, 0.0), 0.0
        g, (surface, _) = self._gripper, self._gripper.surface(opening)
        best = self._best(views, opening, surface, np.stack([continued, last]))
        if best.agreement < DOUBTFUL:
            middle = g.hand_points.mean(0)
            turned = np.stack([last @ se3.make(R, middle - R @ middle) for R in (
                se3.exp_so3(TURN * axis) for axis in np.vstack([np.eye(3), -np.eye(3)]))])
            other = self._best(views, opening, surface, turned)
            best = max(best, other, key=lambda f: f.agreement)
        sure = confidence(g, opening, self._hidden(views, best.pose), best)
        # A silhouette hardly tells a turn about some axes; there the hand goes on as it was.
        seen = self._settings.independence * sure * best.information
        step = np.linalg.solve(seen + _STEADY, seen @ se3.log(
            se3.inverse(last) @ g.nearest_symmetric(best.pose, last)))
        return replace(best, pose=last @ se3.exp(step)), sure

    def _best(self, views: list[FrameView], opening: float, surface: Array, starts: Array) -> Fit:
        g, fits = self._gripper, []
        for start in starts:
            hidden = self._hidden(views, start)
            centred = _centred(start, surface, hidden)
            hidden = self._hidden(views, centred)
            fit = refine(g, opening, hidden, _centred(centred, surface, hidden), _COARSE)
            fits.append((_overlap(surface, hidden, fit), fit))
        fine = []
        for _, fit in sorted(fits, key=lambda f: -f[0])[:_REFINED]:
            hidden = self._hidden(views, fit.pose)
            fit = refine(g, opening, hidden, fit.pose, _FINE)
            fine.append((fit.agreement * _overlap(surface, hidden, fit), fit))
        return max(fine, key=lambda f: f[0])[1]

    def _hidden(self, views: list[FrameView], pose: Array) -> list[FrameView]:
        """The views with the depth of the mount of a gripper at `pose` (4, 4)."""
        return [replace(v, depth=_drawn_depth(v.camera, se3.apply(v.camera.T_cam_ref @ pose,
                                                                  self._mount))) for v in views]


def _drawn_depth(camera: Camera, Y: Array) -> Array:
    """Depth (H, W) m, NaN where there is nothing, of surface points (n, 3) in the optical frame."""
    column, row, inside = inside_image(camera, Y)
    depth = np.full((camera.height, camera.width), np.inf)
    np.minimum.at(depth, (row[inside], column[inside]), Y[inside, 2])
    return np.where(np.isfinite(depth), depth, np.nan)


def _silhouette(camera: Camera, mask: NDArray[np.float32]) -> FrameView:
    """A view of the mask (H, W) alone; its `pixels` count although they have no depth."""
    nothing = np.full((*mask.shape, 3), np.nan, np.float32)
    view = frame_view(camera, nothing, np.zeros(mask.shape, bool), mask)
    return replace(view, pixels=float((mask > 0.5).sum()))


def _overlap(points: Array, views: list[FrameView], fit: Fit) -> float:
    total = sum(v.pixels for v in views)
    return sum(v.pixels / total * mask_overlap(points, v, fit.pose) for v in views)


def _centred(pose: Array, points: Array, views: list[FrameView]) -> Array:
    """`pose` (4, 4) moved so that the middle of the model's silhouette, of its surface points
    (n, 3), is that of the mask in every view."""
    pose = pose.copy()
    for _ in range(_SHIFTS):
        H, g = np.zeros((3, 3)), np.zeros(3)
        for view in views:
            camera = view.camera
            Y = se3.apply(camera.T_cam_ref @ pose, points)
            column, row, inside = inside_image(camera, Y)
            inside &= ~(view.depth[row, column] < Y[:, 2])
            if inside.any():
                middle = Y[inside].mean(0)
                drawn = np.unique(np.stack([column[inside], row[inside]], axis=1), axis=0)
                at = drawn.mean(0)
            else:
                middle = Y.mean(0)
                at = to_pixels(camera, middle)
            rows, columns = np.nonzero(view.mask > 0.5)
            z = max(float(middle[2]), NEAR)
            off = (np.array([columns.mean(), rows.mean()]) - at) * z / camera.K[0, 0]
            J = np.array([[1.0, 0.0, -middle[0] / z], [0.0, 1.0, -middle[1] / z]]) \
                @ camera.T_cam_ref[:3, :3]
            H += J.T @ J + _DAMPING**2 * np.eye(3)
            g += J.T @ off
        pose[:3, 3] += np.linalg.solve(H, g)
    return pose
