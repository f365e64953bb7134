# SPDX-License-Identifier: Apache-2.0
"""Which of the poses that single views propose are believed, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.frames import FrameView
from fourdgen_ros.tracker.gripper_model import GripperModel
from fourdgen_ros.tracker.registration import Fit, assess
from fourdgen_ros.tracker.scoring import confidence

Array = NDArray[np.float64]

ITERATIONS = 4


@dataclass(frozen=True)
class FusionSettings:
    """When a proposed pose is believed.

    speed (m/s) and turn_rate (rad/s): what goes beyond, after a margin for errors, is a jump and
    not motion; least_confidence: our own score below which the gripper counts as lost; agreement:
    (m, rad) up to which poses of different views are averaged.
    """

    speed: float = 0.6
    turn_rate: float = 2.0
    margin: tuple[float, float] = (0.02, 0.1)
    least_confidence: float = 0.2
    agreement: tuple[float, float] = (0.02, 0.2)


@dataclass(frozen=True, eq=False)
class Proposal:
    """One view's pose T_ref_tcp (4, 4), judged in all views: its fit and confidence 0..1."""

    view: FrameView
    pose: Array
    fit: Fit
    confidence: float


def judge(gripper: GripperModel, opening: float, views: list[FrameView],
          pose: Array) -> tuple[Fit, float]:
    """Fit and confidence of a pose T_ref_tcp (4, 4) from anywhere, by masks and depth of all views.

    FoundationPose itself says nothing about how well it tracks.
    """
    fit = assess(gripper, opening, views, pose)
    return fit, confidence(gripper, opening, views, fit)


def is_jump(settings: FusionSettings, last: Array, pose: Array, seconds: float) -> bool:
    """Whether a gripper at `last` cannot have come to `pose` (4, 4) within `seconds`."""
    distance, angle = se3.distance(last, pose)
    return (distance > settings.margin[0] + settings.speed * seconds
            or angle > settings.margin[1] + settings.turn_rate * seconds)


def fuse(settings: FusionSettings, gripper: GripperModel, opening: float, views: list[FrameView],
         proposals: list[Proposal]) -> Proposal:
    """The best proposal, averaged with those that agree with it where that scores better.

    Each is weighed by what its own view can tell: a camera knows little about some directions.
    """
    best = max(proposals, key=lambda p: p.confidence)
    near = [p for p in proposals if _agree(settings, best.pose, p.pose)]
    if len(near) < 2:
        return best
    weights = [p.confidence * assess(gripper, opening, [p.view], p.pose).information for p in near]
    pose = mean_pose([p.pose for p in near], weights)
    fit, trust = judge(gripper, opening, views, pose)
    return Proposal(best.view, pose, fit, trust) if trust >= best.confidence else best


def mean_pose(poses: list[Array], information: list[Array]) -> Array:
    """Pose (4, 4) with the least sum of squared twists to `poses`, weighed by (6, 6) each."""
    mean = poses[int(np.argmax([np.trace(w) for w in information]))]
    total = sum(information) + 1e-9 * np.eye(6)
    for _ in range(ITERATIONS):
        pull = sum(w @ se3.log(se3.inverse(mean) @ T)
                   for T, w in zip(poses, information, strict=True))
        step = np.asarray(np.linalg.solve(total, pull), np.float64)
        mean = mean @ se3.exp(step)
    return mean


def _agree(settings: FusionSettings, a: Array, b: Array) -> bool:
    distance, angle = se3.distance(a, b)
    return distance <= settings.agreement[0] and angle <= settings.agreement[1]
