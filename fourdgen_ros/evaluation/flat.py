# SPDX-License-Identifier: Apache-2.0
"""The true future without its depth: the bound of generators that imagine RGB alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.sim.cell import Cell, CellState
from fourdgen_ros.sim.oracle import OracleGenerator


class FlatOracle:
    """Implements the `Generator` protocol with an `OracleGenerator` whose points are taken away.

    Sizes and times are those of the `tiny` preset. The opening is the true one, as RGB-only
    generators tell theirs.
    """

    name = 'oracle-rgb'

    def __init__(self, state_source: Callable[[], CellState], horizon: int = 8, dt: float = 0.4,
                 height: int = 96, width: int = 128) -> None:
        self._state = state_source
        self._oracle = OracleGenerator(state_source, horizon, dt, height, width)
        self._copies: dict[str, Cell] = {}

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """See `Generator.generate`."""
        future = self._oracle.generate(observation, task=task, seed=seed)
        opening = [self._opening(task, state) for state in self._oracle.roll(task, self._state())]
        return replace(future, points=np.full_like(future.points, np.nan),
                       valid=np.zeros_like(future.valid), generator=self.name,
                       opening=np.array(opening, np.float32))

    def _opening(self, task: str, state: CellState) -> float:
        if task not in self._copies:
            self._copies[task] = Cell(task)
        self._copies[task].set_state(state)
        return self._copies[task].opening
