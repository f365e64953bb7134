# SPDX-License-Identifier: Apache-2.0
"""Several generators on the same tasks and the same seeds: reports, one table, one plot a claim."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import write_whole
from fourdgen_ros.evaluation.comparison_plots import save_plots
from fourdgen_ros.evaluation.generators import is_policy
from fourdgen_ros.evaluation.openloop import evaluate
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.statistics import Paired, paired, wilson
from fourdgen_ros.sim.cameras import FIXED

ALL = 'all tasks'


@dataclass(frozen=True)
class Comparison:
    """What is compared: every generator on every task, its futures on expert episodes of
    `open_seeds` and in closed loop on `closed_seeds`, either of which may be empty."""

    tasks: Sequence[str]
    generators: Sequence[str]
    open_seeds: Sequence[int]
    closed_seeds: Sequence[int]
    camera_set: str = FIXED


@dataclass(frozen=True)
class Entry:
    """Reports of one generator on one task; None where there were no seeds."""

    task: str
    generator: str
    open: dict | None
    closed: dict | None


def compare(what: Comparison, folder: Path, batch: Batch,
            on_start: Callable[[str, int], None] = lambda text, total: None,
            on_result: Callable[[dict], None] = lambda row: None, *,
            command: Sequence[str] = ()) -> list[Entry]:
    """Measure and write `results.json`, `results.md` (with the `command`) and plots into `folder`.

    Each report is a file of its own in `folder`/reports, which is kept when seeds, settings and
    weights, or the module of a class of the user, are the same; `batch.file` is not used.
    `on_start(text, total)` and `on_result(row)` hear of progress. Raises InputError when two
    generators would share a file.
    """
    if len({label(g) for g in what.generators}) < len(what.generators):
        raise InputError('generators', expected='names that differ',
                         got=str([label(g) for g in what.generators]),
                         hint='Give the folders of the weights different names.')
    entries = []
    for task in what.tasks:
        for generator in what.generators:
            name = label(generator)
            stem = folder / 'reports' / f'{task}.{what.camera_set}.{name}'
            opened = closed = None
            if what.open_seeds and not is_policy(generator):
                on_start(f'{name}: futures', len(what.open_seeds))
                opened = evaluate(
                    task, generator, what.open_seeds, camera_set=what.camera_set,
                    batch=replace(batch, file=stem.with_name(f'{stem.name}.open.json'), reuse=True),
                    on_result=on_result)
            if what.closed_seeds:
                on_start(f'{name}: closed loop', len(what.closed_seeds))
                closed = rollout(
                    RolloutSpec(task, generator, camera_set=what.camera_set), what.closed_seeds,
                    replace(batch, file=stem.with_name(f'{stem.name}.closed.json'), reuse=True),
                    on_result, strips=not is_policy(generator))
            entries.append(Entry(task, name, opened, closed))
    rows = [{'task': e.task, 'generator': e.generator, 'open': _without(e.open, 'futures'),
             'closed': _without(e.closed, 'outcomes')} for e in entries]
    write_whole(folder / 'results.json', json.dumps(
        {'command': list(command), 'results': rows,
         'standings': [asdict(s) for s in standings(entries)]}, indent=1) + '\n')
    write_whole(folder / 'results.md',
                f"{table(entries)}\n{f'`{shlex.join(command)}`' if command else ''}\n")
    save_plots(entries, folder)
    return entries


def _without(report: dict | None, key: str) -> dict | None:
    return None if report is None else {k: v for k, v in report.items() if k != key}


def label(generator: str) -> str:
    """Name of a generator in tables and files: its own, or that of its folder (`preset` is no name,
    its parent is)."""
    path = Path(generator)
    return path.parent.name if path.name == 'preset' and path.parent.name else path.name


@dataclass(frozen=True)
class Standing:
    """Closed loop of a generator on a task, or pooled over all (`ALL`), and against the generator
    that is named first, on the seeds that both ran; None for that one itself."""

    task: str
    generator: str
    n: int
    successes: int
    against_first: Paired | None


def standings(entries: Sequence[Entry]) -> list[Standing]:
    """Of every task and, where there are several, of all together."""
    outcomes: dict[tuple[str, str], dict[tuple[str, int], bool]] = {}
    tasks = list(dict.fromkeys(e.task for e in entries))
    for e in entries:
        if e.closed is not None:
            rows = {(e.task, row['seed']): row['success'] for row in e.closed['outcomes']}
            for task in (e.task, ALL) if len(tasks) > 1 else (e.task,):
                outcomes.setdefault((task, e.generator), {}).update(rows)
    found, first = [], {}
    for (task, generator), mine in sorted(outcomes.items(), key=lambda x: x[0][0] == ALL):
        base = first.setdefault(task, mine)
        common = [key for key in mine if key in base]
        against = None if base is mine or not common else paired(
            [mine[key] for key in common], [base[key] for key in common])
        found.append(Standing(task, generator, len(mine), sum(mine.values()), against))
    return found


# measure -> (heading, digits)
_OPEN = {'tcp_mm': ('TCP mm', 1), 'tcp_deg': ('TCP deg', 1), 'gripper_points_mm': ('gripper mm', 1),
         'gripper_points_missing': ('gripper left out', 3), 'moving_points_mm': ('moving mm', 1),
         'points_mm': ('all mm', 1), 'points_missing': ('left out', 3),
         'camera_mm': ('camera mm', 1), 'cross_view_iou': ('mIoU', 2), 'psnr_db': ('PSNR dB', 1),
         'abs_rel': ('AbsRel', 3), 'delta_125': ('δ<1.25', 3), 'generate_s': ('s a future', 2)}


def table(entries: Sequence[Entry]) -> str:
    """Markdown: closed loop, paired with the generator that is named first, where tasks were lost,
    and the measures of the futures."""
    parts, ranked = [], standings(entries)
    first = entries[0].generator if entries else ''
    for task in dict.fromkeys(e.task for e in entries):
        mine = [e for e in entries if e.task == task]
        parts.append(f'## {task}\n')
        closed = [(e.generator, e.closed) for e in mine if e.closed is not None]
        if closed:
            parts.append(_markdown(
                [*_standing_header(first), 'furthest stage', 'failure cause',
                 'observation to plan p50 / p95 s'],
                [[*_standing(s), _counts(r['stages']), _counts(r['causes']),
                  _latency(r['latency_s']['observation_to_plan'])]
                 for s, (_, r) in zip((s for s in ranked if s.task == task), closed,
                                      strict=True)]))
        opened = [(e.generator, e.open['measures']) for e in mine if e.open is not None]
        if opened:
            parts.append(_markdown(
                ['generator (median over futures)', *(text for text, _ in _OPEN.values()),
                 'TCP mm p90', 'not generated', 'not tracked', 'on true futures: TCP mm', 'mIoU'],
                [[name, *(_number(m, key, 'p50', digits) for key, (_, digits) in _OPEN.items()),
                  _number(m, 'tcp_mm', 'p90', 1), _failed(m, 'generation'), _failed(m, 'tracking'),
                  _number(m, 'true_tcp_mm', 'p50', 1),
                  _number(m, 'true_cross_view_iou', 'p50', 2)]
                 for name, m in opened]))
    pooled = [s for s in ranked if s.task == ALL]
    if pooled:
        parts.append(f'## {ALL.capitalize()}\n')
        parts.append(_markdown(_standing_header(first), [_standing(s) for s in pooled]))
    return '\n'.join(parts)


def _standing_header(first: str) -> list[str]:
    return ['generator', 'success', 'Wilson 95 %', f'less {first}, paired 95 %', 'McNemar p']


def _standing(s: Standing) -> list[str]:
    cells = [s.generator, f'{s.successes}/{s.n}', _span(wilson(s.successes, s.n), '.2f')]
    if s.against_first is None:
        return [*cells, '', '']
    a = s.against_first
    return [*cells, f'{a.difference:+.2f} ({_span(a.interval, "+.2f")})', f'{a.p:.2g}']


def _span(bounds: Sequence[float], form: str) -> str:
    return ' to '.join(f'{x:{form}}' for x in bounds)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return ''.join(f"| {' | '.join(line)} |\n" for line in lines)


def _counts(counts: dict[str, int]) -> str:
    return ', '.join(f'{key} {n}' for key, n in sorted(counts.items(), key=lambda x: -x[1]))


def _failed(measures: dict, stage: str) -> str:
    told = measures.get(f'{stage}_failures')
    return '' if told is None else f"{told['failed']}/{told['n']}"


def _latency(value: dict) -> str:
    return f"{value['p50']:.2f} / {value['p95']:.2f}" if value['n'] else ''


def _number(measures: dict, key: str, quantile: str, digits: int) -> str:
    value = measures.get(key, {}).get(quantile)
    return '' if value is None else f'{value:.{digits}f}'
