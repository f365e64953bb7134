# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of the scripted expert as a dataset of RGB-D episodes.

DIR/meta.json and, per successful seed, DIR/episode_%06d.npz (not compressed) at 5 Hz:
rgb (T, V, H, W, 3) uint8; depth (T, V, H, W) uint16 in 0.1 mm, 0 where invalid; gripper
(T, V, H, W) bool, the visible hand and fingers; tcp (T, 4, 4) in the base frame; opening (T,) m;
joints (T, 7) rad; K (V, 3, 3); T_base_camera (V, 4, 4); times (T,) s; seed; success.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import whole
from fourdgen_ros.core.pool import process_results
from fourdgen_ros.sim.cameras import FIXED, checked_set
from fourdgen_ros.sim.cell import Appearance, Cell
from fourdgen_ros.sim.expert import Expert
from fourdgen_ros.sim.ik import IkSolver
from fourdgen_ros.sim.scene import MAX_OPENING
from fourdgen_ros.sim.tasks import load_task
from fourdgen_ros.sim.tasks.base import Task

HEIGHT, WIDTH = 96, 128
RATE = 5.0  # Hz
DEPTH_UNIT = 1e-4  # m
_THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'LP_NUM_THREADS')  # the last is Mesa's
_TAIL = 1.0  # s recorded after the task is done
_LIMIT = 16.0  # s after which an episode counts as failed
_START_SHARE = 0.6  # of the perturbed episodes that start elsewhere
_MID_TASK = 0.45  # of those: in the middle of the task
_DROP = 0.25  # of those: let go of what is held
_GAP = (0.6, 4.5)  # s between disturbances
_PUSH_TIME = (0.4, 0.7)  # s
_PUSH = (0.015, 0.04)  # m
_FLOOR = 0.02  # m, the lowest TCP that a disturbance asks for


@dataclass(frozen=True)
class Progress:
    """How far a collection is: episodes finished of `total`, and how many of them succeeded."""

    finished: int
    total: int
    succeeded: int


