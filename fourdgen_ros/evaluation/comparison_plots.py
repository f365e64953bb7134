# SPDX-License-Identifier: Apache-2.0
"""Plots of a comparison: success with its interval, stages lost, error over the horizon, agreement
of the views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fourdgen_ros.core.files import whole
from fourdgen_ros.evaluation.statistics import by_frame
from fourdgen_ros.sim.tasks.base import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fourdgen_ros.evaluation.comparison import Entry


def save_plots(cells: Sequence[Entry], folder: Path) -> None:
    """Write `success.png`, `stages.png`, `tcp_error.png` and `agreement.png`, as far as there is
    something to show: a panel a task."""
    closed = [c for c in cells if c.closed is not None]
    opened = [c for c in cells if c.open is not None]
    if closed:
        _panels(closed, folder / 'success.png', _success)
        _panels(closed, folder / 'stages.png', _stages)
    if opened:
        _panels(opened, folder / 'tcp_error.png', _tcp_error)
    agreeing = [c for c in opened if _found(c, 'cross_view_iou')]
    if agreeing:
        _panels(agreeing, folder / 'agreement.png', _agreement)


def _panels(cells: Sequence[Entry], file: Path, draw) -> None:
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(c.task for c in cells))
    figure = Figure(figsize=(5.0 * len(tasks), 3.6), layout='constrained')
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        draw(axes, [c for c in cells if c.task == task])
        axes.set_title(task, fontsize=10)
    with whole(file) as stream:
        figure.savefig(stream, format='png', dpi=120)


def _success(axes: Axes, cells: Sequence[Entry]) -> None:
    rates = np.array([c.closed['rate'] for c in cells])
    bounds = np.array([c.closed['wilson95'] for c in cells]).T
    names = [f"{c.generator}\n{c.closed['successes']}/{c.closed['n']}" for c in cells]
    axes.bar(names, rates, yerr=np.abs(bounds - rates), capsize=4, color='tab:blue')
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel('success, Wilson 95 %')
    axes.tick_params(axis='x', rotation=20)


def _stages(axes: Axes, cells: Sequence[Entry]) -> None:
    """Share of the runs that came at least so far."""
    for c in cells:
        counts = [c.closed['stages'].get(stage, 0) for stage in STAGES]
        reached = np.cumsum(counts[::-1])[::-1] / c.closed['n']
        axes.plot([*STAGES[1:], 'done'], [*reached[1:], c.closed['rate']], marker='o',
                  label=c.generator)
    axes.set_ylim(0.0, 1.02)
    axes.set_ylabel('share that came so far')
    axes.legend(fontsize=8, loc='lower left')


def _tcp_error(axes: Axes, cells: Sequence[Entry]) -> None:
    """Median and p90 of the tracked TCP error by frame."""
    for c in cells:
        # where the future is the truth itself, only the tracker errs
        key = 'tcp_mm' if any('tcp_mm' in f for f in c.open['futures']) else 'true_tcp_mm'
        median, p90 = by_frame([f[key] for f in c.open['futures'] if key in f], 50, 90)
        if not median:
            continue
        frames = np.arange(1, len(median) + 1)
        line, = axes.plot(frames, median, marker='.', label=c.generator)
        axes.plot(frames, p90, ls=':', color=line.get_color())
    axes.set_yscale('log')
    axes.set_xlabel('frame of the future')
    axes.set_ylabel('TCP error, mm: median, dotted p90')
    axes.legend(fontsize=8)


def _found(entry: Entry, key: str) -> list[float]:
    """A measure of the futures that have it; it may be NaN in older reports."""
    return [f[key] for f in entry.open['futures'] if np.isfinite(f.get(key, np.nan))]


def _agreement(axes: Axes, cells: Sequence[Entry]) -> None:
    """Cross-view gripper IoU of every future, and the median of the true ones."""
    axes.boxplot([_found(c, 'cross_view_iou') for c in cells],
                 tick_labels=[c.generator for c in cells], whis=(0, 100))
    true = [value for c in cells for value in _found(c, 'true_cross_view_iou')]
    axes.axhline(float(np.median(true)), ls=':', color='gray', label='true futures, median')
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel('cross-view gripper IoU')
    axes.tick_params(axis='x', rotation=20)
    axes.legend(fontsize=8, loc='lower left')
