# SPDX-License-Identifier: Apache-2.0
"""One function over many items in several processes, each of which builds its own things once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from fourdgen_ros.core.errors import ExecutionError

Item = TypeVar('Item')
Row = TypeVar('Row')


class Actor:
    """One worker, which builds when its first item comes: what building raises is then raised to
    the parent with that item, while a worker that raises when it starts has merely died."""

    def __init__(self, build: Callable[..., Callable[[Any], Any]], args: tuple) -> None:
        self._build, self._args = build, args
        self._call: Callable[[Any], Any] | None = None

    def run(self, item: Any) -> Any:
        """What was built, called with an item."""
        if self._call is None:
            self._call = self._build(*self._args)
        return self._call(item)


class _Process:
    actor: Actor


def _start(build: Callable[..., Callable[[Item], Row]], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _Process.actor = Actor(build, args)


def _call(item: Any) -> Any:
    return _Process.actor.run(item)


@contextmanager
def workers_live() -> Iterator[None]:
    """Raises ExecutionError when a process of a pool dies, as where memory runs out."""
    try:
        yield
    except BrokenProcessPool as error:
        raise ExecutionError('a worker process', expected='to run to the end', got='it died',
                             hint='Out of memory? Try fewer workers.') from error


def process_results(build: Callable[..., Callable[[Item], Row]], args: tuple,
                    items: Sequence[Item], workers: int) -> Iterator[Row]:
    """`build(*args)(item)` for every item, as they finish.

    `build` and `args` must be picklable. What building or a call raises is raised here, and ends
    the others; ExecutionError when a process dies.
    """
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    # spawn: OpenGL contexts and threads do not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(items)), get_context('spawn'), _start,
                               (build, args))
    done = False
    try:
        with workers_live():
            for future in as_completed([pool.submit(_call, item) for item in items]):
                yield future.result()
        done = True
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=done, cancel_futures=True)
        for process in processes if not done else ():
            process.terminate()
