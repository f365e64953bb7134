# SPDX-License-Identifier: Apache-2.0
"""One function over many items on several workers, each of which builds its own things once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from fourdgen_ros.core.errors import ExecutionError, MissingDependencyError

Item = TypeVar('Item')
Row = TypeVar('Row')


class _Actor:
    """One worker, which builds when its first item comes: what building raises is then raised to
    the parent with that item, while a worker that raises when it starts has merely died."""

    def __init__(self, build: Callable[..., Callable[[Any], Any]], args: tuple) -> None:
        self._build, self._args = build, args
        self._call: Callable[[Any], Any] | None = None

    def run(self, item: Any) -> Any:
        if self._call is None:
            self._call = self._build(*self._args)
        return self._call(item)


class _Process:
    actor: _Actor


def _start(build: Callable[..., Callable[[Item], Row]], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _Process.actor = _Actor(build, args)


def _call(item: Any) -> Any:
    return _Process.actor.run(item)


def results(build: Callable[..., Callable[[Item], Row]], args: tuple, items: Sequence[Item],
            workers: int, *, ray: bool = False) -> Iterator[Row]:
    """`build(*args)(item)` for every item, as they finish; with one worker in this process.

    `build` and `args` must be picklable. What building or a call raises is raised here, and ends
    the others; ExecutionError when a process dies. With `ray` the workers are Ray actors, on the
    cluster that the environment variable RAY_ADDRESS names or on this machine;
    MissingDependencyError without Ray.
    """
    if not items:
        return
    if ray:
        yield from _ray_results(build, args, items, workers)
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


def _ray_results(build: Callable[..., Callable[[Item], Row]], args: tuple, items: Sequence[Item],
                 workers: int) -> Iterator[Row]:
    try:
        import ray
        from ray.exceptions import RayActorError, RayTaskError
    except ImportError as error:
        raise MissingDependencyError('Ray', expected='the package ray',
                                     hint='pip install ray, or use processes.') from error
    started = not ray.is_initialized()
    if started:
        local = {} if os.environ.get('RAY_ADDRESS') else {
            'num_cpus': workers, 'include_dashboard': False}
        ray.init(log_to_driver=False, **local)
    try:
        actor = ray.remote(num_cpus=1)(_Actor)
        pool = ray.util.ActorPool([actor.remote(build, args)
                                   for _ in range(min(workers, len(items)))])
        yield from pool.map_unordered(lambda worker, item: worker.run.remote(item), items)
    except RayTaskError as error:
        raise error.as_instanceof_cause() from error
    except RayActorError as error:
        raise ExecutionError('a Ray worker', expected='to run to the end', got='it died',
                             hint='Out of memory? Try fewer workers.') from error
    finally:
        if started:
            ray.shutdown()
