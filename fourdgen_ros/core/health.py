# SPDX-License-Identifier: Apache-2.0
"""How the parts of the road are: levels, thresholds and the texts that people read (REP 107).

No clock is read here, and no ROS: nodes measure, and publish what these functions say.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from fourdgen_ros.core.synchroniser import Gap, SyncStats

LATENCIES_KEPT = 100


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Status:
    """Level of one part, a sentence, and values by name (with their unit in brackets)."""

    level: Level
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


def worst(statuses: Sequence[Status], otherwise: str, values: Mapping[str, object]) -> Status:
    """One status of many: the highest level, all messages of that level, and `values`.

    No statuses: OK, with the message `otherwise`.
    """
    level = max((s.level for s in statuses), default=Level.OK)
    messages = [s.message for s in statuses if s.level == level]
    return Status(level, '; '.join(messages) if messages else otherwise, values)


# --- cameras --------------------------------------------------------------------------------------

@dataclass(frozen=True)
class CameraLimits:
    """What is still normal.

    Rates in Hz (0: any), silence in s, and how far stamps may be behind and ahead of the clock in
    s: clocks of two machines are never quite equal.
    """

    min_rate: float = 5.0
    max_age: float = 1.0
    max_behind: float = 1.0
    max_ahead: float = 0.1


def camera_status(camera: str, stats: SyncStats, now_ns: int, limits: CameraLimits,
                  topics: Mapping[tuple[str, str], str], doubt: str = '') -> Status:
    """Status of one camera's streams; `now_ns` is the clock that stamps are taken from, `doubt`
    what speaks against its calibration."""
    values: dict[str, object] = {}
    problems = []
    for kind in ('color', 'depth', 'info'):
        stream = camera, kind
        age, rate, stamp = stats.age_s[stream], stats.rate_hz[stream], stats.stamp[stream]
        where = f'{kind} (topic {topics.get(stream, "unknown")})'
        values[f'{kind} received'] = stats.received[stream]
        values[f'{kind} age [s]'] = 'never' if age is None else f'{age:.2f}'
        if age is None or stamp is None:
            problems.append(Status(Level.ERROR, f'no {where} yet'))
            continue
        if kind == 'info':  # some drivers publish their calibration only once
            continue
        behind = (now_ns - stamp) * 1e-9
        values[f'{kind} rate [Hz]'] = f'{rate:.1f}'
        values[f'{kind} stamp behind the clock [s]'] = f'{behind:.2f}'
        values[f'{kind} not in a set'] = stats.drops[stream]
        if age > limits.max_age:
            problems.append(Status(Level.ERROR, f'no {where} for {age:.1f} s'))
        elif behind > limits.max_behind or behind < -limits.max_ahead:
            text = f'{behind:.2f} s behind' if behind > 0 else f'{-behind:.2f} s ahead of'
            problems.append(Status(Level.WARN, f'stamps of {where} are {text} the clock: '
                                               f'synchronise the clocks of the machines'))
        elif rate < limits.min_rate:
            problems.append(Status(Level.WARN, f'{where} comes at {rate:.1f} Hz, expected at '
                                               f'least {limits.min_rate:g}'))
    if doubt:
        problems.append(Status(Level.WARN, doubt))
    return worst(problems, 'streaming', values)


def synchronisation_status(stats: SyncStats, gaps: Sequence[Gap]) -> Status:
    """Status of the sets of all cameras' images."""
    values = {'sets': stats.sets, 'clock resets': stats.resets,
              'last skew [ms]': f'{stats.last_skew_s * 1e3:.1f}',
              'largest skew [ms]': f'{stats.max_skew_s * 1e3:.1f}',
              'images not in a set': sum(stats.drops.values())}
    level = Level.ERROR if stats.sets == 0 else Level.WARN
    return worst([Status(level, str(gap)) for gap in gaps], 'synchronised', values)


# --- stages ---------------------------------------------------------------------------------------

class Latencies:
    """The last seconds that each step took; thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, deque[float]] = {}

    def add(self, step: str, seconds: float) -> None:
        """Note that `step` took this long."""
        with self._lock:
            self._seconds.setdefault(step, deque(maxlen=LATENCIES_KEPT)).append(seconds)

    def values(self) -> dict[str, str]:
        """Last, median and 95th percentile per step, in s."""
        with self._lock:
            seconds = {step: list(kept) for step, kept in self._seconds.items()}
        found = {}
        for step, kept in seconds.items():
            p50, p95 = np.percentile(kept, (50, 95))
            found[f'{step}: last / p50 / p95 [s]'] = f'{kept[-1]:.3f} / {p50:.3f} / {p95:.3f}'
        return found


def generator_status(name: str, clamp_ratio: float | None, max_clamp_ratio: float,
                     latencies: Latencies) -> Status:
    """Status of a generator; `clamp_ratio` of its last future (0..1), None before the first."""
    values = {'generator': name, **latencies.values()}
    if clamp_ratio is None:
        return Status(Level.OK, 'ready', values)
    values['clamp ratio'] = f'{clamp_ratio:.4f}'
    if clamp_ratio > max_clamp_ratio:
        return Status(Level.WARN, f'{clamp_ratio:.1%} of the last future\'s points lie outside the '
                                  f'generator\'s range, expected at most {max_clamp_ratio:.1%}: '
                                  f'move the cameras nearer, or use another model', values)
    return Status(Level.OK, 'generating', values)


def tracker_status(confidence: Sequence[float] | None, min_confidence: float, futures: int,
                   latencies: Latencies) -> Status:
    """Status of a tracker; `confidence` (T,) 0..1 of its last track, None before the first."""
    values = {'futures known': futures, **latencies.values()}
    if confidence is None:
        return Status(Level.OK, 'ready', values)
    least = float(np.min(confidence))
    values['least confidence'] = f'{least:.2f}'
    values['mean confidence'] = f'{float(np.mean(confidence)):.2f}'
    if not least >= min_confidence:
        frame = int(np.argmin(confidence))
        return Status(Level.WARN, f'the confidence of the last track falls to {least:.2f} in frame '
                                  f'{frame}, expected at least {min_confidence:g}', values)
    return Status(Level.OK, 'tracking', values)


def execution_status(state: str, *, mode: str, fault: str | None, joint_age: float,
                     joint_timeout: float, velocity_scaling: float,
                     latencies: Latencies) -> Status:
    """Status of the execution; `state` says what it does, ages and timeouts are in s."""
    values = {'mode': mode, 'state': state, 'joint state age [s]': f'{joint_age:.2f}',
              'velocity scaling': velocity_scaling, **latencies.values()}
    problems = []
    if fault is not None:
        problems.append(Status(Level.ERROR, fault))
    if not joint_age <= joint_timeout:
        silence = 'yet' if joint_age == float('inf') else f'for {joint_age:.1f} s'
        problems.append(Status(Level.WARN, f'no joint states {silence}'))
    return worst(problems, state, values)
