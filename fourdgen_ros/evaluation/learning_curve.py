# SPDX-License-Identifier: Apache-2.0
"""What training buys: validation error and closed-loop success against the samples seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import whole


@dataclass(frozen=True)
class Run:
    """Validations of one training run: samples seen and what was measured, in order."""

    name: str
    samples: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Closed:
    """Closed-loop success of weights that had seen so many samples, from a report."""

    samples: int
    rate: float
    wilson95: tuple[float, float]
    n: int


def read_run(folder: Path, measure: str, batch: int) -> Run:
    """The validations in `folder`/log.jsonl, whose steps are of `batch` samples each.

    Raises InputError when there is no such log, it is damaged, or it never tells `measure`.
    """
    file = folder / 'log.jsonl'
    if not file.is_file():
        raise InputError(f'training run {folder}', expected='log.jsonl', got='no such file',
                         hint='Name the folder of a stage, as runs/tiny/dynamics.')
    told = [(batch * row['step'], row['validation']) for row in _rows(file) if 'validation' in row]
    values = {samples: value[measure] for samples, value in told if measure in value}
    if not values:
        known = sorted({key for _, value in told for key in value})
        raise InputError(f'measure {measure!r} in {file}', expected=f'one of {known}', got='none')
    name = folder.parent.name if folder.name in ('dynamics', 'codec', 'training') else folder.name
    # a run that was cut validates some steps twice; the later counts
    return Run(name, tuple(sorted(values)), tuple(values[s] for s in sorted(values)))


def _rows(file: Path) -> list[dict]:
    """The rows of a log without the last line, if it was cut off."""
    lines, rows = file.read_bytes().splitlines(keepends=True), []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines) and not line.endswith(b'\n'):
                break
            raise InputError(f'{file}, line {number}', expected='JSON', got=str(error),
                             hint='If a run that was killed has cut it off, delete it.') from error
    return rows


def read_closed(samples: int, file: Path) -> Closed:
    """A report of `fourdgen rollout`, or of the closed loop in a table. Raises InputError when it
    is none."""
    try:
        report = json.loads(file.read_text(encoding='utf-8'))
        low, high = report['wilson95']
        return Closed(samples, report['rate'], (low, high), report['n'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'closed-loop report {file}', expected='JSON of fourdgen rollout',
                         got=f'{type(error).__name__}: {error}') from error


def save_curve(runs: Sequence[Run], closed: Sequence[Closed], measure: str, file: Path) -> None:
    """One picture: the runs on a logarithmic axis to the left, success with Wilson intervals to the
    right. The folder is made."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(6.4, 3.8), layout='constrained')
    left = figure.subplots()
    for run in runs:
        left.plot(run.samples, run.values, marker='.', label=run.name)
    left.set_yscale('log')
    for set_form in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        set_form(StrMethodFormatter('{x:g}'))
    left.set_xlabel('samples seen')
    left.set_ylabel(f'validation: {measure}')
    if runs:
        left.legend(fontsize=8, loc='upper right')
    if closed:
        points = sorted(closed, key=lambda c: c.samples)
        rates = np.array([c.rate for c in points])
        bounds = np.array([c.wilson95 for c in points]).T
        right = left.twinx()
        right.errorbar([c.samples for c in points], rates, np.abs(bounds - rates), color='black',
                       marker='o', capsize=4)
        right.set_ylim(0.0, 1.02)
        right.set_ylabel('success (black), Wilson 95 %')
    with whole(file) as stream:
        figure.savefig(stream, format=file.suffix[1:], dpi=120)
