# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of several generators."""

from __future__ import annotations

import errno
import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.comparison import (
    ALL,
    Comparison,
    Entry,
    compare,
    label,
    standings,
    table,
)
from fourdgen_ros.evaluation.comparison_plots import save_plots
from fourdgen_ros.evaluation.seeds import Batch

APPLE, OTHER = 'PlaceAppleFromBowlIntoBin', 'PutSpatulaOnTable'


def entry(name: str, successes: int, tcp: list[float], task: str = APPLE) -> Entry:
    closed = {'n': 10, 'successes': successes, 'rate': successes / 10, 'wilson95': [0.1, 0.9],
              'stages': {'place': successes, 'reach': 10 - successes},
              'causes': {'tracking': 10 - successes},
              'latency_s': {'observation_to_plan': {'n': 9, 'p50': 1.0, 'p95': 1.25}},
              'outcomes': [{'seed': i, 'success': i < successes} for i in range(10)]}
    measures = {'tcp_mm': {'n': 3, 'p50': tcp[1], 'p90': tcp[2]}, 'true_tcp_mm': {'p50': 0.5},
                'true_cross_view_iou': {'p50': 0.71}}
    future = {'tcp_mm': tcp, 'cross_view_iou': 0.6, 'true_cross_view_iou': 0.7}
    return Entry(task, name, {'n': 1, 'measures': measures, 'futures': [future]}, closed)


def test_the_table_tells_each_generator_apart() -> None:
    text = table([entry('ours', 8, [1.0, 12.34, 30.0]), entry('theirs', 2, [5.0, 50.0, 99.0])])
    assert f'## {APPLE}' in text
    assert ('| ours | 8/10 | 0.49 to 0.94 |  |  | place 8, reach 2 | tracking 2 | 1.00 / 1.25 |'
            in text)
    theirs = next(line for line in text.splitlines() if line.startswith('| theirs | 2/10 |'))
    assert '| -0.60 (-0.80 to -0.16) | 0.031 |' in theirs, theirs
    ours = next(line for line in text.splitlines() if line.startswith('| ours | 12.3 |'))
    assert ours.endswith('| 30.0 |  |  | 0.5 | 0.71 |')


def test_the_table_tells_what_futures_leave_out_and_nothing_of_older_reports() -> None:
    new, old = entry('new', 1, [1.0, 2.0, 3.0]), entry('old', 1, [1.0, 2.0, 3.0])
    new.open['measures'] |= {'points_missing': {'n': 3, 'p50': 0.25, 'p90': 0.5},
                             'gripper_points_missing': {'n': 3, 'p50': 0.125, 'p90': 0.5}}
    header, _, *rows = [line.split(' | ') for line in table([new, old]).splitlines()
                        if line.startswith(('| generator (', '| new | 2.0', '| old | 2.0'))
                        or line.startswith('| ---')][-4:]
    told = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert (told['| new']['gripper left out'], told['| new']['left out']) == ('0.125', '0.250')
    assert (told['| old']['gripper left out'], told['| old']['left out']) == ('', '')


def test_the_table_counts_futures_that_failed() -> None:
    some, none = entry('some', 1, [1.0, 2.0, 3.0]), entry('none', 1, [1.0, 2.0, 3.0])
    some.open['measures'] |= {'generation_failures': {'n': 9, 'failed': 2},
                              'tracking_failures': {'n': 7, 'failed': 1}}
    text = table([some, none])
    assert '| TCP mm p90 | not generated | not tracked |' in text
    assert '| 3.0 | 2/9 | 1/7 | 0.5 | 0.71 |' in text
    assert '| 3.0 |  |  | 0.5 | 0.71 |' in text


def test_tasks_are_pooled_over_the_seeds_that_both_ran() -> None:
    entries = [entry('ours', 8, [1.0, 2.0, 3.0]), entry('theirs', 2, [1.0, 2.0, 3.0]),
               entry('ours', 10, [1.0, 2.0, 3.0], OTHER),
               entry('theirs', 3, [1.0, 2.0, 3.0], OTHER)]
    for e in entries[2:]:
        e.closed['outcomes'] = e.closed['outcomes'][:5]
    ranked = standings(entries)
    assert [(s.task, s.generator) for s in ranked] == [
        (APPLE, 'ours'), (APPLE, 'theirs'), (OTHER, 'ours'), (OTHER, 'theirs'),
        (ALL, 'ours'), (ALL, 'theirs')]
    pooled = ranked[-1]
    assert (pooled.n, pooled.successes, pooled.against_first.n) == (15, 5, 15)
    assert pooled.against_first.difference == pytest.approx(5 / 15 - 13 / 15)
    assert '## All tasks' in table(entries)
    assert ALL not in {s.task for s in standings(entries[:2])}


def test_plots(tmp_path: Path) -> None:
    save_plots([entry('ours', 8, [1.0, 2.0, 3.0]), entry('theirs', 2, [4.0, 5.0, 6.0])], tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {
        'success.png', 'stages.png', 'tcp_error.png', 'agreement.png'}


def test_a_disk_that_fills_up_leaves_no_half_plot(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def savefig(self, file, **_: object) -> None:
        with file.open('wb') if isinstance(file, Path) else nullcontext(file) as stream:
            stream.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('matplotlib.figure.Figure.savefig', savefig)
    with pytest.raises(OSError, match='success.png'):
        save_plots([entry('ours', 8, [1.0, 2.0, 3.0])], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_points_there_is_no_agreement_to_plot(tmp_path: Path) -> None:
    rgb = entry('rgb', 8, [1.0, 2.0, 3.0])
    rgb.open['futures'][0]['cross_view_iou'] = float('nan')  # as older reports tell it
    save_plots([rgb], tmp_path)
    assert not (tmp_path / 'agreement.png').exists()
    del rgb.open['futures'][0]['cross_view_iou']
    save_plots([rgb], tmp_path)
    assert not (tmp_path / 'agreement.png').exists()


def test_names_are_those_of_the_folders() -> None:
    assert [label(g) for g in ('tiny', 'runs/a/preset', 'runs/b', 'runs/b/')] == [
        'tiny', 'a', 'b', 'b']
    with pytest.raises(InputError, match='names that differ'):
        compare(Comparison([APPLE], ['x/b', 'y/b'], [0], []), Path(), Batch())


def test_a_finished_report_is_kept(tmp_path: Path) -> None:
    rows = []

    def measure() -> list[dict]:
        compare(Comparison([APPLE], ['still'], [], [0]), tmp_path, Batch(), on_result=rows.append)
        return json.loads((tmp_path / 'results.json').read_text())['results']

    first = measure()
    assert [r['seed'] for r in rows] == [0]
    assert first[0]['closed']['successes'] == 0  # who imagines no motion does not move
    assert measure() == first
    assert len(rows) == 1
