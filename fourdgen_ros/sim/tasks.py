# SPDX-License-Identifier: Apache-2.0
"""The tasks of the simulated cell by name.

A task is a module with NAME, CAMERAS (the reference first), `build() -> MjSpec`,
`place(model, data, rng)`, `success(cell)`, `stage(cell)`, `plan(cell) -> list[Leg]`.
"""

from __future__ import annotations

from types import ModuleType

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.sim import apple

_TASKS = {module.NAME: module for module in (apple,)}


def load_task(name: str) -> ModuleType:
    """The module of a task. Raises InputError for an unknown name."""
    if name not in _TASKS:
        raise InputError('task', expected=f'one of {list(_TASKS)}', got=repr(name))
    return _TASKS[name]
