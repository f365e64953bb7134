# SPDX-License-Identifier: Apache-2.0
"""What really happened while a future was executed, frame by frame beside what was imagined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.types import Future, GripperTrajectory

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell, CellState

Array = NDArray[np.float64]
SHOWN = 240, 320  # px, height and width of real pictures
_PERIOD = 0.02  # s between samples
_METRES_PER_RADIAN = 0.1  # how much a turn counts when poses are matched


@dataclass(frozen=True, eq=False)
class Recording:
    """A future, its tracked path in the base frame, and the execution of its first frames.

    real (V, F, H, W, 3) uint8: pictures at the moments that belong to frames 0..F-1 of the future;
    executed (F, 4, 4) TCP in the base frame at those moments; path (n, 4, 4) the whole executed TCP
    path; T_base_cameras (V, 4, 4) optical frames of the future's cameras.
    """

    future: Future
    trajectory: GripperTrajectory
    real: NDArray[np.uint8]
    executed: Array
    path: Array
    T_base_cameras: Array


class Recorder:
    """Samples a cell during execution and renders the moments afterwards in a copy of the cell."""

    def __init__(self, cell: Cell) -> None:
        from fourdgen_ros.sim.cell import Cell

        self._cell = cell
        self._copy = Cell(cell.task, cell.seed)
        self._states: list[CellState] = []
        self._poses: list[Array] = []
        self._openings: list[float] = []
        self._next = 0.0

    def start(self) -> None:
        """Forget the last execution and take the first sample."""
        self._states, self._poses, self._openings = [], [], []
        self._next = self._cell.time
        self.sample()

    def sample(self) -> None:
        """Take a sample if one is due."""
        if self._cell.time >= self._next - 1e-9:
            self._next += _PERIOD
            self._states.append(self._cell.state())
            self._poses.append(self._cell.tcp_pose())
            self._openings.append(self._cell.opening)

    def finish(self, future: Future, trajectory: GripperTrajectory, frames: int) -> Recording:
        """Match the samples to frames 0..`frames` - 1 and render them."""
        path = np.stack(self._poses)
        moments = match(trajectory.poses[:frames], trajectory.opening[:frames], path,
                        np.array(self._openings))
        real = []
        for i in moments:
            self._copy.set_state(self._states[i])
            real.append([self._copy.render(c, *SHOWN).rgb for c in future.cameras])
        cameras = np.stack([self._cell.T_base_camera(c) for c in future.cameras])
        return Recording(future, trajectory, np.stack(real).swapaxes(0, 1), path[moments], path,
                         cameras)


def match(wanted: Array, wanted_opening: Array, path: Array, opening: Array) -> NDArray[np.int64]:
    """Indices (F,) into `path` (n, 4, 4) nearest to the poses `wanted` (F, 4, 4), in order of time.

    The executed motion has its own timing, so moments are matched by pose and opening; the first is
    index 0. Dynamic programming over all non-decreasing index sequences.
    """
    cost = np.array([[np.dot(se3.distance(w, p), (1.0, _METRES_PER_RADIAN)) for p in path]
                     for w in wanted])
    cost += np.abs(wanted_opening[:, None] - opening[None, :])
    cost[0, 1:] = np.inf
    total = np.empty_like(cost)
    total[0] = cost[0]
    for k in range(1, len(cost)):
        total[k] = cost[k] + np.minimum.accumulate(total[k - 1])
    index = np.empty(len(cost), np.int64)
    limit = len(path)
    for k in reversed(range(len(cost))):
        # among equals the latest: the fingers have then moved too
        index[k] = limit - 1 - int(np.argmin(total[k, :limit][::-1]))
        limit = int(index[k]) + 1
    return index


def executed_errors(recording: Recording) -> Array:
    """(frames, 2): distance in mm and degrees between tracked and executed TCP pose per frame."""
    frames = len(recording.executed)
    pairs = zip(recording.trajectory.poses[:frames], recording.executed, strict=True)
    return np.array([se3.distance(a, b) for a, b in pairs]) * (1e3, np.degrees(1.0))
