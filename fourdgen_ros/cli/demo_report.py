# SPDX-License-Identifier: Apache-2.0
"""How a demo ends: pictures, one screen of text, a JSON file."""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fourdgen_ros.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from fourdgen_ros.evaluation.recording import Recording

STAGES = ('generate', 'track', 'plan', 'execute')


@dataclass
class Outcome:
    """What a demo did: seconds by stage in every segment, s until ready, s of the task."""

    success: bool
    message: str
    segments: int
    timings: list[dict]
    ready: float
    seconds: float
    stage: str
    recordings: list[Recording]


def finish(outcome: Outcome, args: argparse.Namespace, console: Console) -> int:
    """Write pictures and JSON, print the summary and return the exit code."""
    from rich.table import Table
    from rich.text import Text

    from fourdgen_ros.evaluation.generators import fingerprint
    from fourdgen_ros.evaluation.report.load import OUTCOME
    from fourdgen_ros.evaluation.stack import versions

    files = _pictures(outcome, args, console)
    word = ('done', 'bold green') if outcome.success else ('not done', 'bold red')
    console.print(Text.assemble(
        f'\n{args.task}, seed {args.seed}, generator {args.generator}: ', word,
        f' after {outcome.segments} segments, {outcome.seconds:.1f} s'))
    if outcome.message:
        console.print(outcome.message, style='red')
    console.print(f'furthest stage: {outcome.stage}; ready after {outcome.ready:.1f} s')
    table = Table('segment', *STAGES, box=None)
    for i, timing in enumerate(outcome.timings):
        table.add_row(str(i + 1), *(_seconds(timing.get(stage)) for stage in STAGES))
    table.add_row('median', *(_seconds(_median(outcome.timings, stage)) for stage in STAGES),
                  style='bold')
    console.print(table)
    if outcome.recordings:
        mm, degrees = _followed(outcome.recordings)
        console.print(f'executed beside imagined gripper path: {mm:.0f} mm, {degrees:.1f} deg '
                      f'(median)')
    for text, file in files.items():
        console.print(f'{text}: {file}', soft_wrap=True)
    value = {
        'task': args.task, 'generator': args.generator, 'seed': args.seed, 'ros': not args.no_ros,
        'success': outcome.success, 'message': outcome.message, 'stage': outcome.stage,
        'segments': outcome.segments, 'seconds_until_ready': round(outcome.ready, 2),
        'seconds': round(outcome.seconds, 2), 'timings': outcome.timings,
        'files': {text: str(file) for text, file in files.items()},
        'weights': fingerprint(args.generator), 'versions': versions(),
        'command': ['fourdgen', *sys.argv[1:]]}
    for file in (args.out / OUTCOME, args.json):
        options.write_json(file, value)
    return 0 if outcome.success else 1


def _pictures(outcome: Outcome, args: argparse.Namespace, console: Console) -> dict:
    from fourdgen_ros.evaluation.picture import (
        film,
        save_gif,
        save_picture,
        save_ply,
        strip,
    )

    if not outcome.recordings:
        return {}
    args.out.mkdir(parents=True, exist_ok=True)
    files = {'imagined beside real, film': args.out / 'imagined_and_real.gif',
             'imagined beside real, picture': args.out / 'imagined_and_real.png',
             'last imagined cloud': args.out / 'imagined.ply'}
    future = outcome.recordings[-1].future
    with console.status('drawing'):
        save_gif(film(outcome.recordings), files['imagined beside real, film'], future.dt)
        save_picture(strip(outcome.recordings), files['imagined beside real, picture'])
        save_ply(future, future.frames - 1, files['last imagined cloud'])
    return files


def _followed(recordings: list[Recording]) -> tuple[float, float]:
    from fourdgen_ros.evaluation.recording import executed_errors

    rows = [row for recording in recordings for row in executed_errors(recording)[1:]]
    return tuple(statistics.median(column) for column in zip(*rows, strict=True)) if rows else (
        float('nan'), float('nan'))


def _median(timings: list[dict], stage: str) -> float | None:
    values = [timing[stage] for timing in timings if stage in timing]
    return statistics.median(values) if values else None


def _seconds(value: float | None) -> str:
    return '' if value is None else f'{value:.2f} s'
