# SPDX-License-Identifier: Apache-2.0
"""Run a cell's physics in a thread of its own, in step with the wall clock."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.sim.cell import Cell

T = TypeVar('T')
log = logging.getLogger(__name__)
MAX_LAG = 0.5  # s behind the wall clock after which the time is given up and reported


class Part(Protocol):
    """Something that acts every control period, in the loop's thread."""

    def update(self, stamp_ns: int, cell: Cell) -> None:
        """`stamp_ns` is the time of the state that `cell` is in now."""


@dataclass(frozen=True)
class LoopStats:
    """Real-time factor over the last seconds, and time that was given up in all, s."""

    real_time_factor: float
    lost_s: float


class CellLoop:
    """Steps a cell by `period_s` at a time and calls every part between the steps.

    `stamp_ns` is the time of the present state: `clock_ns()` at the start plus the simulated time
    since then. It is evenly spaced and never goes back, also over resets of the cell. Where the
    loop falls behind by more than 0.5 s, the stamps jump ahead by the lag, and `stats` tells. With
    `realtime` off, the loop runs as fast as it can and stamps start at 0. `failed` tells that an
    error in a part has ended the loop.
    """

    def __init__(self, cell: Cell, clock_ns: Callable[[], int], *, realtime: bool = True,
                 period_s: float = 0.004) -> None:
        self.cell = cell
        self.parts: list[Part] = []
        self._clock_ns, self._realtime = clock_ns, realtime
        self._period_s, self._period_ns = period_s, round(period_s * 1e9)
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._stop, self._ended = threading.Event(), threading.Event()
        self.failed = False
        self._thread = threading.Thread(target=self._run, name='physics', daemon=True)
        self._stamp = clock_ns() if realtime else 0
        self._lost = 0.0
        self._window = (time.monotonic(), 0)  # wall time and steps at the start of the window
        self._steps = 0
        self._factor = 1.0

    @property
    def stamp_ns(self) -> int:
        """Time of the present state."""
        return self._stamp

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; calls that still wait are cancelled."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)
        self._end()

    def run(self, call: Callable[[], T], timeout_s: float = 30.0) -> T:
        """Result of `call()` made between two steps; raises what it raises, or TimeoutError.

        Raises ExecutionError when the loop has ended, or ends before it comes to the call.
        """
        future: Future = Future()
        self._calls.put((future, call))
        if self._ended.is_set():
            self._cancel_calls()
        try:
            return future.result(timeout_s)
        except CancelledError:
            raise ExecutionError('the physics of the cell', got='it has stopped',
                                 hint='The log says why; start the cell again.') from None

    def stats(self) -> LoopStats:
        """How well the loop keeps up."""
        return LoopStats(self._factor, self._lost)

    def _run(self) -> None:
        try:
            self._loop()
        except Exception:
            self.failed = True
            log.exception('physics has stopped')
        finally:
            self._end()

    def _end(self) -> None:
        self._ended.set()
        self._cancel_calls()

    def _cancel_calls(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()[0].cancel()

    def _loop(self) -> None:
        self._stamp = self._clock_ns() if self._realtime else 0
        due = time.monotonic()
        while not self._stop.is_set():
            self._serve_calls()
            now = time.monotonic()
            if self._realtime and now < due:
                self._stop.wait(due - now)
                continue
            if self._realtime and now - due > MAX_LAG:
                self._lost += now - due
                log.warning('physics is %.2f s behind the wall clock: time given up', now - due)
                self._stamp += round((now - due) * 1e9)
                due = now
            for part in self.parts:
                part.update(self._stamp, self.cell)
            self.cell.step(self._period_s)
            self._stamp += self._period_ns
            due += self._period_s
            self._count()

    def _serve_calls(self) -> None:
        while not self._calls.empty():
            future, call = self._calls.get()
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)

    def _count(self) -> None:
        self._steps += 1
        start, steps = self._window
        wall = time.monotonic() - start
        if wall >= 2.0:
            self._factor = (self._steps - steps) * self._period_s / wall
            self._window = (time.monotonic(), self._steps)
