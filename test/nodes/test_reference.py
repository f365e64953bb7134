# SPDX-License-Identifier: Apache-2.0
"""The reference of the site is what running nodes tell."""

from __future__ import annotations

import sys

import pytest

from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.nodes.cell import CellNode
from fourdgen_ros.nodes.task_loop import TaskLoopNode

SCRIPTS = share_directory() / 'scripts'
pytestmark = pytest.mark.skipif(not (SCRIPTS / 'make_reference.py').is_file(),
                                reason='no source tree')


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'path', [str(SCRIPTS), *sys.path])


def test_parameters_and_endpoints_of_a_node() -> None:
    from reference_nodes import endpoints, parameters

    rows = parameters(TaskLoopNode).splitlines()
    assert any(row.startswith('| `frames` | `6` | 0 to 1000 | any time | frames of each future')
               for row in rows)
    assert any(row.startswith('| `heartbeat_rate` | `20.0` | 1 to 100 | at the start |')
               for row in rows)
    offered = endpoints({'task_loop': TaskLoopNode})['task_loop'].splitlines()
    assert '| publishes | `/heartbeat` | `std_msgs/msg/Empty` | reliable, volatile |' in offered
    assert '| serves | `/run_task` | `fourdgen_ros/action/RunTask` | action |' in offered
    assert '| calls | `/plan_motion` | `fourdgen_ros/action/PlanMotion` | action |' in offered
    assert any(row.startswith('| calls | `/cell/check_success` |') for row in offered)
    assert not any('rcl_interfaces' in row or '/_action/' in row for row in offered)


def test_every_executable_that_is_a_node_is_described() -> None:
    from make_reference import node_classes

    assert {'cell', 'generator', 'tracker', 'execution', 'task_loop'} <= node_classes().keys()


def test_interfaces_keep_their_comments() -> None:
    from make_reference import interfaces

    assert 'never of the future: TF would extrapolate' in interfaces()


def test_headings_of_interfaces_fit_the_table_of_contents() -> None:
    from make_reference import interfaces

    text = interfaces()
    assert '### GeneratedFuture\n\n`fourdgen_ros/msg/GeneratedFuture`\n' in text
    assert max(len(line) for line in text.splitlines() if line.startswith('### ')) <= 32


def test_the_command_line_fits_the_page() -> None:
    from make_reference import command_line

    lines = [line for line in command_line().splitlines()
             if 'fourdgen completion' not in line]  # commands to copy stay whole
    assert max(map(len, lines)) <= 89


def test_bounds_are_written_out() -> None:
    from reference_nodes import parameters

    rows = parameters(CellNode).splitlines()
    assert any(row.startswith('| `seed` | `0` | 0 to 2147483647 |') for row in rows)
