# SPDX-License-Identifier: Apache-2.0
"""The tasks of the simulated cell by name. A new one is a file beside this and an entry here."""

from __future__ import annotations

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.sim.tasks.apple import PlaceAppleFromBowlIntoBin
from fourdgen_ros.sim.tasks.base import Task
from fourdgen_ros.sim.tasks.cereal import StoreCerealBoxUnderShelf
from fourdgen_ros.sim.tasks.spatula import PutSpatulaOnTable

TASKS: dict[str, Task] = {task.name: task for task in (
    PlaceAppleFromBowlIntoBin(), StoreCerealBoxUnderShelf(), PutSpatulaOnTable())}


def load_task(name: str) -> Task:
    """The task of a name. Raises InputError for an unknown one."""
    if name not in TASKS:
        raise InputError('task', expected=f'one of {list(TASKS)}', got=repr(name))
    return TASKS[name]
