# SPDX-License-Identifier: Apache-2.0
"""Reports of batch runs, their resumption, and what ends them."""

from __future__ import annotations

import functools
import json
import operator
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.core.errors import (
    ExecutionError,
    FourdgenError,
    GenerationError,
    InputError,
    MissingDependencyError,
    PlanningError,
)
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.evaluation.generators import (
    fingerprint,
    load_generator,
    model_folder,
    settings,
)
from fourdgen_ros.evaluation.own import load_own
from fourdgen_ros.evaluation.partial import PartialResults
from fourdgen_ros.evaluation.pool import results
from fourdgen_ros.evaluation.road import Road, RoadConfig
from fourdgen_ros.evaluation.rollout import SEEDS_APART, RolloutSpec, report, rollout, run_seed
from fourdgen_ros.evaluation.seeds import Batch


def _row(seed: int, success: bool, cause: str | None = None, stage: str = 'place') -> dict:
    segment = {'seconds': {'generate': 0.1 * (seed + 1), 'track': 0.2, 'plan': 0.01,
                           'observation_to_plan': 0.1 * (seed + 1) + 0.21},
               'failures': [{'cause': 'tracking', 'message': '', 'seed': 0}] if cause else []}
    return {'seed': seed, 'success': success, 'stage': stage, 'cause': cause,
            'segments': [segment]}


def test_report_counts() -> None:
    rows = [_row(0, True), _row(1, False, 'tracking', 'grasp'), _row(2, False, 'not_done', 'lift')]
    r = report(RolloutSpec('PlaceAppleFromBowlIntoBin', 'oracle'), rows)
    assert (r['n'], r['successes']) == (3, 1)
    assert r['wilson95'] == pytest.approx([0.0615, 0.7923], abs=1e-3)
    assert r['causes'] == {'tracking': 1, 'not_done': 1}
    assert r['stages'] == {'place': 1, 'grasp': 1, 'lift': 1}
    assert r['retries'] == {'tracking': 2}
    assert r['latency_s']['generate'] == {'n': 3, 'p50': pytest.approx(0.2),
                                          'p95': pytest.approx(0.29)}
    assert r['latency_s']['execute'] == {'n': 0}
    assert r['outcomes'] == rows
    json.dumps(r)


class _Standing:
    """A cell in which nothing happens."""

    task, time = 'PlaceAppleFromBowlIntoBin', 0.0
    joint_positions, opening = np.zeros(7), 0.0

    def reset(self, seed: int) -> None: ...

    def observe(self, height: int, width: int) -> None: ...

    def stage(self) -> str:
        return 'none'

    def success(self) -> bool:
        return False


def test_no_two_rollouts_share_a_generator_seed() -> None:
    seen = []

    class Spy:
        name = 'spy'

        def generate(self, observation, *, task, seed, steps=None):
            seen.append(seed)
            raise GenerationError('the sample')

    road = Road(_Standing(), Spy(), None, None)
    rows = [run_seed(road, seed) for seed in range(5)]
    assert [row['seed'] for row in rows] == list(range(5))
    assert {row['cause'] for row in rows} == {'generation'}
    assert len(seen) > 5 and len(set(seen)) == len(seen)
    assert RoadConfig.max_segments * (RoadConfig.retries + 1) < SEEDS_APART


def test_what_would_befall_every_seed_ends_the_batch() -> None:
    class Blind(_Standing):
        def observe(self, height: int, width: int) -> None:
            raise FourdgenError('rendering', expected='a display')

    with pytest.raises(FourdgenError, match='a display'):
        run_seed(Road(Blind(), None, None, None), 7)


def test_more_frames_than_futures_have_end_the_batch_unless_nobody_asked_for_them() -> None:
    class Short(Road):
        def _imagine(self, *_: object) -> tuple[None, GripperTrajectory]:
            return None, GripperTrajectory(np.tile(np.eye(4), (3, 1, 1)), np.zeros(3), np.ones(3),
                                           np.arange(3.0), 'panda_link0', 0)

    with pytest.raises(InputError, match='expected at most 3.*got 4'):
        run_seed(Short(_Standing(), None, None, None, RoadConfig(frames=4)), 7)

    class Planner:
        def plan(self, *_: object, frames: int, **__: object) -> None:
            raise PlanningError(f'{frames} frames')

    assert run_seed(Short(_Standing(), None, None, Planner()), 7)['message'] == '3 frames'


