# SPDX-License-Identifier: Apache-2.0
"""The queue before the disk: nothing is lost without being counted, whatever the disk does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.nodes import recorder_queue
from fourdgen_ros.nodes.recorder_queue import WriteQueue


class Disk:
    """A writer in memory; `gate` lets it write, `fails_at` messages it refuses."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.messages: list[tuple] = []
        self.flushes, self.closed, self.aborted = 0, False, False
        self._fails_at = fails_at

    def write(self, *message: Any) -> None:
        assert self.gate.wait(30.0)
        if len(self.messages) == self._fails_at:
            raise OSError(28, 'No space left on device')
        self.messages.append(message)

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=60), limit=st.integers(1, 200))
def test_what_is_taken_is_written_in_order_and_the_rest_is_counted(sizes, limit):
    disk = Disk()
    disk.gate.clear()
    queue = WriteQueue(disk, limit)
    queue.start()
    taken = [message for i, size in enumerate(sizes)
             if queue.put(*(message := (i % 3, i, i, bytes(size))))]
    assert queue.stats.high_water <= limit
    disk.gate.set()
    queue.end()
    assert disk.messages == taken
    assert sum(queue.stats.dropped.values()) == len(sizes) - len(taken)
    assert (disk.closed, disk.aborted, queue.complete) == (True, False, True)
    assert (queue.stats.size, queue.reason) == (0, None)
    assert not queue.put(0, 0, 0, b'late')


def test_a_full_disk_ends_it_with_its_reason():
    disk, ended = Disk(fails_at=3), threading.Event()
    queue = WriteQueue(disk, 1000, ended=ended.set)
    queue.start()
    for i in range(5):
        queue.put(0, i, i, b'x')
    assert ended.wait(30.0)
    assert 'No space left' in queue.reason
    assert (disk.closed, disk.aborted, queue.complete) == (False, True, False)
    assert not queue.put(0, 9, 9, b'x')
    queue.end()  # again, and nothing happens
    assert disk.messages == [(0, i, i, b'x') for i in range(3)]


def test_the_guard_ends_it_and_the_bag_is_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder_queue, 'FLUSH_PERIOD', 0.0)
    disk, ended, low = Disk(), threading.Event(), threading.Event()
    queue = WriteQueue(disk, 1000, lambda: 'low' if low.is_set() else None, ended.set)
    queue.start()
    assert queue.put(0, 1, 1, b'x')
    low.set()
    assert ended.wait(30.0)
    assert (queue.reason, queue.complete, disk.closed) == ('low', True, True)
    assert disk.flushes >= 1
    assert disk.messages == [(0, 1, 1, b'x')]


def test_told_to_end_nobody_is_called():
    called = threading.Event()
    queue = WriteQueue(Disk(), 1000, ended=called.set)
    queue.start()
    queue.end()
    assert not called.is_set()
