# SPDX-License-Identifier: Apache-2.0
r"""Draw the pictures of motions (scripts/collect_motions.py): a data set for `fourdgen train`.

    MUJOCO_GL=egl python scripts/draw_motions.py motions/spatula --task PutSpatulaOnTable \\
      --workers 16 --out data/spatula

The result is what `fourdgen collect` writes for the same seeds, but for rounding to float32. What
is there is kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np

from fourdgen_ros.sim.cameras import CAMERA_SETS, FIXED
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.collect import draw, episode_path, store, write_meta

_own: dict[str, Any] = {}


def _start(task: str, cameras: str) -> None:
    _own['cell'] = Cell(task, camera_set=cameras)


def _one(job: tuple[Path, Path]) -> None:
    file, out = job
    with np.load(file) as stored:
        store(out, _seed(file), draw(_own['cell'], stored['appearances'], _seed(file)))


def _seed(file: Path) -> int:
    return int(file.stem.removeprefix('motion_'))


def main() -> None:
    """Draw from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('motions', type=Path)
    parser.add_argument('--task', required=True)
    parser.add_argument('--seeds', nargs=2, type=int, default=(0, 10**9), metavar=('FROM', 'TO'))
    parser.add_argument('--cameras', choices=CAMERA_SETS, default=FIXED)
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_meta(args.out, args.task, True, args.cameras)
    seeds = range(*args.seeds)
    # the expert failed where a file is empty
    jobs = [(f, args.out) for f in sorted(args.motions.glob('motion_*.npz'))
            if _seed(f) in seeds and f.stat().st_size
            and not episode_path(args.out, _seed(f)).exists()]
    context = multiprocessing.get_context('spawn')
    with context.Pool(args.workers, _start, (args.task, args.cameras)) as pool:
        for _ in pool.imap_unordered(_one, jobs):
            pass


if __name__ == '__main__':
    main()
