# SPDX-License-Identifier: Apache-2.0
"""Several generators on the same tasks and the same seeds: reports, one table, one plot a claim."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.comparison_plots import save_plots
from fourdgen_ros.evaluation.openloop import evaluate
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout


@dataclass(frozen=True)
class Comparison:
    """What is compared: every generator on every task, its futures on expert episodes of
    `open_seeds` and in closed loop on `closed_seeds`, either of which may be empty."""

    tasks: Sequence[str]
    generators: Sequence[str]
    open_seeds: Sequence[int]
    closed_seeds: Sequence[int]


@dataclass(frozen=True)
class Entry:
    """Reports of one generator on one task; None where there were no seeds."""

    task: str
    generator: str
    open: dict | None
    closed: dict | None


def compare(what: Comparison, folder: Path, *, workers: int = 1, ray: bool = False,
            on_start: Callable[[str, int], None] = lambda text, total: None,
            on_result: Callable[[], None] = lambda: None) -> list[Entry]:
    """Measure and write `results.json`, `results.md` and plots into `folder`.

    Each report is a file of its own in `folder`/reports and resumes as `rollout` does; a finished
    one is kept when its seeds and weights are the same. `on_start(text, total)` and `on_result()`
    hear of progress. Raises InputError when two generators would share a file.
    """
    if len({label(g) for g in what.generators}) < len(what.generators):
        raise InputError('generators', expected='names that differ',
                         got=str([label(g) for g in what.generators]),
                         hint='Give the folders of the weights different names.')
    cells = []
    for task in what.tasks:
        for generator in what.generators:
            stem = folder / 'reports' / f'{task}.{label(generator)}'
            opened = closed = None
            if what.open_seeds:
                on_start(f'{label(generator)}: futures', len(what.open_seeds))
                opened = evaluate(task, generator, what.open_seeds, workers=workers, ray=ray,
                                  file=stem.with_name(f'{stem.name}.open.json'),
                                  on_result=lambda row: on_result())
            if what.closed_seeds:
                on_start(f'{label(generator)}: closed loop', len(what.closed_seeds))
                closed = rollout(RolloutSpec(task, generator), what.closed_seeds, workers=workers,
                                 ray=ray, file=stem.with_name(f'{stem.name}.closed.json'),
                                 on_result=lambda row: on_result())
            cells.append(Entry(task, label(generator), opened, closed))
    (folder / 'results.json').write_text(json.dumps([{
        'task': c.task, 'generator': c.generator,
        'open': None if c.open is None else {k: c.open[k] for k in ('n', 'weights', 'measures')},
        'closed': None if c.closed is None else {k: v for k, v in c.closed.items()
                                                 if k not in ('outcomes', 'versions')}}
        for c in cells], indent=1) + '\n')
    (folder / 'results.md').write_text(table(cells))
    save_plots(cells, folder)
    return cells


def label(generator: str) -> str:
    """Name of a generator in tables and files: its own, or that of its folder (`preset` is no name,
    its parent is)."""
    path = Path(generator)
    return path.parent.name if path.name == 'preset' and path.parent.name else path.name


# measure -> (heading, digits); medians over futures, but means where the heading says so
_OPEN = {'tcp_mm': ('TCP mm', 1), 'tcp_deg': ('TCP deg', 1), 'gripper_points_mm': ('gripper mm', 1),
         'moving_points_mm': ('moving mm', 1), 'points_mm': ('all mm', 1),
         'cross_view_iou': ('mIoU', 2), 'psnr_db': ('PSNR dB', 1), 'abs_rel': ('AbsRel', 3),
         'delta_125': ('δ<1.25', 3), 'generate_s': ('s a future', 2)}


def table(cells: Sequence[Entry]) -> str:
    """Markdown: closed loop, where tasks were lost, and the measures of the futures."""
    parts = []
    for task in dict.fromkeys(c.task for c in cells):
        mine = [c for c in cells if c.task == task]
        parts.append(f'## {task}\n')
        closed = [(c.generator, c.closed) for c in mine if c.closed is not None]
        if closed:
            parts.append(_markdown(
                ['generator', 'success', 'Wilson 95 %', 'furthest stage', 'failure cause',
                 'observation to plan p50 / p95 s'],
                [[name, f"{r['successes']}/{r['n']}",
                  ' to '.join(f'{x:.2f}' for x in r['wilson95']), _counts(r['stages']),
                  _counts(r['causes']), _latency(r['latency_s']['observation_to_plan'])]
                 for name, r in closed]))
        opened = [(c.generator, c.open['measures']) for c in mine if c.open is not None]
        if opened:
            parts.append(_markdown(
                ['generator (median over futures)', *(text for text, _ in _OPEN.values()),
                 'TCP mm p90', 'TCP mm on true futures'],
                [[name, *(_number(m, key, 'p50', digits) for key, (_, digits) in _OPEN.items()),
                  _number(m, 'tcp_mm', 'p90', 1), _number(m, 'true_tcp_mm', 'p50', 1)]
                 for name, m in opened]))
    return '\n'.join(parts)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return ''.join(f"| {' | '.join(line)} |\n" for line in lines)


def _counts(counts: dict[str, int]) -> str:
    return ', '.join(f'{key} {n}' for key, n in sorted(counts.items(), key=lambda x: -x[1]))


def _latency(value: dict) -> str:
    return f"{value['p50']:.2f} / {value['p95']:.2f}" if value['n'] else ''


def _number(measures: dict, key: str, quantile: str, digits: int) -> str:
    value = measures.get(key, {}).get(quantile)
    return '' if value is None else f'{value:.{digits}f}'
