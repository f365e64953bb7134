# SPDX-License-Identifier: Apache-2.0
"""Pictures of failures beside the report of a rollout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future
from fourdgen_ros.evaluation.road import RoadConfig, RoadResult, Segment
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.strips import WIDTH, folder_of, save_strip

APPLE = 'PlaceAppleFromBowlIntoBin'


def result(*segments: Segment) -> RoadResult:
    return RoadResult(False, 'reach', 'tracking', 'lost', list(segments), 1.0, 1.0)


def future() -> Future:
    V, T, H, W = 2, 3, 24, 32
    shape = (V, T, H, W)
    return Future(
        rgb=np.full((*shape, 3), 90, np.uint8), points=np.ones((*shape, 3), np.float32),
        valid=np.ones(shape, bool), gripper=np.ones(shape, np.float32), dt=0.4,
        K=np.stack([np.eye(3)] * V), cameras=('a', 'b'), stamp=0, generator='test')


def test_a_future_that_was_not_executed_is_shown(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / 'run.json')
    name = save_strip(result(Segment(0, future=future())), 12, folder)
    assert name == 'run_strips/seed_0012.jpg'
    with Image.open(tmp_path / name) as image:
        assert image.width == WIDTH
        assert np.asarray(image).std() > 20


def test_a_run_without_a_future_leaves_no_picture(tmp_path: Path) -> None:
    assert save_strip(result(Segment(0)), 0, tmp_path / 'strips') == ''
    assert save_strip(result(), 0, tmp_path / 'strips') == ''
    assert not (tmp_path / 'strips').exists()


def test_a_rollout_keeps_its_failures(tmp_path: Path) -> None:
    file = tmp_path / 'still.json'
    spec = RolloutSpec(APPLE, 'still', RoadConfig(max_segments=1))
    rollout(spec, [0], Batch(file=file), strips=True)
    row = json.loads(file.read_text())['outcomes'][0]
    assert row['strip'] == 'still_strips/seed_0000.jpg'
    with Image.open(tmp_path / row['strip']) as image:
        assert image.width == WIDTH


def test_a_picture_that_cannot_be_written_is_no_failed_seed(tmp_path: Path) -> None:
    (tmp_path / 'still_strips').write_text('in the way')
    with pytest.raises(InputError, match='still_strips/seed_0000.jpg; expected a folder that can'):
        rollout(RolloutSpec(APPLE, 'still', RoadConfig(max_segments=1)), [0],
                Batch(file=tmp_path / 'still.json'), strips=True)


def test_strips_need_a_report_to_lie_beside() -> None:
    with pytest.raises(InputError, match='--json FILE'):
        rollout(RolloutSpec(APPLE, 'still'), [0], strips=True)
