# SPDX-License-Identifier: Apache-2.0
"""Tracking with an estimator that sees one image at a time, such as FoundationPose.

Per frame the likeliest start (motion continued, shift of the gripper's pixels) goes to the
estimator for every view, in that view's own optical frame. What comes back is believed if our own
score says so and it is no jump, and fused. Where nothing is left the gripper is sought anew by its
mask; a frame without it has no confidence, and smoothing bridges it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.tracker.clip import MIN_PIXELS, Clip, Track, TrackerSettings, prepare_clip
from fourdgen_ros.tracker.estimator import (
    MIN_VALID,
    GripperObject,
    ObjectImage,
    PoseEstimator,
)
from fourdgen_ros.tracker.frames import FrameView
from fourdgen_ros.tracker.fusion import FusionSettings, Proposal, fuse, is_jump, judge
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.opening import measure_opening
from fourdgen_ros.tracker.prediction import continued, likely_poses, shift
from fourdgen_ros.tracker.scoring import Scorer

Array = NDArray[np.float64]
Ask = Callable[[ObjectImage], 'Array | None']
log = logging.getLogger(__name__)


class EstimatorTracker:
    """Tracks one gripper through futures with a `PoseEstimator`; no state between clips."""

    def __init__(self, gripper: GripperModel, tracked: GripperObject, estimator: PoseEstimator,
                 settings: TrackerSettings | None = None,
                 fusion: FusionSettings | None = None) -> None:
        """`tracked` is the rigid mesh that the estimator looks for."""
        self._gripper, self._object, self._estimator = gripper, tracked, estimator
        self._settings = TrackerSettings() if settings is None else settings
        self._fusion = FusionSettings() if fusion is None else fusion
        self._lock = threading.Lock()

    def track(self, future: Future, first_pose: NDArray[np.float64],
              first_opening: float | None) -> GripperTrajectory:
        """See `fourdgen_ros.tracker.base.Tracker`; one clip at a time.

        Raises TrackingError also when the estimator does not answer.
        """
        clip = prepare_clip(self._gripper, self._settings, future, first_pose, first_opening)
        with self._lock:
            tracks = [self._first(clip)]
            for t in range(1, future.frames):
                tracks.append(self._next(clip, t, tracks))
        lost = [t for t, track in enumerate(tracks) if track.confidence == 0.0]
        if lost:
            log.warning('the gripper was not found in frames %s of %d', lost, future.frames)
        return clip.trajectory(tracks)

    def close(self) -> None:
        """End what the estimator has started."""
        self._estimator.close()

    def _first(self, clip: Clip) -> Track:
        start, opening = clip.first_pose, clip.first_opening
        found = self._tracked(clip, 0, start, start, 0.0, opening)
        if found is None:
            fit, trust = judge(self._gripper, opening, clip.frames[0], start)
            return clip.first(fit, trust)
        return clip.first(found.fit, found.confidence)

    def _next(self, clip: Clip, t: int, tracks: list[Track]) -> Track:
        g, views, last = self._gripper, clip.frames[t], tracks[-1]
        onward = continued(tracks[-2].pose if t > 1 else last.pose, last.pose)
        told = clip.told(t)
        found = None
        if sum(v.pixels for v in views) >= MIN_PIXELS:
            # A lost pose is only a guess: what counts is where the gripper was seen.
            seen = max(i for i, track in enumerate(tracks) if i == 0 or track.confidence > 0.0)
            anchor, seconds = tracks[seen].pose, (t - seen) * clip.future.dt
            moved_by = shift(clip.frames[seen], views)
            starts = likely_poses(g, views, anchor, onward, moved_by)
            scores = Scorer(*g.surface(last.opening), views)(starts)
            start = starts[int(np.argmax(scores))]
            found = self._tracked(clip, t, start, anchor, seconds, last.opening)
            if found is None:
                found = self._registered(clip, t, anchor, seconds, last.opening)
        if found is None:
            return Track(onward, np.zeros((6, 6)), last.opening if told is None else told, 0.0)
        opening = measure_opening(g, views, found.pose, last.opening) if told is None else told
        fit, trust = judge(g, opening, views, found.pose)
        return Track(found.pose, self._settings.independence * trust * fit.information, opening,
                     trust)

    def _tracked(self, clip: Clip, t: int, start: Array, anchor: Array, seconds: float,
                 opening: float) -> Proposal | None:
        def ask(view: FrameView) -> Callable[[ObjectImage], Array | None]:
            first = view.camera.T_cam_ref @ start @ self._object.T_tcp_object
            return lambda image: self._estimator.track(image, first)

        return self._best(clip, t, ask, anchor, seconds, opening)

    def _registered(self, clip: Clip, t: int, anchor: Array, seconds: float,
                    opening: float) -> Proposal | None:
        log.info('frame %d: the gripper is lost; looking for it by its mask', t)
        return self._best(clip, t, lambda view: self._estimator.register, anchor, seconds, opening)

    def _best(self, clip: Clip, t: int, ask: Callable[[FrameView], Ask], anchor: Array,
              seconds: float, opening: float) -> Proposal | None:
        """What the views say together; None where none is believed."""
        g, s, views = self._gripper, self._fusion, clip.frames[t]
        proposals = []
        for i, view in enumerate(views):
            image = object_image(clip.future, view, i, t)
            if view.pixels < MIN_PIXELS or image.valid < MIN_VALID:
                continue
            T_cam_object = ask(view)(image)
            if T_cam_object is None:
                continue
            pose = view.camera.T_ref_cam @ T_cam_object @ self._object.T_object_tcp
            # Poses alike under symmetry are told apart by continuity alone.
            pose = g.nearest_symmetric(pose, anchor)
            if is_jump(s, anchor, pose, seconds):
                log.info('frame %d: %s jumps', t, view.camera.name)
                continue
            fit, trust = judge(g, opening, views, pose)
            if trust >= s.least_confidence:
                proposals.append(Proposal(view, pose, fit, trust))
        return fuse(s, g, opening, views, proposals) if proposals else None


def object_image(future: Future, view: FrameView, i: int, t: int) -> ObjectImage:
    """View i of frame t as an estimator wants it, with the calibrated depth."""
    depth = np.nan_to_num(view.depth, nan=0.0).astype(np.float32)
    return ObjectImage(view.camera.name, future.rgb[i, t], depth, view.camera.K, view.mask > 0.5)