def test_partial_results_survive_and_finish(tmp_path: Path) -> None:
    file = tmp_path / 'new' / 'report.json'
    first = PartialResults(file, {'a': 1})
    first.add({'seed': 3})
    with (file.parent / 'report.json.partial').open('a') as stream:
        stream.write('{"seed": 4, "cut of')  # killed while it wrote
    again = PartialResults(file, {'a': 1})
    assert again.rows == [{'seed': 3}]
    again.add({'seed': 5})
    assert PartialResults(file, {'a': 1}).rows == [{'seed': 3}, {'seed': 5}]
    again.finish({'n': 2})
    assert json.loads(file.read_text()) == {'n': 2}
    assert PartialResults(file, {'a': 2}).rows == []


def test_a_run_that_ended_before_its_first_result_binds_no_other(tmp_path: Path) -> None:
    PartialResults(tmp_path / 'r.json', {'frames': 100})
    PartialResults(tmp_path / 'r.json', {'frames': 6}).add({'seed': 0})
    assert PartialResults(tmp_path / 'r.json', {'frames': 6}).rows == [{'seed': 0}]


def test_partial_results_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    PartialResults(tmp_path / 'r.json', {'weights': 'abc'}).add({'seed': 0})
    with pytest.raises(InputError, match='another run'):
        PartialResults(tmp_path / 'r.json', {'weights': 'abd'})


@pytest.mark.parametrize('rest', [b'\0\0\0\0\n{"seed": 4}\n', b'\xff\n', b'[1]\n'])
def test_what_cannot_be_read_of_partial_results_is_measured_again(tmp_path: Path,
                                                                 rest: bytes) -> None:
    partial = tmp_path / 'r.json.partial'
    partial.write_bytes(b'{"a": 1}\n{"seed": 3}\n' + rest)
    assert PartialResults(tmp_path / 'r.json', {'a': 1}).rows == [{'seed': 3}]
    partial.write_bytes(rest)
    assert PartialResults(tmp_path / 'r.json', {'a': 1}).rows == []
    PartialResults(tmp_path / 'r.json', {'a': 1}).add({'seed': 5})
    assert PartialResults(tmp_path / 'r.json', {'a': 1}).rows == [{'seed': 5}]


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='a folder.*Name a file'):
        PartialResults(tmp_path, {})


def test_a_run_that_goes_on_with_fewer_seeds_keeps_the_others(tmp_path: Path) -> None:
    file = tmp_path / 'r.json'
    kept = PartialResults(file, {'weights': 'a'})
    for seed in (0, 1, 2):
        kept.add({'seed': seed})
    assert _count(file, {'weights': 'a'}) == []  # of two seeds
    assert _count(file, {'weights': 'a'}, range(4)) == [3]
    assert not (tmp_path / 'r.json.partial').exists()


def _count(file: Path, identity: dict, seeds: Sequence[int] = (0, 1)) -> list[int]:
    """The seeds that a batch measured; its report is reused."""
    measured: list[int] = []

    def build() -> Callable[[int], dict]:
        def measure(seed: int) -> dict:
            measured.append(seed)
            return {'seed': seed}

        return measure

    Batch(file=file, reuse=True).run(build, (), seeds, identity, lambda rows: {'n': len(rows)},
                                     lambda row: None)
    assert json.loads(file.read_text())['n'] == len(seeds)
    return measured


@pytest.mark.parametrize('damage', [lambda text: text[:20], lambda text: '', lambda text: '[]'])
def test_a_report_that_cannot_be_read_is_not_finished(tmp_path: Path,
                                                      damage: Callable[[str], str]) -> None:
    file = tmp_path / 'r.json'
    assert _count(file, {'weights': 'a'}) == [0, 1]
    assert _count(file, {'weights': 'a'}) == []
    file.write_text(damage(file.read_text()))
    assert _count(file, {'weights': 'a'}) == [0, 1]