class Disturber:
    """Displaces the expert's target for a while at random moments; DART (Laskey et al. 2017)
    shows why: the expert then demonstrates how to recover."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._schedule(0.0)

    def _schedule(self, now: float) -> None:
        self._start = now + self._rng.uniform(*_GAP)
        self._duration = self._rng.uniform(*_PUSH_TIME)
        direction = self._rng.normal(size=3) * (1.0, 1.0, 0.6)
        length = self._rng.uniform(*_PUSH)
        self._push = length * direction / np.linalg.norm(direction)

    def drive(self, cell: Cell, expert: Expert) -> None:
        """One control step, disturbed or not."""
        share = (cell.time - self._start) / self._duration
        if share < 0.0 or expert.resting:
            expert.drive()
            return
        smooth = min(share, 1.0) ** 2 * (3.0 - 2.0 * min(share, 1.0))
        offset = smooth * self._push
        offset[2] = max(offset[2], min(0.0, _FLOOR - cell.tcp_pose()[2, 3]))
        expert.drive(offset=offset)
        if share >= 1.0:
            expert.plan_from_here()
            self._schedule(cell.time)


def _random_pose(task: Task, rng: np.random.Generator) -> NDArray[np.float64]:
    """A TCP pose over the table, pointing down but for a small tilt."""
    down = np.diag([1.0, -1.0, -1.0])
    return se3.make(se3.exp_so3(rng.normal(0.0, 0.08, 3)) @ down, rng.uniform(*task.start_box))


def _start_anywhere(cell: Cell, rng: np.random.Generator) -> None:
    ik = IkSolver()
    ik.reset(cell.joint_positions)
    q, error = ik.solve(_random_pose(load_task(cell.task), rng))
    if error < 0.02:
        opening = MAX_OPENING if rng.uniform() < 0.7 else rng.uniform(0.0, MAX_OPENING)
        cell.set_robot(q, opening)
        cell.step(0.1)


def _start_mid_task(cell: Cell, expert: Expert, rng: np.random.Generator) -> None:
    """Run a random part of the task, move the target a few cm aside, at times drop what is held,
    and come to rest."""
    until = rng.uniform(0.5, 6.0)
    while cell.time < until:
        expert.drive()
    push = rng.uniform((-0.06, -0.06, 0.0), (0.06, 0.06, 0.08))
    for share in np.linspace(0.0, 1.0, 35):
        expert.drive(offset=push * share**2 * (3.0 - 2.0 * share))
    cell.set_arm_target(cell.joint_positions, np.zeros(7))
    if rng.uniform() < _DROP:
        cell.set_gripper_target(MAX_OPENING)
        cell.step(0.6)
    cell.step(0.2)


def demonstrate(cell: Cell, expert: Expert, seed: int, perturb: bool) -> list[Appearance] | None:
    """One episode as what the cell looked like at each record; None when the expert failed.

    With `perturb`, 60 % of the episodes start away from home or in the middle of the task, and the
    expert is disturbed on the way in most. Depends on `seed` only.
    """
    rng = np.random.default_rng([seed, 1])
    cell.reset(seed)
    expert.plan_from_here()
    if perturb and rng.uniform() < _START_SHARE:
        if rng.uniform() < _MID_TASK:
            _start_mid_task(cell, expert, rng)
        else:
            _start_anywhere(cell, rng)
        expert.plan_from_here()
    return finish(cell, expert, Disturber(rng) if perturb and rng.uniform() < 0.7 else None)


def finish(cell: Cell, expert: Expert,
           disturber: Disturber | None = None) -> list[Appearance] | None:
    """The rest of the task as `demonstrate` returns it: the expert follows its plan from the state
    that the cell is in, disturbed or not, until the task is done."""
    start, records, done = cell.time, [], None
    while done is None or cell.time < done + _TAIL:
        if cell.time - start > _LIMIT:
            return None
        if cell.time - start >= len(records) / RATE - 1e-6:
            records.append(cell.appearance())
        if disturber is None:
            expert.drive()
        else:
            disturber.drive(cell, expert)
        if done is None and expert.resting and cell.success():
            done = cell.time
    return records if cell.success() else None


def draw(cell: Cell, appearances: Sequence[Appearance], seed: int) -> dict[str, NDArray]:
    """The arrays of the dataset of what `demonstrate` returned, seen by the cameras of `cell`; the
    cell is left at the last record, at rest. Raises InputError for those of another task."""
    frames = []
    for appearance in appearances:
        cell.set_appearance(appearance, seed)
        frames.append(_frame(cell))
    episode = {key: np.stack([f[key] for f in frames]) for key in frames[0]}
    episode['times'] -= episode['times'][0]
    episode['K'] = np.stack([cell.intrinsics(c, HEIGHT, WIDTH) for c in cell.cameras])
    episode['T_base_camera'] = np.stack([cell.T_base_camera(c) for c in cell.cameras])
    episode['seed'], episode['success'] = np.array(seed), np.array(True)
    return episode


def record(cell: Cell, expert: Expert, seed: int, perturb: bool) -> dict[str, NDArray] | None:
    """One episode as the arrays of the dataset, see `demonstrate`; None when the expert failed. The
    cell is left where the episode ended."""
    appearances = demonstrate(cell, expert, seed, perturb)
    if appearances is None:
        return None
    end = cell.state()
    episode = draw(cell, appearances, seed)
    cell.set_state(end)
    return episode


def _frame(cell: Cell) -> dict[str, NDArray]:
    views = [cell.render(c, HEIGHT, WIDTH) for c in cell.cameras]
    depth = np.nan_to_num(np.stack([v.depth for v in views]), nan=0.0) / DEPTH_UNIT
    return {
        'rgb': np.stack([v.rgb for v in views]),
        'depth': np.rint(depth).astype(np.uint16),
        'gripper': np.stack([cell.gripper_mask(c, HEIGHT, WIDTH) for c in cell.cameras]),
        'tcp': cell.tcp_pose(),
        'opening': np.array(cell.opening),
        'joints': cell.joint_positions,
        'times': np.array(cell.time),
    }


def episode_path(out: Path, seed: int) -> Path:
    """Where the episode of a seed is stored."""
    return out / f'episode_{seed:06d}.npz'


def store(out: Path, seed: int, episode: dict[str, NDArray]) -> None:
    """Write what `record` returned, whole or not at all."""
    _write_atomically(episode_path(out, seed), lambda stream: np.savez(stream, **episode))


def _write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with whole(path) as stream:
        write(stream)


def _recorder(task: str, camera_set: str, out: Path, perturb: bool) -> Callable[[int], bool]:
    """What stores the episode of a seed in folder `out` and tells whether the expert succeeded."""
    cell = Cell(task, camera_set=camera_set)
    expert = Expert(cell)

    def record_one(seed: int) -> bool:
        episode = record(cell, expert, seed, perturb)
        if episode is None:
            return False
        store(out, seed, episode)
        return True

    return record_one


def collect(task: str, episodes: int, first_seed: int, out: Path | str, workers: int = 1,
            perturb: bool = True, progress: Callable[[Progress], None] | None = None,
            camera_set: str = FIXED) -> Progress:
    """Record the expert on seeds first_seed .. first_seed + episodes - 1 into folder `out`.

    Stored episodes are kept, so that an interrupted collection goes on. Seeds on which the expert
    fails leave no file. Returns the final progress, stored episodes included. Raises InputError for
    an unknown task or set of cameras, and for a folder that holds other demonstrations;
    ExecutionError when a worker process dies.
    """
    checked_set(camera_set)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(first_seed, first_seed + episodes)
    missing = [seed for seed in seeds if not episode_path(out, seed).exists()]
    write_meta(out, task, perturb, camera_set)
    now = Progress(episodes - len(missing), episodes, episodes - len(missing))
    if missing:
        for name in _THREADS:  # one thread per worker: idle ones of BLAS spin
            os.environ.setdefault(name, '1')
        for ok in process_results(_recorder, (task, camera_set, out, perturb), missing, workers):
            now = Progress(now.finished + 1, episodes, now.succeeded + int(ok))
            if progress is not None:
                progress(now)
    return now


def write_meta(out: Path, task: str, perturb: bool, camera_set: str) -> None:
    """Say in folder `out` what its episodes are. Raises InputError when it says otherwise."""
    cameras = list(load_task(task).cameras)
    meta = {
        'format': 'fourdgen-episodes-1', 'task': task, 'cameras': cameras,
        'reference': cameras[0], 'height': HEIGHT, 'width': WIDTH, 'rate_hz': RATE,
        'depth_unit_m': DEPTH_UNIT, 'perturb': perturb, 'camera_set': camera_set,
    }
    file = out / 'meta.json'
    if file.is_file():
        # older ones do not name their cameras
        stored = {'camera_set': FIXED} | json.loads(file.read_text())
        if stored != meta:
            raise InputError(f'data set {out}', expected=str(meta), got=str(stored),
                             hint='Collect into another folder.')
        return
    text = json.dumps(meta, indent=2) + '\n'
    _write_atomically(file, lambda stream: stream.write(text.encode()))
