# SPDX-License-Identifier: Apache-2.0
"""Faults heard by a node that starts late, over real DDS."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ros_graph import Graph, eventually

from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.faults import FaultListener, FaultPublisher


class Late:
    """Listens to what others tell; `ago` is how many s before its time a message was sent."""

    def __init__(self, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ago = 3.0
        self.seen: list[tuple[str, str]] = []  # each message, and what counted right after it
        take = FaultListener._on_fault

        def on_fault(listener, message, info) -> None:
            sent = info['source_timestamp'] - int(self.ago * 1e9)
            take(listener, message, {**info, 'source_timestamp': sent})
            self.seen.append((message.data, listener.heard))

        monkeypatch.setattr(FaultListener, '_on_fault', on_fault)
        self.faults = FaultListener(graph.add(StageNode('late')))
        self.faults.begin()

    def has_heard(self, *messages: str) -> bool:
        return eventually(lambda: tuple(data for data, _ in self.seen) == messages)


@pytest.fixture
def late(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Late]:
    return lambda: Late(graph, monkeypatch)


def test_a_fault_that_was_reset_long_ago_ends_no_task(graph: Graph, late) -> None:
    faults = FaultPublisher(graph.client)
    faults.tell('stopped')
    faults.tell('')
    listener = late()
    assert listener.has_heard('', 'stopped', '')
    assert [counted for _, counted in listener.seen] == ['', '', '']
    assert listener.faults.heard == ''


def test_an_old_fault_that_lasts_counts(graph: Graph, late) -> None:
    FaultPublisher(graph.client).tell('stopped')
    listener = late()
    assert eventually(lambda: listener.faults.heard == 'stopped')
    listener.faults.begin()
    assert listener.faults.heard == 'stopped'


def test_an_old_fault_counts_that_is_reset_during_the_task(graph: Graph, late) -> None:
    faults = FaultPublisher(graph.client)
    faults.tell('stopped')
    listener = late()
    assert listener.has_heard('', 'stopped')
    listener.ago = 0.0
    faults.tell('')
    assert listener.has_heard('', 'stopped', '')
    assert listener.faults.heard == 'stopped'
    listener.faults.begin()
    assert listener.faults.heard == ''
