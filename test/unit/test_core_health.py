# SPDX-License-Identifier: Apache-2.0
"""What diagnostics say, from numbers alone."""

from __future__ import annotations

import pytest

from fourdgen_ros.core.health import (
    CameraLimits,
    Latencies,
    Level,
    Status,
    camera_status,
    execution_status,
    generator_status,
    synchronisation_status,
    tracker_status,
    worst,
)
from fourdgen_ros.core.synchroniser import Gap, SyncStats

NOW = 100 * 10**9
TOPICS = {('left', kind): f'/left/{kind}' for kind in ('color', 'depth', 'info')}


def stats(*, age: float | None = 0.05, rate: float = 30.0, behind: float = 0.1,
          sets: int = 4) -> SyncStats:
    """Of camera `left`; age and rate are those of its depth stream."""
    streams = [('left', kind) for kind in ('color', 'depth', 'info')]
    found = SyncStats(
        sets=sets, resets=0, last_skew_s=0.004, max_skew_s=0.02,
        received=dict.fromkeys(streams, 7), drops={('left', 'color'): 1, ('left', 'depth'): 2},
        age_s=dict.fromkeys(streams, 0.01),
        rate_hz=dict.fromkeys(streams, 30.0),
        stamp=dict.fromkeys(streams, NOW - round(behind * 1e9)))
    found.age_s['left', 'depth'] = age
    found.rate_hz['left', 'depth'] = rate
    if age is None:
        found.stamp['left', 'depth'] = None
    return found


def camera(**values: object) -> Status:
    return camera_status('left', stats(**values), NOW, CameraLimits(), TOPICS)


def test_a_camera_that_streams() -> None:
    status = camera()
    assert (status.level, status.message) == (Level.OK, 'streaming')
    assert status.values == {
        'color received': 7, 'depth received': 7, 'info received': 7,
        'color age [s]': '0.01', 'color rate [Hz]': '30.0',
        'color stamp behind the clock [s]': '0.10', 'color not in a set': 1,
        'depth age [s]': '0.05', 'depth rate [Hz]': '30.0',
        'depth stamp behind the clock [s]': '0.10', 'depth not in a set': 2,
        'info age [s]': '0.01'}


@pytest.mark.parametrize(('values', 'level', 'message'), [
    ({'age': None}, Level.ERROR, 'no depth (topic /left/depth) yet'),
    ({'age': 2.5}, Level.ERROR, 'no depth (topic /left/depth) for 2.5 s'),
    ({'rate': 3.0}, Level.WARN,
     'depth (topic /left/depth) comes at 3.0 Hz, expected at least 5'),
    ({'behind': 2.0}, Level.WARN, 'stamps of depth (topic /left/depth) are 2.00 s behind the '
                                  'clock: synchronise the clocks of the machines'),
    ({'behind': -0.5}, Level.WARN, 'stamps of depth (topic /left/depth) are 0.50 s ahead of the '
                                   'clock: synchronise the clocks of the machines')])
def test_a_camera_in_trouble(values: dict[str, float], level: Level, message: str) -> None:
    status = camera(**values)
    assert status.level == level
    assert message in status.message


def test_a_calibration_in_doubt() -> None:
    status = camera_status('left', stats(), NOW, CameraLimits(), TOPICS, doubt='K is of another')
    assert (status.level, status.message) == (Level.WARN, 'K is of another')
    silent = camera_status('left', stats(age=2.5), NOW, CameraLimits(), TOPICS, doubt='K')
    assert silent.level == Level.ERROR


def test_limits_of_zero_allow_any_rate() -> None:
    status = camera_status('left', stats(rate=0.2), NOW, CameraLimits(min_rate=0.0), TOPICS)
    assert status.level == Level.OK


def test_synchronisation() -> None:
    status = synchronisation_status(stats(), [])
    assert (status.level, status.message) == (Level.OK, 'synchronised')
    assert status.values['last skew [ms]'] == '4.0'
    assert status.values['images not in a set'] == 3
    gap = Gap('left', 'depth', 'late', 2.0, 0.05, '/left/depth')
    assert synchronisation_status(stats(), [gap]) == Status(
        Level.WARN, 'camera left: no depth for 2.0 s (topic /left/depth)', status.values)
    assert synchronisation_status(stats(sets=0), [gap]).level == Level.ERROR


def test_the_worst_of_many() -> None:
    found = worst([Status(Level.WARN, 'a'), Status(Level.ERROR, 'b'), Status(Level.ERROR, 'c')],
                  'well', {'x': 1})
    assert found == Status(Level.ERROR, 'b; c', {'x': 1})
    assert worst([], 'well', {}) == Status(Level.OK, 'well', {})


def test_latencies() -> None:
    latencies = Latencies()
    assert latencies.values() == {}
    for i in range(1, 102):
        latencies.add('track', float(i))  # the first is forgotten
    latencies.add('plan', 0.25)
    assert latencies.values() == {
        'track: last / p50 / p95 [s]': '101.000 / 51.500 / 96.050',
        'plan: last / p50 / p95 [s]': '0.250 / 0.250 / 0.250'}


def test_generator() -> None:
    latencies = Latencies()
    assert generator_status('tiny', None, 0.05, latencies).message == 'ready'
    assert generator_status('tiny', 0.05, 0.05, latencies).level == Level.OK
    status = generator_status('tiny', 0.2, 0.05, latencies)
    assert status.level == Level.WARN
    assert "20.0% of the last future's points" in status.message
    assert status.values['clamp ratio'] == '0.2000'


def test_tracker() -> None:
    latencies = Latencies()
    assert tracker_status(None, 0.2, 0, latencies).message == 'ready'
    status = tracker_status([1.0, 0.5], 0.2, 1, latencies)
    assert status.level == Level.OK
    assert status.values['least confidence'] == '0.50'
    assert status.values['mean confidence'] == '0.75'
    status = tracker_status([1.0, 0.1, 0.3], 0.2, 1, latencies)
    assert status.level == Level.WARN
    assert 'falls to 0.10 in frame 1' in status.message
    assert tracker_status([float('nan')], 0.2, 1, latencies).level == Level.WARN


def test_execution() -> None:
    def status(fault: str | None = None, age: float = 0.01) -> Status:
        return execution_status('ready', mode='auto', fault=fault, joint_age=age,
                                joint_timeout=0.5, velocity_scaling=0.1, latencies=Latencies())

    assert (status().level, status().message) == (Level.OK, 'ready')
    assert (status(age=2.0).level, status(age=2.0).message) == (
        Level.WARN, 'no joint states for 2.0 s')
    assert status(age=float('inf')).message == 'no joint states yet'
    both = status('stopped on request', 2.0)
    assert (both.level, both.message) == (Level.ERROR, 'stopped on request')
    assert both.values['mode'] == 'auto'
