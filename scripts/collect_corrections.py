# SPDX-License-Identifier: Apache-2.0
"""Demonstrations from where a generator gets the robot: DAgger (Ross et al. 2011).

    python scripts/collect_corrections.py --task StoreCerealBoxUnderShelf --generator tiny \
        --seeds 130000:130100 --workers 2 --out data/cereal_corrections

The generator runs in closed loop. From some of the states in which it looked at the scene again,
failed motions included, the expert then does the rest of the task. The result is a data set as that
of `fourdgen collect`. Seeds below 100000 are left to evaluation. What is there is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fourdgen_ros.cli import options
from fourdgen_ros.evaluation.generators import model_folder
from fourdgen_ros.evaluation.pool import results
from fourdgen_ros.evaluation.road import RoadConfig
from fourdgen_ros.evaluation.stack import build_road, limit_threads
from fourdgen_ros.sim.cameras import FIXED
from fourdgen_ros.sim.cell import Cell, CellState
from fourdgen_ros.sim.collect import draw, finish, store, write_meta
from fourdgen_ros.sim.expert import Expert

STATES = 3  # at most, of one run
SCENES = 1_000_000  # seeds are below it: of a name, the rest tells the scene
SEGMENTS = 6  # after which what goes wrong repeats itself


def correct(cell: Cell, expert: Expert, state: CellState) -> dict[str, np.ndarray] | None:
    """What the expert does from a state, as `record` returns it."""
    cell.set_state(state)
    expert.plan_from_here()
    appearances = finish(cell, expert)
    return None if appearances is None else draw(cell, appearances, state.seed)


def collector(task: str, generator: str, out: Path) -> Callable[[int], int]:
    """What stores the corrections of a seed's run in folder `out` and returns how many."""
    limit_threads(generator)
    states: list[CellState] = []

    def look(segment: int, stage: str) -> None:
        if stage == 'generate':
            states.append(road.cell.state())

    road = build_road(task, generator, RoadConfig(max_segments=SEGMENTS), look)
    expert = Expert(road.cell)

    def collect(seed: int) -> int:
        states.clear()
        road.cell.reset(seed)
        road.run(seed)
        later = states[1:]  # the first is what every demonstration begins with
        rng = np.random.default_rng([seed, 2])
        chosen = sorted(rng.choice(len(later), min(STATES, len(later)), replace=False))
        corrections = [correct(road.cell, expert, later[index]) for index in chosen]
        # together at the end: a seed of which one is there is not run again
        stored = {name(seed, number): episode for number, episode in enumerate(corrections)
                  if episode is not None}
        for number, episode in stored.items():
            store(out, number, episode)
        return len(stored)

    return collect


def name(seed: int, number: int) -> int:
    """What stands for the seed in the name of an episode."""
    return number * SCENES + seed


def main() -> None:
    """Collect from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_task(parser)
    parser.add_argument('--generator', default='tiny')
    parser.add_argument('--seeds', type=options.seed_range, required=True, metavar='A:B')
    parser.add_argument('--workers', type=options.positive, default=1)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    options.require_task(args.task)
    model_folder(args.generator)  # nothing is written for a generator that is not there
    args.out.mkdir(parents=True, exist_ok=True)
    write_meta(args.out, args.task, True, FIXED)
    there = {int(file.stem.removeprefix('episode_')) % SCENES
             for file in args.out.glob('episode_*.npz')}
    seeds = [seed for seed in args.seeds if seed not in there]
    stored = sum(results(collector, (args.task, args.generator, args.out), seeds, args.workers))
    options.console().print(f'{stored} episodes of {len(seeds)} runs in {args.out}')


if __name__ == '__main__':
    main()
