# SPDX-License-Identifier: Apache-2.0
"""What the cell, the expert and the recorder need to know about a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fourdgen_ros.sim.cameras import CameraPose, Shell
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.path import Leg

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

STAGES = ('none', 'reach', 'grasp', 'lift', 'place')
Point = tuple[float, float, float]


class Task(Protocol):
    """Objects, goal and expert of one task; a value without state. Base frame, m.

    cameras: the fixed ones by name, the reference first; shell: where others may stand; start_box:
    lowest and highest corner of where the TCP, pointing down, may begin a demonstration.
    """

    name: str
    cameras: Mapping[str, CameraPose]
    shell: Shell
    start_box: tuple[Point, Point]

    def build(self) -> mujoco.MjSpec:
        """`scene.base_scene` with the objects. What may move from seed to seed is a free or a mocap
        body, so that a state of the physics tells where it is."""

    def place(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Put the objects at random places."""

    def feasible(self, cell: Cell) -> bool:
        """Whether the expert finds a way from the scene as it came to rest; else the cell draws
        another."""

    def success(self, cell: Cell) -> bool:
        """Whether the object is at its goal and let go."""

    def stage(self, cell: Cell) -> str:
        """The furthest of STAGES that the state shows."""

    def plan(self, cell: Cell) -> list[Leg]:
        """What the expert does from the state that the cell is in, whatever it is; no legs when
        nothing can be done."""
