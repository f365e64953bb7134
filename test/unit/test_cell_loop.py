# SPDX-License-Identifier: Apache-2.0
"""The physics thread: pace, stamps, and calls between its steps."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.loop import CellLoop

TASK = 'PlaceAppleFromBowlIntoBin'


class Recorder:
    """A part that notes the stamps and wakes up whoever waits for `wanted` of them."""

    def __init__(self, wanted: int) -> None:
        self.stamps: list[int] = []
        self.times: list[float] = []
        self.wanted, self.reached = wanted, threading.Event()

    def update(self, stamp_ns: int, cell: Cell) -> None:
        self.stamps.append(stamp_ns)
        self.times.append(cell.time)
        if len(self.stamps) == self.wanted:
            self.reached.set()


@pytest.fixture(scope='module')
def cell() -> Cell:
    return Cell(TASK)


def test_stamps_follow_simulated_time_in_step_with_the_clock(cell):
    recorder = Recorder(125)
    loop = CellLoop(cell, time.time_ns)
    loop.parts = [recorder]
    before = time.monotonic()
    loop.start()
    assert recorder.reached.wait(30.0)
    wall = time.monotonic() - before
    loop.stop()
    assert loop.stamp_ns <= time.time_ns() + 4_000_000  # ahead by the step under way at most
    assert wall >= 124 * 0.004
    if loop.stats().lost_s == 0:
        steps = {b - a for a, b in itertools.pairwise(recorder.stamps)}
        assert steps == {4_000_000}
    elapsed = recorder.times[124] - recorder.times[0]
    assert elapsed == pytest.approx(124 * 0.004)


def test_without_real_time_stamps_start_at_zero_and_nothing_waits(cell):
    recorder = Recorder(1000)
    loop = CellLoop(cell, time.time_ns, realtime=False)
    loop.parts = [recorder]
    loop.start()
    assert recorder.reached.wait(30.0)
    loop.stop()
    assert recorder.stamps[:1000] == [4_000_000 * i for i in range(1000)]


def test_stamps_go_on_over_a_reset(cell):
    recorder = Recorder(50)
    loop = CellLoop(cell, time.time_ns, realtime=False)
    loop.parts = [recorder]
    loop.start()
    assert recorder.reached.wait(30.0)
    stamp = loop.run(lambda: (cell.reset(3), loop.stamp_ns)[1])
    recorder.reached.clear()
    recorder.wanted = len(recorder.stamps) + 50
    assert recorder.reached.wait(30.0)
    loop.stop()
    assert stamp > recorder.stamps[49]
    assert recorder.stamps == sorted(set(recorder.stamps))
    assert min(recorder.times) < 0.02


def test_a_call_returns_its_result_or_its_error(cell):
    loop = CellLoop(cell, time.time_ns, realtime=False)
    loop.start()
    assert loop.run(lambda: threading.current_thread().name) == 'physics'
    with pytest.raises(ZeroDivisionError):
        loop.run(lambda: 1 // 0)
    assert not loop.failed
    loop.stop()


def test_an_error_in_a_part_is_told(cell, caplog):
    class Broken:
        def update(self, stamp_ns: int, cell: Cell) -> None:
            raise RuntimeError('out of oil')

    loop = CellLoop(cell, time.time_ns)
    loop.parts = [Broken()]
    loop.start()
    loop._thread.join(10.0)
    assert loop.failed
    assert 'out of oil' in caplog.text


def test_a_call_after_an_error_in_a_part_does_not_wait(cell):
    class Broken:
        def update(self, stamp_ns: int, cell: Cell) -> None:
            raise ZeroDivisionError

    loop = CellLoop(cell, time.time_ns, realtime=False)
    loop.parts = [Broken()]
    loop.start()
    loop._thread.join()
    with pytest.raises(ExecutionError, match='has stopped'):
        loop.run(lambda: None, timeout_s=60.0)
    assert loop.failed
    loop.stop()