def test_a_report_is_kept_by_weights_and_settings(tmp_path: Path) -> None:
    file = tmp_path / 'r.json'
    _count(file, {'weights': 'a'})  # of before settings were told
    assert _count(file, {'weights': 'a', 'settings': 'x'}) == []
    assert _count(file, {'weights': 'b', 'settings': 'x'}) == [0, 1]
    assert _count(file, {'weights': 'b', 'settings': 'y'}) == [0, 1]
    assert _count(file, {'weights': 'b', 'settings': 'y'}) == []


@pytest.mark.parametrize(('seeds', 'workers'), [([], 1), ([0], 0)])
def test_rollout_rejects(seeds: list[int], workers: int) -> None:
    with pytest.raises(InputError, match='at least one of each'):
        rollout(RolloutSpec('PlaceAppleFromBowlIntoBin', 'oracle'), seeds, Batch(workers))


@pytest.mark.parametrize('workers', [1, 2])
def test_pool(workers: int) -> None:
    """Other processes cannot import this file, so what they build comes from the library."""
    divide = functools.partial, (operator.floordiv, 30)
    assert sorted(results(*divide, [1, 4, 5], workers)) == [6, 7, 30]
    assert list(results(*divide, [], workers)) == []
    with pytest.raises(ZeroDivisionError):
        list(results(*divide, [3, 0, 4], workers))


def test_ray_pool() -> None:
    pytest.importorskip('ray')
    divide = functools.partial, (operator.floordiv, 30)
    assert sorted(results(*divide, [1, 4, 5], 2, ray=True)) == [6, 7, 30]
    with pytest.raises(ZeroDivisionError):
        list(results(*divide, [3, 0, 4], 2, ray=True))


def test_ray_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(MissingDependencyError, match='pip install ray'):
        list(results(functools.partial, (operator.floordiv, 30), [1], 2, ray=True))


def test_a_worker_that_dies_is_named() -> None:
    with pytest.raises(ExecutionError, match='worker'):
        list(results(functools.partial, (os._exit,), [1, 2], 2))


def test_what_a_worker_cannot_build_is_told() -> None:
    with pytest.raises(InputError, match='No module named') as error:
        list(results(load_own, ('no_such_module:Mine',), [1, 2], 2))
    assert error.value.hint


def test_generator_names(tmp_path: Path) -> None:
    assert model_folder('oracle') is None
    assert model_folder(str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match='fourdgen train'):
        model_folder('no/such/model')
    with pytest.raises(InputError, match='simulated cell'):
        load_generator('oracle')
    with pytest.raises(InputError, match=r'dynamics/ \(tiny\) or cross_view/'):
        load_generator(str(tmp_path))


def test_fingerprint_changes_with_the_weights(tmp_path: Path) -> None:
    assert fingerprint('oracle') == ''
    (tmp_path / 'a.safetensors').write_bytes(b'1')
    before = fingerprint(str(tmp_path))
    (tmp_path / 'a.safetensors').write_bytes(b'2')
    assert len(before) == 12
    assert fingerprint(str(tmp_path)) != before


def test_settings_change_with_whatever_stands_beside_the_weights(tmp_path: Path) -> None:
    assert settings('oracle') == {}
    (tmp_path / 'dynamics').mkdir()
    told = []
    for name, text in (('dynamics/config.json', '{"dt": 0.4}'),
                       ('dynamics/config.json', '{"dt": 0.2}'), ('svd_4dgen.json', '{}'),
                       ('a.safetensors', ''), ('README.md', 'no setting'),
                       ('a.safetensors', 'other weights')):
        (tmp_path / name).write_text(text)
        told.append(settings(str(tmp_path))['settings'])
    assert len(set(told[:4])) == 4
    assert told[3] == told[4] == told[5]
    assert RolloutSpec('A', str(tmp_path)).identity()['settings'] == told[-1]


def test_another_module_is_another_generator(tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = 'never_imported:Mine'  # of imported ones Python knows the file that it imported
    (tmp_path / 'never_imported.py').write_text('class Mine: ...')
    before = fingerprint(name)
    assert len(before) == 12 and settings(name) == {}
    (tmp_path / 'never_imported.py').write_text('class Mine: ...  # changed')
    assert fingerprint(name) != before
    with pytest.raises(InputError, match='No module named'):
        fingerprint('no_such_module:Mine')
