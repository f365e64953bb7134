# SPDX-License-Identifier: Apache-2.0
r"""Demonstrations without their pictures, which are most of the work and of the bytes.

    python scripts/collect_motions.py --task PutSpatulaOnTable --episodes 1500 --workers 2 \\
      --out motions/spatula

A machine with a GPU draws them (scripts/draw_motions.py), from the fixed cameras or from others: an
episode is 5 kB here and 6 MB there. DIR/motion_%06d.npz holds `appearances` (T, n) float32, see
`Cell.appearance`, as `fourdgen_ros.sim.collect.demonstrate` returns them for the seed. What is
there is kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np

from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.collect import demonstrate
from fourdgen_ros.sim.expert import Expert

_own: dict[str, Any] = {}


def motion_path(out: Path, seed: int) -> Path:
    """Where the motion of a seed is stored; a failed one is an empty file."""
    return out / f'motion_{seed:06d}.npz'


def _start(task: str) -> None:
    cell = Cell(task)
    _own.update(cell=cell, expert=Expert(cell))


def _one(job: tuple[Path, int]) -> None:
    out, seed = job
    appearances = demonstrate(_own['cell'], _own['expert'], seed, True)
    part = motion_path(out, seed).with_suffix('.part')
    with part.open('wb') as stream:
        if appearances is not None:
            np.savez_compressed(stream, appearances=appearances.astype(np.float32))
    part.replace(motion_path(out, seed))


def main() -> None:
    """Collect from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', required=True)
    parser.add_argument('--episodes', type=int, required=True)
    parser.add_argument('--first-seed', type=int, default=100000)
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    jobs = [(args.out, s) for s in seeds if not motion_path(args.out, s).exists()]
    with multiprocessing.get_context('spawn').Pool(args.workers, _start, (args.task,)) as pool:
        for _ in pool.imap_unordered(_one, jobs):
            pass


if __name__ == '__main__':
    main()
