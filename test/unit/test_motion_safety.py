# SPDX-License-Identifier: Apache-2.0
"""Safety limits and the checks of a timed motion, each shown to refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import JointTrajectory
from fourdgen_ros.motion import safety
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.motion.robot import RobotConfig, Workspace
from fourdgen_ros.motion.safety import CheckError, CheckLog, SafetyLimits

ROBOT = RobotConfig.named('panda')
DT = 0.01
DEFAULTS = SafetyLimits()


@pytest.fixture(scope='module')
def model():
    return RobotModel(ROBOT)


def swing(joint=0, angle=0.3, n=301, start=ROBOT.home):
    """Minimum-jerk motion of one joint: (n, 7)."""
    u = np.linspace(0.0, 1.0, n)[:, None]
    goal = np.zeros(7)
    goal[joint] = angle
    return start + (10 * u**3 - 15 * u**4 + 6 * u**5) * goal


def check(model, q, *, start=None, waypoints=None, limits=DEFAULTS, robot=ROBOT, times=None):
    times = DT * np.arange(len(q)) if times is None else times
    tcp = model.fk_path(q)
    log = CheckLog()
    segment = JointTrajectory(robot.joints, times, q, np.zeros_like(q), np.zeros_like(q))
    safety.check_motion(log, segment, q[0] if start is None else start, tcp,
                        tcp[[0, -1]] if waypoints is None else waypoints, robot, limits)
    return log


def refused(name, *args, **kwargs):
    with pytest.raises(CheckError) as error:
        check(*args, **kwargs)
    assert error.value.check == name, str(error.value)


def test_a_good_motion_passes(model):
    assert 'tcp speed' in check(model, swing()).values


def test_nan_in_the_motion(model):
    q = swing()
    q[5, 2] = np.nan
    refused('motion finite', model, q, waypoints=np.eye(4)[None])


def test_uneven_stamps(model):
    times = DT * np.arange(301)
    times[100:] += 0.005
    refused('motion stamps', model, swing(), times=times)


def test_start_elsewhere(model):
    refused('start state', model, swing(), start=ROBOT.home + 0.02)


def test_beyond_joint_limits(model):
    q = swing(3, 0.2)
    refused('joint limits (distance)', model, q + (ROBOT.upper - q[-1] + 0.01))


def test_too_fast(model):
    refused('joint velocity (of its limit)', model, swing(n=15))
    fine = swing()
    check(model, fine, limits=SafetyLimits(velocity_scaling=0.2))
    refused('joint velocity (of its limit)', model, fine,
            limits=SafetyLimits(velocity_scaling=0.05))


def test_too_much_acceleration(model):
    refused('joint acceleration (of its limit)', model, swing(angle=0.6, n=61))
    refused('joint acceleration (of its limit)', model, swing(),
            limits=SafetyLimits(acceleration_scaling=0.01))


def test_too_much_jerk(model):
    # Half the motion at +1 rad/s^2, half at -1, switched at once: fine but for the jerk.
    acceleration = np.r_[np.full(30, 1.0), np.full(30, -1.0)]
    q = ROBOT.home + (np.cumsum(np.cumsum(acceleration)) * DT**2)[:, None] * np.eye(7)[0]
    refused('joint jerk (of its limit)', model, q)


def test_joint_jump(model):
    # With joint 2 at zero, joints 1 and 3 turn against each other: the arm moves, the tool stays.
    start = ROBOT.home.copy()
    start[1] = 0.0
    q = swing(0, 0.5, start=start)
    q[:, 2] -= q[:, 0]
    refused('joint jump', model, q)


def test_tcp_speed(model):
    refused('tcp speed', model, swing(), limits=SafetyLimits(tcp_speed=0.05))


def test_waypoints_missed(model):
    q = swing()
    beside = model.fk_path(q)[[0, 150, 300]]
    beside[1, 2, 3] += 0.02
    refused('waypoint distance', model, q, waypoints=beside)
    turned = model.fk_path(q)[[0, 150, 300]]
    turned[1, :3, :3] = turned[1, :3, :3] @ np.array([[1, 0, 0], [0, .98, -.199], [0, .199, .98]])
    refused('waypoint angle', model, q, waypoints=turned)


def test_workspace_left_between_waypoints(model):
    robot = replace(ROBOT, workspace=Workspace(max=(None, 0.05, None)))
    q = np.concatenate([swing(), swing()[::-1]])
    refused('workspace (motion)', model, q, robot=robot)


def test_fingers_into_the_table(model):
    tcp = np.diag([1.0, -1.0, -1.0, 1.0])[None].repeat(3, axis=0)
    tcp[:, 2, 3] = [0.1, 0.02, 0.004]
    with pytest.raises(CheckError, match='table'):
        safety.check_table(CheckLog(), 'table', tcp, 0.08, ROBOT, SafetyLimits())


@given(st.one_of(st.floats(max_value=0.0), st.floats(min_value=1.0, exclude_min=True),
                 st.just(float('nan'))),
       st.sampled_from(['velocity_scaling', 'acceleration_scaling']))
@settings(deadline=None)
def test_scalings_outside_0_to_1_are_refused(value, name):
    with pytest.raises(InputError, match=name):
        SafetyLimits(**{name: value})


@given(st.floats(min_value=0.0, max_value=1.0, exclude_min=True))
@settings(deadline=None)
def test_scalings_within_0_to_1_are_taken(value):
    assert SafetyLimits(velocity_scaling=value).velocity_scaling == value


@pytest.mark.parametrize('name', ['tcp_speed', 'max_age', 'z_clearance', 'min_confidence',
                                  'plan_lifetime', 'min_fraction'])
@pytest.mark.parametrize('value', [-0.1, float('nan'), float('inf')])
def test_nonsense_limits_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        SafetyLimits(**{name: value})


@given(st.floats(allow_nan=True), st.floats(0.0, 1e6))
@settings(deadline=None)
def test_log_passes_only_what_is_within(measured, limit):
    log = CheckLog()
    if measured <= limit:
        log.at_most('x', measured, limit)
        assert 'x' in log.values
    else:
        with pytest.raises(CheckError):
            log.at_most('x', measured, limit)


def test_log_keeps_the_worst():
    log, other = CheckLog(), CheckLog()
    for value in (0.2, 0.7, 0.4):
        log.at_most('x', value, 1.0)
        log.at_least('y', value, 0.1)
    assert log.values['x'].startswith('0.7')
    assert log.values['y'].startswith('0.2')
    other.at_most('x', 0.9, 1.0)
    other.at_least('y', 0.5, 0.1)
    log.merge(other)
    assert log.values['x'].startswith('0.9')
    assert log.values['y'].startswith('0.2')
