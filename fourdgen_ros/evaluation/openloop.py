# SPDX-License-Identifier: Apache-2.0
"""Futures against the truth, without executing them: generator and tracker errors told apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import FourdgenError
from fourdgen_ros.core.sensor_faults import Fault
from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.evaluation import metrics
from fourdgen_ros.evaluation.faulty import build_cell, require_sight
from fourdgen_ros.evaluation.generators import fingerprint, load_generator, settings
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.stack import build_tracker, limit_threads, versions
from fourdgen_ros.evaluation.statistics import summary
from fourdgen_ros.sim.cameras import FIXED
from fourdgen_ros.sim.cell import Cell, CellState
from fourdgen_ros.sim.expert import Expert
from fourdgen_ros.sim.oracle import OracleGenerator

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator
    from fourdgen_ros.tracker.base import Tracker

Array = NDArray[np.float64]
EVERY, LAST = 1.2, 6.0  # s into an expert episode at which futures start


@dataclass(frozen=True, eq=False)
class Truth:
    """What comes after a state when the expert goes on: poses (T, 4, 4) of the TCP in the base
    frame, opening (T,) m and the rendered future."""

    poses: Array
    opening: Array
    future: Future


class OpenLoop:
    """Compares futures of `generator`, made in `steps` of denoising (None: its own number), with
    the truth on expert episodes of a task."""

    def __init__(self, cell: Cell, generator: Generator, tracker: Tracker,
                 steps: int | None = None) -> None:
        self._cell, self._generator, self._tracker = cell, generator, tracker
        self._steps = steps
        self._copy = Cell(cell.task)
        self._state = cell.state()
        self._oracle: OracleGenerator | None = None
        self._shape: tuple[float, ...] = ()
        self._look()

    def run(self, seed: int) -> list[dict[str, object]]:
        """One row of measures per start on the expert episode of a seed; of a generation that
        failed it tells the `generation_error`. Raises InputError for futures that
        `require_comparable` refuses."""
        return [self._measure(seed, *start) for start in list(self._starts(seed))]

    def _starts(self, seed: int) -> Iterator[tuple[CellState, Observation]]:
        cell = self._cell
        cell.reset(seed)
        self._look()
        expert = Expert(cell)
        for start in np.arange(0.0, LAST, EVERY):
            while cell.time < start - 1e-9:
                expert.drive()
            # a robot that looks before it acts stands still
            cell.set_arm_target(cell.joint_positions, np.zeros(7))
            cell.step(0.2)
            if cell.success():
                return
            yield cell.state(), cell.observe(480, 640)
            expert.plan_from_here()

    def _look(self) -> None:
        """Where the cameras stand, and where the cell says that the reference does; both may depend
        on the seed."""
        self._copy.set_state(self._cell.state())
        self._poses = np.stack([self._copy.T_base_camera(c) for c in self._cell.cameras])
        self._measured = self._cell.T_base_camera(self._cell.cameras[0])
        self._T_ref_cameras = se3.inverse(self._poses[0]) @ self._poses

    def _measure(self, seed: int, state: CellState, observation: Observation) -> dict[str, object]:
        cell, self._state = self._cell, state
        cell.set_state(state)
        row: dict[str, object] = {'seed': seed, 'start_s': round(cell.time, 3),
                                  'stage': cell.stage()}
        future, told = imagine(self._generator, observation, cell.task, seed, self._steps)
        row |= told
        if future is None:
            return row
        metrics.require_comparable(future, observation)
        truth = self._truth(future)
        if self._generator.name == 'oracle':
            return row | tracker_alone(truth, self._T_ref_cameras, self._tracker, self._measured)
        return (row | tracker_alone(truth, self._T_ref_cameras, self._tracker, self._poses[0])
                | against_truth(future, truth, self._T_ref_cameras, self._tracker, self._measured))

    def _truth(self, future: Future) -> Truth:
        oracle, poses, opening = self._oracle_like(future), [], []
        for rolled in oracle.roll(self._cell.task, self._state):
            self._copy.set_state(rolled)
            poses.append(self._copy.tcp_pose())
            opening.append(self._copy.opening)
        if self._generator.name == 'oracle':
            rendered = future
        else:
            self._copy.set_state(self._state)  # what the cell observes may be faulty
            rendered = oracle.generate(self._copy.observe(480, 640), task=self._cell.task, seed=0)
        return Truth(np.stack(poses), np.array(opening), rendered)

    def _oracle_like(self, future: Future) -> OracleGenerator:
        """The oracle whose futures have the shape of this one, as most of a generator have."""
        shape = future.frames - 1, future.dt, *future.rgb.shape[2:4]
        if self._oracle is None or shape != self._shape:
            self._oracle, self._shape = OracleGenerator(lambda: self._state, *shape), shape
        return self._oracle


def imagine(generator: Generator, observation: Observation, task: str, seed: int,
            steps: int | None) -> tuple[Future | None, dict[str, object]]:
    """The future and, as entries of a row, how long it took; no future and why when it failed."""
    begin = time.perf_counter()
    try:
        future = generator.generate(observation, task=task, seed=seed, steps=steps)
    except FourdgenError as error:  # one that failed must not lose the others
        return None, {'generation_error': str(error)}
    return future, {'generate_s': time.perf_counter() - begin}


def tracker_alone(truth: Truth, T_ref_cameras: Array, tracker: Tracker,
                  T_base_ref: Array) -> dict[str, object]:
    """The measures `true_...`: of the true future, and of what the tracker makes of it."""
    return (agreement(truth.future, truth.future, T_ref_cameras, 'true_')
            | _tracked(tracker, truth.future, truth, T_base_ref, 'true_'))


def against_truth(future: Future, truth: Truth, T_ref_cameras: Array, tracker: Tracker,
                  T_base_ref: Array) -> dict[str, object]:
    """All measures of a future that was generated, as far as they exist, with the reference camera
    where `T_base_ref` says."""
    compared = compare(future, truth.future, T_ref_cameras)
    return ({name: value for name, value in compared.items() if np.isfinite(value)}
            | agreement(future, truth.future, T_ref_cameras, '')
            | _tracked(tracker, future, truth, T_base_ref, ''))


def _tracked(tracker: Tracker, future: Future, truth: Truth, T_base_ref: Array,
             prefix: str) -> dict[str, object]:
    """Errors per frame 1..T-1 of the tracked future against the true path."""
    first = se3.inverse(T_base_ref) @ truth.poses[0]
    begin = time.perf_counter()
    try:
        tracked = tracker.track(future, first, float(truth.opening[0]))
    except FourdgenError as error:
        return {f'{prefix}tracking_error': str(error)}
    seconds = time.perf_counter() - begin
    mm, degrees = metrics.pose_errors((T_base_ref @ tracked.poses)[1:], truth.poses[1:])
    return {
        f'{prefix}tcp_mm': mm.tolist(), f'{prefix}tcp_deg': degrees.tolist(),
        f'{prefix}opening_mm': (1e3 * np.abs(tracked.opening - truth.opening)[1:]).tolist(),
        f'{prefix}confidence': tracked.confidence[1:].tolist(),
        f'{prefix}track_ms_per_frame': 1e3 * seconds / future.frames}


def compare(future: Future, true: Future, T_ref_cameras: Array) -> dict[str, float]:
    """Picture and geometry measures of the frames after the first, and where the gripper is seen
    on the first."""
    row: dict[str, float] = {'psnr_db': metrics.psnr(future.rgb[:, 1:], true.rgb[:, 1:])}
    relative, near = zip(*(metrics.depth_errors(
        metrics.view_depth(future, v, T)[1:], metrics.view_depth(true, v, T)[1:])
        for v, T in enumerate(T_ref_cameras)), strict=True)
    row['abs_rel'], row['delta_125'] = _mean(relative), _mean(near)
    row |= metrics.point_errors(future, true)
    row['camera_mm'] = metrics.camera_error(future, true)
    for name, frames in (('mask_iou', np.s_[:, 1:]), ('first_mask_iou', np.s_[:, :1])):
        row[name] = _mean([metrics.mask_iou(a, b) for a, b in zip(
            (future.gripper[frames] > metrics.MASK).reshape(-1, *future.rgb.shape[2:4]),
            (true.gripper[frames] > metrics.MASK).reshape(-1, *future.rgb.shape[2:4]),
            strict=True)])
    return row


def agreement(future: Future, true: Future, T_ref_cameras: Array,
              prefix: str) -> dict[str, float]:
    """Cross-view IoU of the frames after the first; nothing for a single view, without points, and
    where there is no gripper to see."""
    if len(T_ref_cameras) < 2 or not future.valid.any():
        return {}
    masks, boxes = metrics.cross_view_iou(future, true, T_ref_cameras)
    means = {f'{prefix}cross_view_iou': _mean(masks[:, 1:].ravel()),
             f'{prefix}cross_view_box_iou': _mean(boxes[:, 1:].ravel())}
    return {name: mean for name, mean in means.items() if np.isfinite(mean)}


def _mean(values: Iterable[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float('nan')


def _build(task: str, generator: str, camera_set: str, tracker: Path | None,
           fault: Fault | None, steps: int | None) -> Callable[[int], dict]:
    limit_threads(generator)
    cell = build_cell(task, camera_set, fault)
    loaded = load_generator(generator, cell.state)
    loop = OpenLoop(cell, loaded, build_tracker(cell, loaded, tracker), steps)
    return lambda seed: {'seed': seed, 'starts': loop.run(seed)}


def evaluate(task: str, generator: str, seeds: Iterable[int], batch: Batch | None = None, *,
             camera_set: str = FIXED, tracker: Path | None = None, fault: Fault | None = None,
             steps: int | None = None,
             on_result: Callable[[dict], None] = lambda row: None) -> dict:
    """Futures of a generator on expert episodes of all seeds, see `Batch`.

    `tracker` is a parameter file of the node `tracker`, None for the embedded one. With `fault` all
    observations have it, and the truth does not. `steps` of denoising; None: the generator's own
    number. Raises InputError for a fault that the generator cannot have.

    `tcp_mm` and the like: tracked generated futures against the truth; `true_...`: the same measure
    on true futures, that is the tracker alone.
    """
    what = {'task': task, 'generator': generator, 'weights': fingerprint(generator),
            'camera_set': camera_set}
    if tracker is not None:
        what['tracker'] = str(tracker)
    if fault is not None:
        require_sight(generator, fault)
        what['fault'] = str(fault)
    if steps is not None:
        what['steps'] = steps

    args = (task, generator, camera_set, tracker, fault, steps)
    return measured(_build, args, seeds, what, batch, on_result)


def measured(build: Callable[..., Callable[[int], dict]], args: tuple, seeds: Iterable[int],
             what: dict, batch: Batch | None, on_result: Callable[[dict], None]) -> dict:
    """The report of all starts of the rows `build(*args)(seed)`, with what was measured."""
    def report(rows: list[dict]) -> dict:
        starts = [start for row in rows for start in row['starts']]
        return {'n': len(starts), **what, 'measures': summarise(starts), 'versions': versions(),
                'futures': starts}

    batch = Batch() if batch is None else batch
    identity = {'evaluate': what} | settings(what['generator'])
    return batch.run(build, args, seeds, identity, report, on_result)


PER_FRAME = ('tcp_mm', 'tcp_deg', 'opening_mm')
PER_FUTURE = ('generate_s', 'track_ms_per_frame', 'cross_view_iou', 'cross_view_box_iou',
              'mask_iou', 'first_mask_iou', 'points_mm', 'moving_points_mm', 'gripper_points_mm',
              'points_missing', 'gripper_points_missing', 'camera_mm', 'psnr_db', 'abs_rel',
              'delta_125')


def summarise(rows: list[dict]) -> dict[str, dict]:
    """Median and p90 of every measure over all rows; poses also for the last frame alone. Failed
    generations, where there are any, count as such and in nothing else."""
    result: dict[str, dict] = {}
    failed = sum('generation_error' in row for row in rows)
    if failed:
        result['generation_failures'] = {'n': len(rows), 'failed': failed}
        rows = [row for row in rows if 'generation_error' not in row]
    for prefix in ('', 'true_'):
        tracked = [row for row in rows if f'{prefix}tcp_mm' in row]
        for key in PER_FRAME:
            values = [row[f'{prefix}{key}'] for row in tracked]
            if values:
                result[f'{prefix}{key}'] = summary(np.concatenate(values), 50, 90)
                result[f'{prefix}{key}_last_frame'] = summary((v[-1] for v in values), 50, 90)
        for key in PER_FUTURE:
            values = [row[f'{prefix}{key}'] for row in rows if f'{prefix}{key}' in row]
            if values:
                result[f'{prefix}{key}'] = summary(values, 50, 90)
                finite = [v for v in values if np.isfinite(v)]
                if finite:
                    result[f'{prefix}{key}']['mean'] = float(np.mean(finite))
        failed = sum(f'{prefix}tracking_error' in row for row in rows)
        if tracked or failed:
            result[f'{prefix}tracking_failures'] = {'n': len(rows), 'failed': failed}
    return result
