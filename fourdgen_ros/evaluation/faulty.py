# SPDX-License-Identifier: Apache-2.0
"""A simulated cell whose cameras have a fault of real ones, while its physics stays true."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.sensor_faults import HAND_EYE, VIEW_FAULTS, Fault, hand_eye_error
from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.evaluation.generators import SIMULATED
from fourdgen_ros.sim.cameras import FIXED
from fourdgen_ros.sim.cell import Cell, CellState

_STREAM = 5071  # of random numbers, apart from those of the objects
_LOOK = 0.01  # s between the states that are remembered


class FaultyCell(Cell):
    """A `Cell` that observes with `fault`. `observe` and `T_base_camera` err, `render` does not.

    Equal seed, time and state give equal observations. With a skew all views but the reference are
    older by it; of what was before `reset` or `set_state` the first state is shown. A hand-eye
    error is drawn by the seed, and the same for all cameras: they are one rig.
    """

    def __init__(self, task: str, fault: Fault, *, camera_set: str = FIXED) -> None:
        self.fault = fault
        skew = 1e-3 * fault.strength if fault.name == 'skew' else 0.0
        self._age = skew
        # times (s) and states
        self._history: deque[tuple[float, CellState]] = deque(maxlen=2 + round(skew / _LOOK))
        self._past = Cell(task, camera_set=camera_set) if skew > 0 else None
        super().__init__(task, camera_set=camera_set)

    def reset(self, seed: int) -> None:
        """See `Cell.reset`."""
        super().reset(seed)
        self._remember_only_now()

    def set_state(self, state: CellState) -> None:
        """See `Cell.set_state`."""
        super().set_state(state)
        self._remember_only_now()

    def step(self, dt: float) -> None:
        """See `Cell.step`."""
        if self._age == 0.0:
            super().step(dt)
            return
        for part in np.diff(np.append(np.arange(0.0, dt - 1e-9, _LOOK), dt)):
            super().step(part)
            if not self._history or self.time - self._history[-1][0] > _LOOK - 1e-6:
                self._history.append((self.time, self.state()))

    def observe(self, height: int, width: int) -> Observation:
        """See `Cell.observe`, but with the fault."""
        views = super().observe(height, width).views
        if self._past is not None:
            self._past.set_state(self._before())
            views = (views[0], *(self._past.render(v.camera, height, width) for v in views[1:]))
        return Observation(tuple(self._seen(i, view) for i, view in enumerate(views)))

    def T_base_camera(self, camera: str) -> NDArray[np.float64]:
        """Where calibration says that the camera stands."""
        if self.fault.name not in HAND_EYE:
            return super().T_base_camera(camera)
        error = hand_eye_error(self.fault, np.random.default_rng([_STREAM, self.seed]))
        T_base_ref = super().T_base_camera(self.cameras[0])
        return T_base_ref @ error @ se3.inverse(T_base_ref) @ super().T_base_camera(camera)

    def _seen(self, index: int, view: RgbdView) -> RgbdView:
        change = VIEW_FAULTS.get(self.fault.name)
        if change is None:
            return view
        rng = np.random.default_rng([_STREAM, self.seed, index, round(self.time * 1e6)])
        return change(view, self.fault.strength, rng)

    def _before(self) -> CellState:
        """The youngest state that is old enough, else the oldest."""
        when = self.time - self._age + 1e-6
        old = [state for time, state in self._history if time <= when]
        return old[-1] if old else self._history[0][1]

    def _remember_only_now(self) -> None:
        self._history.clear()
        self._history.append((self.time, self.state()))


def build_cell(task: str, camera_set: str, fault: Fault | None) -> Cell:
    """The cell of an evaluation: the true one, or one that observes with a fault."""
    if fault is None:
        return Cell(task, camera_set=camera_set)
    return FaultyCell(task, fault, camera_set=camera_set)


def require_sight(generator: str, fault: Fault | None) -> None:
    """Raise InputError where a fault would not reach the generator: those of the simulator copy its
    state instead of looking."""
    if fault is not None and generator in SIMULATED and fault.name not in HAND_EYE:
        raise InputError(f'sensor fault {fault.name}', expected='a generator that sees pictures',
                         got=generator, hint=f'It can only have one of {HAND_EYE}.')
