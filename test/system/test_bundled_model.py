# SPDX-License-Identifier: Apache-2.0
"""Smoke runs of the bundled models: they load, imagine, and the road moves the robot by it."""

from __future__ import annotations

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.evaluation.road import Road, RoadConfig
from fourdgen_ros.evaluation.stack import build_road
from fourdgen_ros.sim.cameras import FIXED, SHELL_HELDOUT

TASK = 'PlaceAppleFromBowlIntoBin'


@pytest.mark.parametrize(('generator', 'cameras'), [
    ('tiny', FIXED), (str(share_directory() / 'models' / 'tiny-views'), SHELL_HELDOUT)])
def test_one_segment_with_a_bundled_model(generator: str, cameras: str) -> None:
    road: Road = build_road(TASK, generator, RoadConfig(max_segments=1), camera_set=cameras)
    road.cell.reset(0)
    before = road.cell.tcp_pose()
    to_apple = np.linalg.norm(before[:3, 3] - road.cell.body_pose('apple')[:3, 3])
    hands = np.stack([road.cell.gripper_mask(c, 96, 128) for c in road.cell.cameras])
    result = road.run(0, record=True)
    segment = result.segments[0]
    assert result.cause in (None, 'not_done', 'execution'), result.message
    future = segment.recording.future
    assert future.generator == 'tiny' and future.rgb.shape == (2, 9, 96, 128, 3)
    assert np.isfinite(future.points[future.valid]).all()
    # the hand at frame 0 is where the cameras see it, not some centimetres beside
    marked = future.gripper[:, 0] > 0.5
    assert ((marked & hands).sum((1, 2)) > 0.75 * (marked | hands).sum((1, 2))).all()
    # what it imagined takes the gripper to the apple, not anywhere
    tracked = segment.recording.trajectory
    apple = road.cell.body_pose('apple')[:3, 3]
    nearest = np.linalg.norm(tracked.poses[:, :3, 3] - apple, axis=1).min()
    assert nearest < 0.3 * to_apple
    moved, _ = se3.distance(before, road.cell.tcp_pose())
    assert moved > 0.05
