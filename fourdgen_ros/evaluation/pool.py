# SPDX-License-Identifier: Apache-2.0
"""One function over many items on several processes, each of which builds its own things once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from fourdgen_ros.core.errors import ExecutionError

Item = TypeVar('Item')
Row = TypeVar('Row')


class _Worker:
    call: Callable[[Any], Any]


def _start(build: Callable[..., Callable[[Item], Row]], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _Worker.call = build(*args)


def _call(item: Any) -> Any:
    return _Worker.call(item)


def results(build: Callable[..., Callable[[Item], Row]], args: tuple, items: Sequence[Item],
            workers: int) -> Iterator[Row]:
    """`build(*args)(item)` for every item, as they finish; with one worker in this process.

    `build` and `args` must be picklable. What a call raises is raised here, and ends the others;
    ExecutionError when a process dies.
    """
    if not items:
        return
    if workers == 1:
        call = build(*args)
        for item in items:
            yield call(item)
        return
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    # spawn: OpenGL contexts and threads do not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(items)), get_context('spawn'), _start,
                               (build, args))
    done = False
    try:
        for future in as_completed([pool.submit(_call, item) for item in items]):
            yield future.result()
        done = True
    except BrokenProcessPool as error:
        raise ExecutionError('a worker process', expected='to run to the end', got='it died',
                             hint='Out of memory? Try fewer workers.') from error
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=done, cancel_futures=True)
        for process in processes if not done else ():
            process.terminate()
