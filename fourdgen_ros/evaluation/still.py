# SPDX-License-Identifier: Apache-2.0
"""The baseline that imagines nothing: every frame of the future is the first one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.sim.cell import CellState
from fourdgen_ros.sim.oracle import OracleGenerator


class StillGenerator:
    """Implements the `Generator` protocol; `horizon` frames, `dt` s apart, after frame 0.

    It is given what a generator must find out, the cameras' poses and the gripper's mask of frame
    0, so that its errors are those of standing still alone. `seed` and `steps` change nothing.
    """

    name = 'still'

    def __init__(self, state_source: Callable[[], CellState], horizon: int = 8, dt: float = 0.4,
                 height: int = 96, width: int = 128) -> None:
        self._now = OracleGenerator(state_source, 0, dt, height, width)
        self._frames = 1 + horizon

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """See `Generator.generate`."""
        now = self._now.generate(observation, task=task, seed=seed)
        arrays = {name: np.repeat(getattr(now, name), self._frames, axis=1)
                  for name in ('rgb', 'points', 'valid', 'gripper')}
        return replace(now, **arrays, generator=self.name)
