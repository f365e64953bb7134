# SPDX-License-Identifier: Apache-2.0
"""Demonstrations without their pictures, which are most of the work and of the bytes.

    python scripts/collect_motions.py --task PutSpatulaOnTable --episodes 1500 --out motions/spatula

A machine with a GPU draws them (scripts/draw_motions.py), from the fixed cameras or from others: an
episode is 5 kB here and 6 MB there. DIR/motion_%06d.npz holds `appearances` (T, n) float32, see
`Appearance.values`, as `fourdgen_ros.sim.collect.demonstrate` returns them for the seed; it is
empty where the expert failed. DIR/meta.json names the task. What is there is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fourdgen_ros.cli import options
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import whole, write_whole
from fourdgen_ros.evaluation.pool import results
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.collect import demonstrate
from fourdgen_ros.sim.expert import Expert
from fourdgen_ros.sim.tasks import load_task

NAME = 'motion_{:06d}.npz'


def motions(folder: Path) -> dict[int, Path]:
    """The files of a folder by seed, without those of the seeds on which the expert failed."""
    return {int(file.stem.removeprefix('motion_')): file
            for file in sorted(folder.glob('motion_*.npz')) if file.stat().st_size}


def task_of(folder: Path) -> str:
    """The task of the motions in a folder. Raises InputError when they do not tell one."""
    file = folder / 'meta.json'
    if not file.is_file():
        raise InputError(
            f'motions {folder}', expected='meta.json, which names their task', got='none',
            hint='Motions that were made earlier had none. If you know their task, name it: '
                 f'echo \'{{"task": "PutSpatulaOnTable"}}\' > {file}. Else make them again.')
    try:
        return load_task(json.loads(file.read_bytes())['task']).name
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f'{file}', expected='the task of the motions, in JSON',
                         got=f'{type(error).__name__}: {error}', hint='Make it again.') from error


def name_task(folder: Path, task: str) -> None:
    """Say in a folder of motions what their task is. Raises InputError when it is another one."""
    if not any(folder.glob('motion_*.npz')):
        write_whole(folder / 'meta.json', json.dumps({'task': task}) + '\n')
    elif task_of(folder) != task:
        raise InputError(f'motions {folder}', expected=f'those of task {task}',
                         got=f'those of {task_of(folder)}', hint='Collect into another folder.')


def collector(task: str, out: Path) -> Callable[[int], None]:
    """What stores the motion of a seed in folder `out`, whole or not at all."""
    cell = Cell(task)
    expert = Expert(cell)

    def collect(seed: int) -> None:
        appearances = demonstrate(cell, expert, seed, True)
        with whole(out / NAME.format(seed)) as stream:
            if appearances is not None:
                values = np.stack([appearance.values for appearance in appearances])
                np.savez_compressed(stream, appearances=values.astype(np.float32))

    return collect


def main() -> None:
    """Collect from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_task(parser)
    parser.add_argument('--episodes', type=options.positive, required=True)
    parser.add_argument('--first-seed', type=int, default=100000)
    parser.add_argument('--workers', type=options.positive, default=1)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    options.require_task(args.task)
    args.out.mkdir(parents=True, exist_ok=True)
    name_task(args.out, args.task)
    seeds = [seed for seed in range(args.first_seed, args.first_seed + args.episodes)
             if not (args.out / NAME.format(seed)).exists()]
    for _ in results(collector, (args.task, args.out), seeds, args.workers):
        pass


if __name__ == '__main__':
    main()
