# SPDX-License-Identifier: Apache-2.0
"""How runs are called in a report."""

from __future__ import annotations

from collections.abc import Iterable

from fourdgen_ros.evaluation.comparison import label
from fourdgen_ros.evaluation.report.load import Run
from fourdgen_ros.sim.cameras import FIXED


def method(value: dict) -> str:
    """The generator, where its cameras stood when they moved, what was wrong with them, and in how
    many steps it was asked to make its futures."""
    cameras = value.get('camera_set', FIXED)
    name = label(value['generator'])
    if cameras != FIXED:
        name += f', cameras {cameras}'
    if 'fault' in value:
        name += f", {value['fault']}"
    return f"{name}, {value['steps']} steps" if 'steps' in value else name


def run_name(value: dict, by_task: dict[str, list[dict]]) -> str:
    """The method, after the task where a report has several."""
    return method(value) if len(by_task) == 1 else f"{value['task']}, {method(value)}"


def group(runs: Iterable[Run]) -> dict[str, list[dict]]:
    """The JSON of runs by task."""
    by_task: dict[str, list[dict]] = {}
    for run in runs:
        by_task.setdefault(run.value['task'], []).append(run.value)
    return by_task
