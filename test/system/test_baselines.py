# SPDX-License-Identifier: Apache-2.0
"""Every kind of row of the table goes its whole road: untrained weights, real cell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from fourdgen_ros.evaluation.comparison import Comparison, compare
from fourdgen_ros.evaluation.openloop import OpenLoop
from fourdgen_ros.evaluation.road import RoadConfig
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.stack import build_road, build_tracker
from fourdgen_ros.generator.codec import FrameCodec
from fourdgen_ros.generator.dynamics import LatentDynamics
from fourdgen_ros.generator.tiny import TinyGenerator
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.silhouette import SilhouetteTracker

TASK = 'PlaceAppleFromBowlIntoBin'
SIZE = {'height': 96, 'width': 128, 'latent_dim': 16}


def untrained(*, cross_view: bool = True, depth: bool = True) -> TinyGenerator:
    torch.manual_seed(0)
    return TinyGenerator(
        FrameCodec(**SIZE, widths=(16, 16, 32), fine_width=16, depth=depth),
        LatentDynamics(**SIZE, frames=8, trunk_widths=(16, 16, 32), keypoints=4, dim=32, depth=2,
                       heads=2, cross_view=cross_view), FlowMatchEulerDiscreteScheduler())


def test_the_true_future_without_depth_is_followed_by_its_silhouettes() -> None:
    road = build_road(TASK, 'oracle-rgb', RoadConfig(max_segments=1))
    assert isinstance(road.tracker, SilhouetteTracker)
    road.cell.reset(1)
    loop = OpenLoop(road.cell, road.generator, road.tracker)
    row = loop._measure(1, road.cell.state(), road.cell.observe(480, 640))
    assert max(row['tcp_mm']) < 15.0
    assert max(row['tcp_deg']) < 10.0
    assert row['tcp_mm'] == pytest.approx(row['true_tcp_mm'], abs=5.0)
    assert 'cross_view_iou' not in row and 'true_cross_view_iou' in row


@pytest.mark.parametrize(('kind', 'agrees'), [({'cross_view': False}, True),
                                              ({'depth': False}, False)])
def test_ablations_are_measured(kind: dict[str, bool], agrees: bool) -> None:
    """Agreement of the views is one of points, which RGB alone does not have."""
    generator = untrained(**kind)
    road = build_road(TASK, 'still')
    tracker = build_tracker(road.cell, generator)
    assert isinstance(tracker, EmbeddedTracker if agrees else SilhouetteTracker)
    road.cell.reset(0)
    loop = OpenLoop(road.cell, generator, tracker)
    row = loop._measure(0, road.cell.state(), road.cell.observe(480, 640))
    assert ('cross_view_iou' in row) is agrees
    assert row['psnr_db'] > 5.0


def test_a_policy_runs_in_closed_loop_and_has_no_futures(untrained_policy: Path,
                                                         tmp_path: Path) -> None:
    """Untrained: its path is refused or leads nowhere, but it is asked, planned and counted."""
    report = rollout(
        RolloutSpec(TASK, str(untrained_policy), RoadConfig(max_segments=1, retries=0)), [0])
    assert report['n'] == 1 and report['successes'] == 0
    assert report['causes'].keys() <= {'planning', 'execution', 'not_done'}
    assert report['latency_s']['generate']['n'] == 1 and report['latency_s']['track']['n'] == 0
    assert len(report['weights']) == 12
    entries = compare(Comparison([TASK], [str(untrained_policy)], [0], []), tmp_path, Batch())
    assert entries[0].open is None
