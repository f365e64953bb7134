# SPDX-License-Identifier: Apache-2.0
"""The reference of the site is what running nodes tell."""

from __future__ import annotations

import sys

import pytest

from fourdgen_ros.core.paths import share_directory
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
