# SPDX-License-Identifier: Apache-2.0
"""The oracle generator: the true future, rolled ahead in a copy of the cell and rendered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap, resize_view
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future, Observation, RgbdView
from fourdgen_ros.sim.cell import Cell, CellState
from fourdgen_ros.sim.expert import CONTROL_DT, Expert


class OracleGenerator:
    """Implements the `Generator` protocol with the scripted expert instead of a model.

    It separates the generator's errors from those of tracker and motion, and bounds every result
    from above. `state_source` gives the state of the cell that was observed, which must stand
    still in between. The future has `horizon` frames, `dt` s apart, after frame 0. `seed` and
    `steps` change nothing: there is one true future.
    """

    name = 'oracle'

    def __init__(self, state_source: Callable[[], CellState], horizon: int = 8, dt: float = 0.4,
                 height: int = 240, width: int = 320) -> None:
        self._state = state_source
        self._horizon, self._dt = horizon, dt
        self._size = height, width
        self._actors: dict[str, tuple[Cell, Expert]] = {}
        self._lock = threading.Lock()

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """See `Generator.generate`. Raises InputError for a task or cameras that the cell does not
        have."""
        with self._lock:
            return self._generate(observation, task, seed)

    def roll(self, task: str, state: CellState) -> list[CellState]:
        """The cell's states at frames 0..horizon when the expert goes on from `state`."""
        with self._lock:
            return [cell.state() for cell in self._roll(task, state)]

    def _generate(self, observation: Observation, task: str, seed: int) -> Future:
        start = time.perf_counter()
        state = self._state()
        cameras = tuple(view.camera for view in observation.views)
        cell = self._actor(task)[0]
        if not set(cameras) <= set(cell.cameras):
            raise InputError('cameras of the observation', expected=f'some of {cell.cameras}',
                             got=str(cameras),
                             hint='The oracle knows only the cameras of the simulated cell.')
        now = [resize_view(view, *self._size) for view in observation.views]
        frames, masks = [], []
        for k, rolled in enumerate(self._roll(task, state)):
            frames.append(now if k == 0 else [rolled.render(c, *self._size) for c in cameras])
            masks.append([rolled.gripper_mask(c, *self._size) for c in cameras])
        T_ref_base = se3.inverse(cell.T_base_camera(cameras[0]))
        T_ref_cam = [T_ref_base @ cell.T_base_camera(c) for c in cameras]
        points = np.stack([[_points(view, T) for view, T in zip(row, T_ref_cam, strict=True)]
                           for row in frames], axis=1)
        return Future(
            rgb=np.stack([[view.rgb for view in row] for row in frames], axis=1),
            points=points, valid=np.isfinite(points).all(-1),
            gripper=np.stack(masks, axis=1).astype(np.float32), dt=self._dt,
            K=np.stack([view.K for view in now]), cameras=cameras, stamp=observation.stamp,
            generator=self.name, frame_id=observation.reference.frame_id,
            frame_ids=tuple(view.frame_id for view in now), seed=seed,
            timings={'roll': time.perf_counter() - start})

    def _roll(self, task: str, state: CellState) -> Iterator[Cell]:
        """The cell at frame 0, 1, ...; the same object each time."""
        cell, expert = self._actor(task)
        cell.set_state(state)
        expert.plan_from_here()
        start = cell.time
        yield cell
        for k in range(1, self._horizon + 1):
            while cell.time < start + k * self._dt - CONTROL_DT / 2:
                expert.drive()
            yield cell

    def _actor(self, task: str) -> tuple[Cell, Expert]:
        if task not in self._actors:
            cell = Cell(task)
            self._actors[task] = cell, Expert(cell)
        return self._actors[task]


def _points(view: RgbdView, T_ref_cam: np.ndarray) -> np.ndarray:
    return se3.apply(T_ref_cam, pointmap(view.depth, view.K))
