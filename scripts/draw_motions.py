# SPDX-License-Identifier: Apache-2.0
"""Draw the pictures of motions (scripts/collect_motions.py): a data set for `fourdgen train`.

    python scripts/draw_motions.py motions/spatula --out data/spatula

The result is what `fourdgen collect` writes for the same seeds, but for rounding to float32. What
is there is kept. With MUJOCO_GL=egl a GPU draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from collect_motions import motions, task_of

from fourdgen_ros.cli import options
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.pool import results
from fourdgen_ros.sim.cell import Appearance, Cell
from fourdgen_ros.sim.collect import draw, episode_path, store, write_meta


def drawer(task: str, cameras: str, out: Path) -> Callable[[tuple[int, Path]], None]:
    """What stores the episode of a seed and its motion in the data set `out`."""
    cell = Cell(task, camera_set=cameras)

    def draw_one(job: tuple[int, Path]) -> None:
        seed, file = job
        with np.load(file) as stored:
            appearances = [Appearance(task, values) for values in stored['appearances']]
        store(out, seed, draw(cell, appearances, seed))

    return draw_one


def main() -> None:
    """Draw from the command line. Raises InputError for a folder without motions of the seeds, or
    which does not tell their task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('motions', type=Path)
    options.add_cameras(parser)
    parser.add_argument('--seeds', type=options.seed_range, metavar='A:B', help='only these')
    parser.add_argument('--workers', type=options.positive, default=1)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    found = motions(args.motions)
    chosen = {s: file for s, file in found.items() if args.seeds is None or s in args.seeds}
    if not chosen:
        raise InputError(f'motions {args.motions}', expected='motion_*.npz of the seeds asked for',
                         got=f'{len(found)} of other seeds',
                         hint='Make them: scripts/collect_motions.py.')
    task = task_of(args.motions)
    args.out.mkdir(parents=True, exist_ok=True)
    write_meta(args.out, task, True, args.cameras)
    jobs = [job for job in chosen.items() if not episode_path(args.out, job[0]).exists()]
    for _ in results(drawer, (task, args.cameras, args.out), jobs, args.workers):
        pass


if __name__ == '__main__':
    main()
