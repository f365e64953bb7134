# SPDX-License-Identifier: Apache-2.0
"""Futures against recorded demonstrations, as somebody without a simulator measures them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.evaluation.offline import RecordedLoop, evaluate_offline
from fourdgen_ros.sim.collect import collect
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.gripper_model import load_gripper

TASK = 'PlaceAppleFromBowlIntoBin'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two demonstrations, of which one validates."""
    out = tmp_path_factory.mktemp('data') / 'apple'
    collect(TASK, 2, 100_000, out)
    return out


class Knowing:
    """Generates what was recorded."""

    name = 'knowing'

    def __init__(self) -> None:
        self.loop: RecordedLoop | None = None
        self.seen: list[Observation] = []

    def generate(self, observation: Observation, *, task: str, seed: int = 0,
                 steps: int | None = None) -> Future:
        from fourdgen_ros.evaluation import offline

        assert task == TASK and self.loop is not None
        self.seen.append(observation)
        episode = self.loop._data.episodes[self.loop._held[seed]]
        records = np.minimum(observation.stamp + 2 * np.arange(9), len(episode) - 1)

        class Like:
            dt, stamp, frame_id = 0.4, observation.stamp, 'optical'
            cameras = tuple(view.camera for view in observation.views)
            frame_ids = tuple(view.frame_id for view in observation.views)

        return offline._truth(episode, records, offline._camera_poses(episode), Like).future


def test_a_generator_that_knows_has_the_tracker_s_errors_only(folder: Path) -> None:
    generator = Knowing()
    generator.loop = RecordedLoop(folder, generator, EmbeddedTracker(load_gripper('panda_hand')))
    rows = generator.loop.run(0)
    with np.load(sorted(folder.glob('episode_*.npz'))[0]) as z:
        length = len(z['tcp'])
    assert [row['start_s'] for row in rows] == pytest.approx(np.arange(0, (length - 1) / 5, 1.2))
    for row in rows:
        assert row['tcp_mm'] == row['true_tcp_mm']
        assert row['mask_iou'] == pytest.approx(1.0) and row['abs_rel'] == 0.0
        assert row['first_mask_iou'] == pytest.approx(1.0)
        assert row['cross_view_iou'] == row['true_cross_view_iou'] > 0.4
    assert np.median([row['tcp_mm'] for row in rows]) < 2.0
    assert np.isnan(generator.seen[0].views[0].depth).any() or (
        generator.seen[0].views[0].depth > 0).all()


def test_the_bundled_model_is_measured_from_the_command_line(
        folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report = tmp_path / 'report.json'
    assert cli.main(['evaluate', '--offline', str(folder), '--generator', 'tiny', '--json',
                     str(report)]) == 0
    stored = json.loads(report.read_text())
    measures = stored['measures']
    assert (stored['task'], stored['offline']) == (TASK, str(folder))
    assert stored['seeds'] == [0] and stored['n'] == len(stored['futures']) > 3
    assert measures['tcp_mm']['p50'] < 60.0 and measures['true_tcp_mm']['p50'] < 2.0
    assert f"{stored['n']} futures of tiny" in capsys.readouterr().out


@pytest.mark.parametrize(('options', 'said'), [
    (['--generator', 'oracle'], 'a simulated cell'),
    (['--seeds', '1:3'], 'numbers below 1'),
    (['--rollouts', '0:2'], '--rollouts; expected one generator'),
    (['--task', TASK], '--task; expected one generator')])
def test_what_needs_the_simulator_is_refused(folder: Path, capsys: pytest.CaptureFixture,
                                             options: list[str], said: str) -> None:
    assert cli.main(['evaluate', '--offline', str(folder), *options]) == 1
    assert said in ' '.join(capsys.readouterr().err.split())


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='meta.json'):
        evaluate_offline(tmp_path, 'tiny', range(1))
