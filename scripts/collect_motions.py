# SPDX-License-Identifier: Apache-2.0
"""Demonstrations without their pictures, which are most of the work and of the bytes.

    python scripts/collect_motions.py --task PutSpatulaOnTable --episodes 1500 --out motions/spatula

A machine with a GPU draws them (scripts/draw_motions.py), from the fixed cameras or from others: an
episode is 5 kB here and 6 MB there. DIR/motion_%06d.npz holds `appearances` (T, n) float32, see
`Cell.appearance`, as `fourdgen_ros.sim.collect.demonstrate` returns them for the seed; it is empty
where the expert failed. What is there is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fourdgen_ros.cli import options
from fourdgen_ros.evaluation.pool import results
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.collect import demonstrate
from fourdgen_ros.sim.expert import Expert

NAME = 'motion_{:06d}.npz'


def motions(folder: Path) -> dict[int, Path]:
    """The files of a folder by seed, without those of the seeds on which the expert failed."""
    return {int(file.stem.removeprefix('motion_')): file
            for file in sorted(folder.glob('motion_*.npz')) if file.stat().st_size}


def collector(task: str, out: Path) -> Callable[[int], None]:
    """What stores the motion of a seed in folder `out`, whole or not at all."""
    cell = Cell(task)
    expert = Expert(cell)

    def collect(seed: int) -> None:
        appearances = demonstrate(cell, expert, seed, True)
        file = out / NAME.format(seed)
        part = file.with_suffix('.part')
        with part.open('wb') as stream:
            if appearances is not None:
                np.savez_compressed(stream, appearances=appearances.astype(np.float32))
        part.replace(file)

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
    seeds = [seed for seed in range(args.first_seed, args.first_seed + args.episodes)
             if not (args.out / NAME.format(seed)).exists()]
    for _ in results(collector, (args.task, args.out), seeds, args.workers):
        pass


if __name__ == '__main__':
    main()
