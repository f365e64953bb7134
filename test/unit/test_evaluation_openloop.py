# SPDX-License-Identifier: Apache-2.0
"""Futures beside the truth: what a generator may do from one start to the next."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fourdgen_ros.cli import evaluate as verb
from fourdgen_ros.cli import options
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Future
from fourdgen_ros.evaluation.openloop import OpenLoop, agreement, summarise
from fourdgen_ros.evaluation.stack import build_tracker
from fourdgen_ros.evaluation.still import StillGenerator
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.oracle import OracleGenerator

TASK = 'PlaceAppleFromBowlIntoBin'


class Changing:
    """Answers each observation in another way."""

    name = 'changing'

    def __init__(self, cell: Cell, *answers: StillGenerator | GenerationError) -> None:
        self.cell, self._answers = cell, iter(answers)

    def generate(self, observation, *, task, seed, steps=None) -> Future:
        answer = next(self._answers)
        if isinstance(answer, GenerationError):
            raise answer
        return replace(answer.generate(observation, task=task, seed=seed), generator=self.name)


def _rows(*answers) -> list[dict]:
    """What is measured of one observation, once an answer."""
    cell = Cell(TASK)
    generator = Changing(cell, *(a(cell) if callable(a) else a for a in answers))
    loop = OpenLoop(cell, generator, build_tracker(cell, generator))
    cell.reset(2)
    return [loop._measure(2, cell.state(), cell.observe(480, 640)) for _ in answers]


def _still(horizon: int, dt: float = 0.4, height: int = 120, width: int = 160):
    return lambda cell: StillGenerator(cell.state, horizon, dt, height, width)


def test_a_generation_that_failed_is_counted_and_the_others_measured() -> None:
    rows = _rows(_still(1), GenerationError('the sample', got='a bad one'), _still(1))
    assert rows[1]['generation_error'] == 'the sample; got a bad one'
    assert 'generate_s' not in rows[1] and 'true_tcp_mm' not in rows[1]
    assert rows[0]['tcp_mm'] == rows[2]['tcp_mm']
    measures = summarise(rows)
    assert measures['generation_failures'] == {'n': 3, 'failed': 1}
    assert measures['tracking_failures'] == {'n': 2, 'failed': 0}
    assert measures['generate_s']['n'] == 2
    assert 'generation_failures' not in summarise(rows[:1])
    json.dumps(rows)


def test_where_all_generations_failed_the_first_reason_is_shown(
        capsys: pytest.CaptureFixture) -> None:
    rows = [{'generation_error': 'no [such] luck'}, {'generation_error': 'later'}]
    verb._print(options.console(soft_wrap=True), {
        'n': 2, 'generator': 'mine', 'measures': summarise(rows), 'futures': rows})
    assert 'generation failed 2 times of 2; the first: no [such] luck' in capsys.readouterr().out


def test_the_truth_follows_the_shape_of_each_future() -> None:
    rows = _rows(_still(1), _still(3), _still(3, 0.2), _still(1, height=60, width=80), _still(1))
    assert [len(row['true_tcp_mm']) for row in rows] == [1, 3, 3, 1, 1]
    # who stands still is off by what the expert moves, which is less in less time
    assert rows[2]['tcp_mm'][-1] < rows[1]['tcp_mm'][-1]
    assert rows[4]['tcp_mm'] == rows[0]['tcp_mm']


def test_a_gripper_that_is_not_drawn_costs_agreement() -> None:
    cell = Cell(TASK)
    cell.reset(2)
    true = OracleGenerator(cell.state, 8, 0.4, 48, 64).generate(cell.observe(96, 128), task=TASK,
                                                                seed=0)
    poses = np.stack([cell.T_base_camera(camera) for camera in cell.cameras])
    T_ref_cameras = se3.inverse(poses[0]) @ poses
    blank = true.gripper.copy()
    blank[:, 4:] = 0.0
    full, three, none = (agreement(replace(true, gripper=gripper), true, T_ref_cameras, '')
                         for gripper in (true.gripper, blank, np.zeros_like(blank)))
    for name in ('cross_view_iou', 'cross_view_box_iou'):
        assert full[name] > 0.3
        assert three[name] < 0.45 * full[name]  # three frames of eight, and they are not alike
        assert none[name] == 0.0
    json.dumps(full | three | none, allow_nan=False)
    unseen = replace(true, gripper=np.zeros_like(blank))
    assert agreement(unseen, unseen, T_ref_cameras, 'true_') == {}


def test_a_future_whose_pixels_are_not_those_of_the_truth_is_refused() -> None:
    class Squeezed(StillGenerator):
        def generate(self, observation, *, task, seed, steps=None):
            future = super().generate(observation, task=task, seed=seed)
            return replace(future, K=future.K * [[[0.75], [1.0], [1.0]]])

    with pytest.raises(InputError, match='K of camera.*as of the true images'):
        _rows(lambda cell: Squeezed(cell.state, 1))
