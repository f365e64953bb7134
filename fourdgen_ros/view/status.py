# SPDX-License-Identifier: Apache-2.0
"""The state of the task and of the robot in a few words, from what the nodes tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping

from fourdgen_ros.core.health import Level, Status


def task_text(statuses: Mapping[str, Status]) -> str:
    """What the task loop does, and how the last task ended."""
    status = statuses.get('task_loop: task')
    if status is None:
        return 'no task loop'
    task, outcome = status.values.get('task', ''), status.values.get('outcome', '')
    return ', '.join(text for text in (task, outcome, status.message) if text)


def robot_text(statuses: Mapping[str, Status]) -> str:
    """The mode and the state of the execution, or its fault."""
    status = statuses.get('execution: execution')
    if status is None:
        return 'no execution node'
    return ': '.join(str(text) for text in (status.values.get('mode'), status.message) if text)


def fault(statuses: Mapping[str, Status]) -> bool:
    """Whether the robot is stopped by a fault."""
    status = statuses.get('execution: execution')
    return status is not None and status.level >= Level.ERROR


def problems(statuses: Mapping[str, Status]) -> list[str]:
    """Warnings and errors of the other nodes, as '<node>: <message>'."""
    return [f'{name.partition(":")[0]}: {status.message}' for name, status in statuses.items()
            if status.level > Level.OK and name not in ('task_loop: task', 'execution: execution')]


def summary(statuses: Mapping[str, Status]) -> str:
    """All of it, a line each."""
    return '\n'.join([task_text(statuses), robot_text(statuses), *problems(statuses)])


def waits_for(statuses: Mapping[str, Status], plan_id: str) -> bool:
    """Whether the robot would start this plan as soon as it were confirmed."""
    status = statuses.get('execution: execution')
    state = '' if status is None else str(status.values.get('state', ''))
    return state.startswith('waiting for the confirmation') and plan_id in state
