# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of several generators."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.comparison import Comparison, Entry, compare, label, table
from fourdgen_ros.evaluation.comparison_plots import save_plots
from fourdgen_ros.evaluation.seeds import Batch

APPLE = 'PlaceAppleFromBowlIntoBin'


def entry(name: str, successes: int, tcp: list[float]) -> Entry:
    closed = {'n': 10, 'successes': successes, 'rate': successes / 10, 'wilson95': [0.1, 0.9],
              'stages': {'place': successes, 'reach': 10 - successes},
              'causes': {'tracking': 10 - successes},
              'latency_s': {'observation_to_plan': {'n': 9, 'p50': 1.0, 'p95': 1.25}}}
    measures = {'tcp_mm': {'n': 3, 'p50': tcp[1], 'p90': tcp[2]}, 'true_tcp_mm': {'p50': 0.5}}
    return Entry(APPLE, name, {'n': 1, 'measures': measures, 'futures': [{'tcp_mm': tcp}]}, closed)


def test_the_table_tells_each_generator_apart() -> None:
    text = table([entry('ours', 8, [1.0, 12.34, 30.0]), entry('theirs', 2, [5.0, 50.0, 99.0])])
    assert f'## {APPLE}' in text
    assert '| ours | 8/10 | 0.10 to 0.90 | place 8, reach 2 | tracking 2 | 1.00 / 1.25 |' in text
    ours = next(line for line in text.splitlines() if line.startswith('| ours | 12.3 |'))
    assert ours.endswith('| 30.0 | 0.5 |')


def test_plots(tmp_path: Path) -> None:
    save_plots([entry('ours', 8, [1.0, 2.0, 3.0]), entry('theirs', 2, [4.0, 5.0, 6.0])], tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {'success.png', 'stages.png', 'tcp_error.png'}


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
