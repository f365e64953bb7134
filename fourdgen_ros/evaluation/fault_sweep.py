# SPDX-License-Identifier: Apache-2.0
"""How TCP error and success degrade with each fault of the cameras: reports, table, plot."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fourdgen_ros.core.files import whole, write_whole
from fourdgen_ros.core.sensor_faults import UNITS, Fault
from fourdgen_ros.evaluation.openloop import evaluate
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
from fourdgen_ros.evaluation.seeds import Batch

# From what a good camera does, over what a bad one does, to what nobody should accept.
STRENGTHS: dict[str, tuple[float, ...]] = {
    'depth_noise': (0.08, 0.3, 1.0), 'depth_holes': (3.0, 6.0, 12.0),
    'depth_step': (1.0, 5.0, 20.0), 'exposure': (0.5, 1.0, 2.0), 'skew': (100.0, 300.0, 600.0),
    'hand_eye_shift': (5.0, 10.0, 20.0), 'hand_eye_turn': (0.5, 1.0, 2.0)}


@dataclass(frozen=True)
class Sweep:
    """What is measured: `strengths` of every fault, and no fault at all, on futures of
    `open_seeds` and in closed loop on `closed_seeds`, which may be empty; of each fault only the
    greatest strength runs in closed loop."""

    task: str
    generator: str
    strengths: Mapping[str, Sequence[float]]
    open_seeds: Sequence[int]
    closed_seeds: Sequence[int]


@dataclass(frozen=True)
class Point:
    """Reports at one strength; `fault` None: faultless cameras."""

    fault: Fault | None
    open: dict
    closed: dict | None

    def tcp(self) -> tuple[float, float]:
        """Median and p90 of the TCP error in mm over all frames; NaN when none was tracked."""
        told = self.open['measures'].get('tcp_mm', {})
        return told.get('p50', float('nan')), told.get('p90', float('nan'))

    def lost(self) -> int:
        """Futures that were not generated, and those in which the tracker lost the gripper."""
        return sum(self.open['measures'].get(f'{stage}_failures', {}).get('failed', 0)
                   for stage in ('generation', 'tracking'))


def sweep(what: Sweep, folder: Path, batch: Batch,
          on_start: Callable[[str], None] = lambda text: None, *,
          command: Sequence[str] = ()) -> list[Point]:
    """Measure and write `faults.json`, `faults.md` (with the `command`) and `faults.png`.

    Each report is a file of its own in `folder`/reports, which is kept when seeds, fault and
    weights are the same; `batch.file` is not used. Raises InputError for an unknown fault.
    """
    faults = [Fault(name, s) for name, strengths in what.strengths.items() for s in strengths]
    strongest = {name: max(strengths) for name, strengths in what.strengths.items()}
    points = []
    for fault in (None, *faults):
        name = 'none' if fault is None else str(fault)
        file = folder / 'reports' / f'{name}.open.json'
        on_start(f'{name}: futures')
        opened = evaluate(what.task, what.generator, what.open_seeds,
                          replace(batch, file=file, reuse=True), fault=fault)
        closed = None
        if what.closed_seeds and (fault is None or fault.strength == strongest[fault.name]):
            on_start(f'{name}: closed loop')
            closed = rollout(RolloutSpec(what.task, what.generator, fault=fault),
                             what.closed_seeds, replace(
                                 batch, file=file.with_name(f'{name}.closed.json'), reuse=True))
        points.append(Point(fault, opened, closed))
    write_whole(folder / 'faults.json', json.dumps(
        {'task': what.task, 'generator': what.generator, 'command': list(command),
         'points': [_summary(p) for p in points]}, indent=1) + '\n')
    write_whole(folder / 'faults.md',
                f"{table(points)}\n{f'`{shlex.join(command)}`' if command else ''}\n")
    save_plot(points, folder / 'faults.png')
    return points


def _summary(p: Point) -> dict:
    row = {'fault': None if p.fault is None else p.fault.name,
           'strength': 0.0 if p.fault is None else p.fault.strength,
           'futures': p.open['n'], 'measures': p.open['measures']}
    if p.closed is not None:
        row |= {key: p.closed[key] for key in ('n', 'successes', 'wilson95', 'causes')}
    return row


def table(points: Sequence[Point]) -> str:
    """Markdown: a row a strength."""
    lines = ['| fault | strength | TCP mm, median | p90 | lost | closed loop |',
             '|---|---|---|---|---|---|']
    for p in points:
        name, strength = ('none', '') if p.fault is None else (
            p.fault.name, f'{p.fault.strength:g} {UNITS[p.fault.name]}')
        median, p90 = p.tcp()
        closed = '' if p.closed is None else f"{p.closed['successes']}/{p.closed['n']}"
        lines.append(f"| {name} | {strength} | {median:.1f} | {p90:.1f} | {p.lost()} of "
                     f"{p.open['n']} | {closed} |")
    return '\n'.join(lines) + '\n'


def save_plot(points: Sequence[Point], file: Path) -> None:
    """A panel a fault: median and p90 of the TCP error against strength, with the share of futures
    that were lost."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    clean = next(p for p in points if p.fault is None)
    names = list(dict.fromkeys(p.fault.name for p in points if p.fault is not None))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.7 * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        mine = [clean, *(p for p in points if p.fault is not None and p.fault.name == name)]
        x = [0.0 if p.fault is None else p.fault.strength for p in mine]
        median, p90 = zip(*(p.tcp() for p in mine), strict=True)
        axes.plot(x, p90, marker='.', color='tab:orange', label='p90')
        axes.plot(x, median, marker='.', color='tab:blue', label='median')
        for at, value, p in zip(x, p90, mine, strict=True):
            if p.lost():
                axes.annotate(f"lost {p.lost()}/{p.open['n']}", (at, value), fontsize=7,
                              ha='right', va='bottom')
        axes.set_title(name.replace('_', ' '), fontsize=10)
        axes.set_xlabel(UNITS[name], fontsize=8)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    for axes in panels[len(names):]:
        axes.remove()
    for axes in panels[::columns]:
        axes.set_ylabel('TCP error, mm', fontsize=8)
    panels[0].set_yscale('log')  # of all: they share it
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panels[0].yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[0].legend(fontsize=8)
    figure.suptitle(f"TCP error of imagined motions, {clean.open['n']} futures a point",
                    fontsize=11)
    with whole(file) as stream:
        figure.savefig(stream, format='png', dpi=120)
