# SPDX-License-Identifier: Apache-2.0
"""Faults reach the generator, the truth does not have them, and reports keep them apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.sensor_faults import Fault
from fourdgen_ros.evaluation import fault_sweep
from fourdgen_ros.evaluation.fault_sweep import Sweep, sweep
from fourdgen_ros.evaluation.faulty import FaultyCell
from fourdgen_ros.evaluation.openloop import OpenLoop, evaluate
from fourdgen_ros.evaluation.road import Road, RoadConfig
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.stack import build_tracker
from fourdgen_ros.evaluation.still import StillGenerator
from fourdgen_ros.sim.cell import Cell

TASK = 'PlaceAppleFromBowlIntoBin'


def _moved(cell: Cell) -> None:
    """A second in which the arm swings to one side, as physics goes in an execution."""
    q = cell.joint_positions
    for k in range(1, 501):
        cell.set_arm_target(q + 0.3 * k / 500 * np.eye(7)[0], 0.3 * np.eye(7)[0])
        cell.step(0.002)


def _pair(fault: Fault) -> tuple[Cell, FaultyCell]:
    true, faulty = Cell(TASK), FaultyCell(TASK, fault)
    for cell in (true, faulty):
        cell.reset(3)
        _moved(cell)
    np.testing.assert_array_equal(true.state().physics, faulty.state().physics)
    return true, faulty


def test_pictures_have_the_fault_and_only_observed_ones() -> None:
    true, faulty = _pair(Fault('depth_noise', 0.5))
    clean, seen, again = true.observe(48, 64), faulty.observe(48, 64), faulty.observe(48, 64)
    for a, b, c in zip(clean.views, seen.views, again.views, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(b.depth, c.depth)
        assert 0.001 < np.nanmedian(np.abs(a.depth - b.depth)) < 0.1
        np.testing.assert_array_equal(faulty.render(a.camera, 48, 64).depth, a.depth)
        np.testing.assert_array_equal(faulty.T_base_camera(a.camera),
                                      true.T_base_camera(a.camera))


def test_skew_shows_the_other_views_as_they_were() -> None:
    true, faulty = _pair(Fault('skew', 300.0))
    seen = faulty.observe(48, 64)
    assert seen.skew == pytest.approx(0.3, abs=0.011)
    clean = true.observe(48, 64)
    np.testing.assert_array_equal(seen.reference.rgb, clean.reference.rgb)
    assert (seen.views[1].rgb != clean.views[1].rgb).any()
    faulty.set_state(faulty.state())  # nothing is known of what was before
    np.testing.assert_array_equal(faulty.observe(48, 64).views[1].rgb, clean.views[1].rgb)


def test_the_rig_is_elsewhere_than_calibration_says() -> None:
    true, faulty = _pair(Fault('hand_eye_turn', 2.0))
    np.testing.assert_array_equal(faulty.observe(48, 64).views[1].rgb,
                                  true.observe(48, 64).views[1].rgb)

    def poses(cell: Cell) -> NDArray[np.float64]:
        return np.stack([cell.T_base_camera(c) for c in cell.cameras])

    metres, angle = se3.distance(poses(true)[0], poses(faulty)[0])
    assert (metres, np.degrees(angle)) == pytest.approx((0.0, 2.0), abs=1e-6)
    relative = [se3.inverse(p[0]) @ p[1] for p in (poses(true), poses(faulty))]
    np.testing.assert_allclose(relative[0], relative[1], atol=1e-12)


class Listener:
    """A generator that keeps what it is shown and gives up."""

    name = 'listener'

    def __init__(self) -> None:
        self.seen = []

    def generate(self, observation, **_):
        self.seen.append(observation)
        raise InputError('future')


def test_the_generator_of_a_rollout_sees_the_fault() -> None:
    true, faulty = _pair(Fault('depth_holes', 20.0))
    listener = Listener()
    config = RoadConfig(retries=0, height=48, width=64)
    Road(faulty, listener, None, None, config).run()
    observation, = listener.seen
    for view, clean in zip(observation.views, true.observe(48, 64).views, strict=True):
        assert np.isnan(view.depth).sum() > 1.5 * np.isnan(clean.depth).sum()


def _measured(cell: Cell) -> dict:
    generator = StillGenerator(cell.state, 1)
    loop = OpenLoop(cell, generator, build_tracker(cell, generator))
    cell.reset(2)
    return loop._measure(2, cell.state(), cell.observe(480, 640))


@pytest.mark.parametrize('fault', [Fault('hand_eye_shift', 10.0), Fault('depth_noise', 1.0)],
                         ids=str)
def test_the_truth_has_no_fault(fault: Fault) -> None:
    """Of a wrong hand-eye pose, the tracker starts where calibration says that the tool is."""
    clean, faulty = _measured(Cell(TASK)), _measured(FaultyCell(TASK, fault))
    assert faulty['true_tcp_mm'] == pytest.approx(clean['true_tcp_mm'], abs=1e-6)
    assert faulty['tcp_mm'] != pytest.approx(clean['tcp_mm'], abs=0.1)


@pytest.mark.parametrize('steps', [None, 2])
def test_futures_are_made_in_the_steps_that_are_asked_for(steps: int | None) -> None:
    asked = []

    class Noted(StillGenerator):
        def generate(self, observation, *, task, seed, steps=None):
            asked.append(steps)
            return super().generate(observation, task=task, seed=seed, steps=steps)

    cell = Cell(TASK)
    generator = Noted(cell.state, 1)
    OpenLoop(cell, generator, build_tracker(cell, generator), steps)._measure(
        2, cell.state(), cell.observe(480, 640))
    assert asked == [steps]


def test_reports_of_different_faults_are_not_mixed() -> None:
    plain, noisy = (RolloutSpec(TASK, 'oracle', fault=f) for f in
                    (None, Fault('hand_eye_shift', 5.0)))
    assert 'fault' not in plain.identity()  # reports from before there were faults stay valid
    assert noisy.identity() == plain.identity() | {'fault': 'hand_eye_shift=5'}


@pytest.mark.parametrize('generator', ['oracle', 'still'])
def test_who_looks_at_no_picture_has_no_fault_of_pictures(generator: str) -> None:
    fault = Fault('exposure', 1.0)
    with pytest.raises(InputError, match='sees pictures'):
        evaluate(TASK, generator, [0], fault=fault)
    with pytest.raises(InputError, match='sees pictures'):
        rollout(RolloutSpec(TASK, generator, fault=fault), [0])


def _report(fault: Fault | None) -> dict:
    """As `evaluate` makes it, with an error that grows with strength."""
    error = 5.0 if fault is None else 5.0 + fault.strength
    lost = 0 if fault is None or fault.strength < 1.0 else 3
    return {'n': 10, 'measures': {'tcp_mm': {'n': 80, 'p50': error, 'p90': 3 * error},
                                  'tracking_failures': {'n': 10, 'failed': lost}}}


def test_a_sweep_is_a_table_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def open_loop(task, generator, seeds, batch, *, fault):
        asked.append((fault, batch.file.name))
        (tmp_path / 'out').mkdir(exist_ok=True)
        return _report(fault)

    def closed_loop(spec, seeds, batch):
        asked.append((spec.fault, batch.file.name))
        return {'n': 4, 'successes': 3, 'wilson95': [0.3, 0.95], 'causes': {'tracking': 1}}

    monkeypatch.setattr(fault_sweep, 'evaluate', open_loop)
    monkeypatch.setattr(fault_sweep, 'rollout', closed_loop)
    what = Sweep(TASK, 'tiny', {'depth_noise': (0.1, 1.0), 'skew': (50.0,)}, [0, 1], [0])
    points = sweep(what, tmp_path / 'out', Batch(), command=['fourdgen', 'x'])
    assert [str(p.fault) for p in points] == ['None', 'depth_noise=0.1', 'depth_noise=1', 'skew=50']
    assert [name for _, name in asked if 'closed' in name] == [
        'none.closed.json', 'depth_noise=1.closed.json', 'skew=50.closed.json']
    text = (tmp_path / 'out' / 'faults.md').read_text()
    assert '| depth_noise | 1 px of disparity | 6.0 | 18.0 | 3 of 10 | 3/4 |' in text
    assert '`fourdgen x`' in text
    figures = json.loads((tmp_path / 'out' / 'faults.json').read_text())
    assert [p['strength'] for p in figures['points']] == [0.0, 0.1, 1.0, 50.0]
    assert (tmp_path / 'out' / 'faults.png').stat().st_size > 5000
