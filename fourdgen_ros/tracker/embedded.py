# SPDX-License-Identifier: Apache-2.0
"""Model-based tracking of the gripper on the CPU.

Per frame: several starts (last motion continued, shift of the gripper's pixels, a few turns) are
scored against all views, the best are refined coarse to fine, then the opening is searched. A frame
in which nothing is found leaves a guess on which nothing is built: the next starts from where the
gripper was seen. At the end the whole clip is smoothed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.tracker.clip import MIN_PIXELS, Clip, Track, TrackerSettings, prepare_clip
from fourdgen_ros.tracker.frames import FrameView
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.opening import measure_opening
from fourdgen_ros.tracker.prediction import continued, likely_poses, shift
from fourdgen_ros.tracker.registration import COARSE, FINE, LAST, MIDDLE, Fit, refine
from fourdgen_ros.tracker.scoring import Scorer, confidence

Array = NDArray[np.float64]

COARSE_STARTS, MIDDLE_STARTS = 3, 2
DOUBTFUL = 0.7
TRUSTED = 0.2  # below it the planner follows no pose either (`min_confidence`)
TURN = np.deg2rad(12.0)
SAME_POSE = (0.006, np.deg2rad(4.0))


class EmbeddedTracker:
    """Tracks one gripper through futures; holds no state between clips."""

    def __init__(self, gripper: GripperModel, settings: TrackerSettings | None = None) -> None:
        self._gripper = gripper
        self._settings = TrackerSettings() if settings is None else settings

    def track(self, future: Future, first_pose: NDArray[np.float64],
              first_opening: float | None) -> GripperTrajectory:
        """See `fourdgen_ros.tracker.base.Tracker`."""
        clip = prepare_clip(self._gripper, self._settings, future, first_pose, first_opening)
        tracks = [self._first(clip)]
        for t in range(1, future.frames):
            tracks.append(self._next(clip, t, tracks))
        return clip.trajectory(tracks)

    def close(self) -> None:
        """See `fourdgen_ros.tracker.base.Tracker`; nothing was started."""

    def _first(self, clip: Clip) -> Track:
        g, opening, views = self._gripper, clip.first_opening, clip.frames[0]
        fit = refine(g, opening, views, clip.first_pose, MIDDLE + FINE)
        return clip.first(fit, confidence(g, opening, views, fit))

    def _next(self, clip: Clip, t: int, tracks: list[Track]) -> Track:
        g, views, last = self._gripper, clip.frames[t], tracks[-1]
        onward = continued(tracks[-2].pose if t > 1 else last.pose, last.pose)
        # The opening by the generator's own word, else it is measured on the pixels.
        told = clip.told(t)
        lost = Track(onward, np.zeros((6, 6)), last.opening if told is None else told, 0.0)
        if sum(v.pixels for v in views) < MIN_PIXELS:
            return lost
        # A lost pose is only a guess: what counts is where the gripper was seen.
        seen = max(i for i, track in enumerate(tracks) if i == 0 or track.confidence > 0.0)
        anchor = tracks[seen].pose
        starts = self._starts(views, anchor, onward, shift(clip.frames[seen], views))
        score = Scorer(*g.surface(last.opening), views)(starts)
        starts = starts[np.argsort(-score)]
        fit = self._best(views, last.opening, starts[:COARSE_STARTS])
        if fit.agreement < DOUBTFUL:
            others = self._best(views, last.opening, starts[COARSE_STARTS:])
            fit = max(fit, others, key=lambda f: f.agreement)
        opening = measure_opening(g, views, fit.pose, last.opening) if told is None else told
        fit = refine(g, opening, views, fit.pose, LAST)
        trust = confidence(g, opening, views, fit)
        if not trust >= TRUSTED:
            return lost
        # Poses alike under symmetry are told apart by continuity alone.
        pose = g.nearest_symmetric(fit.pose, anchor)
        return Track(pose, self._settings.independence * trust * fit.information, opening, trust)

    def _best(self, views: list[FrameView], opening: float, starts: Array) -> Fit:
        g = self._gripper
        fits = [refine(g, opening, views, start, COARSE) for start in starts]
        fits = _distinct(sorted(fits, key=lambda f: -f.agreement))[:MIDDLE_STARTS]
        fits = [refine(g, opening, views, f.pose, MIDDLE) for f in fits]
        return refine(g, opening, views, max(fits, key=lambda f: f.agreement).pose, FINE)

    def _starts(self, views: list[FrameView], last: Array, onward: Array,
                moved_by: Array | None) -> Array:
        """Poses (S, 4, 4) to try: the likely ones, and turns about that with the pixels' shift."""
        starts = [*likely_poses(self._gripper, views, last, onward, moved_by)]
        moved, middle = starts[1], self._gripper.hand_points.mean(0)
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
