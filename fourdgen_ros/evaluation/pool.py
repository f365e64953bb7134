# SPDX-License-Identifier: Apache-2.0
"""One function over many items: in this process, in several, or on Ray actors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from fourdgen_ros.core.errors import ExecutionError, MissingDependencyError
from fourdgen_ros.core.pool import Actor, Item, Row, process_results


def results(build: Callable[..., Callable[[Item], Row]], args: tuple, items: Sequence[Item],
            workers: int, *, ray: bool = False) -> Iterator[Row]:
    """`build(*args)(item)` for every item, as they finish; with one worker in this process.

    See `process_results` for what is raised. With `ray` the workers are Ray actors, on the cluster
    that the environment variable RAY_ADDRESS names or on this machine; MissingDependencyError
    without Ray.
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
    yield from process_results(build, args, items, workers)


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
        actor = ray.remote(num_cpus=1)(Actor)
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
