# SPDX-License-Identifier: Apache-2.0
"""Closed-loop success of a generator over many seeds, on several processes, resumable."""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.core.sensor_faults import Fault
from fourdgen_ros.evaluation.faulty import require_sight
from fourdgen_ros.evaluation.generators import fingerprint, is_policy, settings
from fourdgen_ros.evaluation.road import Road, RoadConfig, RoadResult
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.stack import build_road, limit_threads, versions
from fourdgen_ros.evaluation.statistics import summary, wilson
from fourdgen_ros.evaluation.strips import folder_of, save_strip
from fourdgen_ros.sim.cameras import FIXED

log = logging.getLogger(__name__)
STAGE_KEYS = ('generate', 'track', 'plan', 'observation_to_plan', 'execute')
# Between the first generator seeds of rollouts, more than one of them generates: with a noise in
# common they would not be the independent trials that Wilson's interval and McNemar's test assume.
SEEDS_APART = 1000


@dataclass(frozen=True)
class RolloutSpec:
    """What is rolled out; two rollouts with equal specs may share results. With `fault` all
    observations have it."""

    task: str
    generator: str
    config: RoadConfig = field(default_factory=RoadConfig)
    camera_set: str = FIXED
    fault: Fault | None = None

    def identity(self) -> dict:
        """The spec with the identity of weights and settings, as JSON."""
        spec = asdict(self)
        del spec['fault']
        return (spec | self.fault_text() | {'weights': fingerprint(self.generator)}
                | settings(self.generator))

    def fault_text(self) -> dict:
        """The fault as an entry of a report; none without one, as in reports that knew none."""
        return {} if self.fault is None else {'fault': str(self.fault)}


def run_seed(road: Road, seed: int, strips: Path | None = None) -> dict:
    """Outcome of one seed as JSON; an unexpected error is a failure with cause 'error'. A failure
    leaves a picture in the folder `strips`. Raises FourdgenError of what is no stage's, such as a
    renderer that is missing: no seed could do better."""
    start = time.perf_counter()
    try:
        road.cell.reset(seed)
        result = road.run(SEEDS_APART * seed, record=strips is not None)
        row = _row(seed, result)
        if strips is not None and not result.success:
            row['strip'] = save_strip(result, seed, strips)
        return row
    except FourdgenError:
        raise
    except Exception as error:  # one bad seed must not lose the others
        log.error('seed %d:\n%s', seed, traceback.format_exc())
        return {'seed': seed, 'success': False, 'stage': road.cell.stage(), 'cause': 'error',
                'message': f'{type(error).__name__}: {error}', 'segments': [],
                'seconds': time.perf_counter() - start, 'simulated_seconds': road.cell.time}


def _row(seed: int, result: RoadResult) -> dict:
    return {
        'seed': seed, 'success': result.success, 'stage': result.stage, 'cause': result.cause,
        'message': result.message, 'seconds': round(result.seconds, 3),
        'simulated_seconds': round(result.simulated, 3),
        'segments': [{
            'seconds': {k: round(v, 4) for k, v in s.seconds.items()},
            'confidence': round(s.confidence, 3), 'stage': s.stage, 'motion': round(s.motion, 3),
            'failures': [asdict(f) for f in s.failures]} for s in result.segments]}


def rollout(spec: RolloutSpec, seeds: Iterable[int], batch: Batch | None = None,
            on_result: Callable[[dict], None] = lambda row: None, *, strips: bool = False) -> dict:
    """Run the task from every seed and return the report, see `report` and `Batch`.

    With `strips` a picture of every failure is kept beside the report, which names it (see
    strips.py). Raises InputError for strips without a file of the report or of a policy, and for a
    fault that the generator cannot have.
    """
    require_sight(spec.generator, spec.fault)
    batch = Batch() if batch is None else batch
    if strips and batch.file is None:
        raise InputError('strips', expected='a file of the report', got='none',
                         hint='The pictures lie beside it: give --json FILE.')
    if strips and is_policy(spec.generator):
        raise InputError('strips', expected='a generator', got='a policy',
                         hint='A policy imagines nothing that could be shown.')
    folder = folder_of(batch.file) if strips else None
    return batch.run(_build, (spec, folder), seeds, spec.identity(), partial(report, spec),
                     on_result)


def report(spec: RolloutSpec, rows: list[dict]) -> dict:
    """The figures of a rollout: success with its interval, causes, stages, latencies."""
    successes = sum(row['success'] for row in rows)
    segments = [s for row in rows for s in row['segments']]
    return {
        'n': len(rows), 'successes': successes,
        'rate': successes / len(rows), 'wilson95': list(wilson(successes, len(rows))),
        'causes': dict(Counter(row['cause'] for row in rows if row['cause'] is not None)),
        'stages': dict(Counter(row['stage'] for row in rows)),
        'retries': dict(Counter(f['cause'] for s in segments for f in s['failures'])),
        'latency_s': {key: summary((s['seconds'][key] for s in segments if key in s['seconds']),
                                   50, 95) for key in STAGE_KEYS},
        'segments': summary((len(row['segments']) for row in rows), 50, 95),
        'task': spec.task, 'generator': spec.generator, 'config': asdict(spec.config),
        'camera_set': spec.camera_set, **spec.fault_text(),
        'weights': fingerprint(spec.generator), 'versions': versions(), 'outcomes': rows}


def _build(spec: RolloutSpec, strips: Path | None) -> Callable[[int], dict]:
    limit_threads(spec.generator)
    return partial(run_seed, build_road(spec.task, spec.generator, spec.config,
                                        camera_set=spec.camera_set, fault=spec.fault),
                   strips=strips)
