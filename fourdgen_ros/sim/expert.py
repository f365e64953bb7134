# SPDX-License-Identifier: Apache-2.0
"""The scripted expert: solves a task from whatever state the cell is in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.ik import IkSolver
from fourdgen_ros.sim.path import Path
from fourdgen_ros.sim.tasks import load_task

Array = NDArray[np.float64]
CONTROL_DT = 0.02  # s
_LOST = 0.03  # m between the commanded and the real TCP that make the plan stale
_PATIENCE = 0.4  # s after the end of a plan before an unfinished task is tried again


class Expert:
    """Plans from the true state, follows the plan, plans anew when the state contradicts it.

    It has no memory beyond the plan in progress and no randomness: from the moment of planning, the
    motion follows from the state of the cell alone.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._task = load_task(cell.task)
        self._ik = IkSolver()
        self.plan_from_here()

    def plan_from_here(self) -> None:
        """Make a plan for the state that the cell is in now."""
        self._t = 0.0
        self._opening = self._cell.gripper_target
        self._ik.reset(self._cell.joint_positions)
        self._path = Path(self._cell.tcp_pose(), self._task.plan(self._cell))

    @property
    def resting(self) -> bool:
        """Whether the plan has been followed to its end."""
        return self._t >= self._path.duration

    def step(self, dt: float = CONTROL_DT, offset: Array | None = None
             ) -> tuple[Array, Array, float]:
        """Targets for the next dt s: joints (7,), joint velocities (7,), opening in m.

        `offset` (3,) m shifts the TCP from where the expert wants it: a disturbance.
        """
        if self._stale(offset is not None):
            self.plan_from_here()
        self._t += dt
        target = self._path.pose(self._t)
        if offset is not None:
            target[:3, 3] += offset
        if self._path.legs:
            self._opening = self._path.legs[self._path.leg(self._t)].opening
        q, qd = self._ik.step(target, dt)
        return q, qd, self._opening

    def drive(self, dt: float = CONTROL_DT, offset: Array | None = None) -> None:
        """One step of expert and cell together."""
        q, qd, opening = self.step(dt, offset)
        self._cell.set_arm_target(q, qd)
        self._cell.set_gripper_target(opening)
        self._cell.step(dt)

    def _stale(self, disturbed: bool) -> bool:
        if disturbed:
            return False
        error = self._cell.tcp_pose()[:3, 3] - self._ik.pose()[:3, 3]
        if np.linalg.norm(error) > _LOST:
            return True
        if self._t >= self._path.duration + _PATIENCE and not self._cell.success():
            return True
        legs = self._path.legs
        return bool(legs) and not self.resting and not legs[self._path.leg(self._t)].holds_true()
