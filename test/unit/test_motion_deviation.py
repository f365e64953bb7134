# SPDX-License-Identifier: Apache-2.0
"""The monitor that holds the measured TCP against the planned one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.motion.deviation import DeviationError, DeviationLimits, DeviationMonitor

SPEED, TURN = 0.2, 0.5  # m/s, rad/s
TIMES = 0.01 * np.arange(301)


def planned(t: float) -> np.ndarray:
    """Straight along x, turning about z, for 3 s."""
    t = min(max(t, 0.0), 3.0)
    return se3.make(se3.exp_so3(np.array([0.0, 0.0, TURN * t])), np.array([SPEED * t, 0.0, 0.3]))


def monitor(**limits: float) -> DeviationMonitor:
    return DeviationMonitor(TIMES, np.stack([planned(t) for t in TIMES]),
                            DeviationLimits(**limits))


@given(t=st.floats(0.0, 5.0), late=st.floats(-0.3, 0.3))
@settings(deadline=None)
def test_a_lag_within_the_window_is_no_deviation(t: float, late: float) -> None:
    deviation = monitor().measure(planned(t - late), t)
    assert deviation.distance < 0.0011 + 1e-9  # half a step of the plan
    assert deviation.angle < 0.0026


@given(t=st.floats(0.0, 5.0), offset=st.tuples(*[st.floats(-0.1, 0.1)] * 2))
@settings(deadline=None)
def test_across_the_path_the_distance_is_what_it_is(t: float, offset: tuple) -> None:
    pose = planned(t)
    pose[1:3, 3] += offset
    distance = float(np.hypot(*offset))
    watch = monitor(angle=0.0)
    assert watch.measure(pose, t).distance == pytest.approx(distance, abs=2e-3)
    if distance > 0.0325:
        with pytest.raises(DeviationError, match=r'mm and .* deg from the plan'):
            watch.check(pose, t)
    elif distance < 0.0275:
        watch.check(pose, t)


def test_an_arm_that_stands_still_deviates_after_the_lag_and_the_limit() -> None:
    watch = monitor()
    found = [t for t in TIMES[50:] if _deviates(watch, planned(0.5), t)]
    # 0.3 s of lag, then the plan runs away until place or direction tells.
    assert found[0] == pytest.approx(0.5 + 0.3 + 0.03 / SPEED, abs=0.02)


def test_a_turned_tool_deviates() -> None:
    pose = planned(1.0) @ se3.make(se3.exp_so3(np.array([0.4, 0.0, 0.0])))
    with pytest.raises(DeviationError, match='22.9 deg'):
        monitor().check(pose, 1.0)
    monitor(angle=0.0).check(pose, 1.0)
    monitor(angle=0.5).check(pose, 1.0)


@pytest.mark.parametrize('at', [(0, 3), (1, 1)])
def test_nan_is_a_deviation(at: tuple[int, int]) -> None:
    pose = planned(1.0)
    pose[at] = np.nan
    with pytest.raises(DeviationError):
        monitor().check(pose, 1.0)


def test_the_greatest_is_kept() -> None:
    watch = monitor(distance=0.0, angle=0.0)
    for offset in (0.01, 0.5, 0.02):
        pose = planned(1.0)
        pose[2, 3] += offset
        watch.check(pose, 1.0)
    assert watch.distance == pytest.approx(0.5, abs=1e-3)


def test_limits() -> None:
    assert not DeviationLimits(distance=0.0, angle=0.0).watched
    assert DeviationLimits(distance=0.0).watched
    for value in (-0.1, np.nan, np.inf):
        for name in ('distance', 'angle', 'lag'):
            with pytest.raises(InputError, match=name):
                DeviationLimits(**{name: value})
    with pytest.raises(InputError, match='3 poses for 2 times'):
        DeviationMonitor(TIMES[:2], np.tile(np.eye(4), (3, 1, 1)), DeviationLimits())


def _deviates(watch: DeviationMonitor, pose: np.ndarray, t: float) -> bool:
    try:
        watch.check(pose, t)
    except DeviationError:
        return True
    return False
