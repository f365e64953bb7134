# SPDX-License-Identifier: Apache-2.0
"""Which FollowJointTrajectory goals are followed, and how the others are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from control_msgs.action import FollowJointTrajectory
from control_msgs.msg import JointTolerance
from trajectory_msgs.msg import JointTrajectoryPoint, MultiDOFJointTrajectoryPoint

from fourdgen_ros.nodes.conversions import ns_to_stamp, seconds_to_duration
from fourdgen_ros.nodes.joint_trajectory_goal import (
    Codes,
    GoalError,
    Limits,
    SetPoint,
    make_follower,
)
from fourdgen_ros.sim.trajectory import Tolerances, TrajectoryFollower

S = 1_000_000_000
NOW = 100 * S
JOINTS = ('a', 'b', 'c')
HERE = np.array([0.1, 0.2, 0.3])
LIMITS = Limits(Tolerances(np.full(3, 0.5), np.full(3, 0.05), 2.0, 0.1), start=0.01)
Goal = FollowJointTrajectory.Goal


def good() -> Goal:
    """Two points at 1 s and 2 s, joints given as c, a, b."""
    goal = Goal()
    goal.trajectory.joint_names = ['c', 'a', 'b']
    goal.trajectory.points = [
        JointTrajectoryPoint(positions=[3.0, 1.0, 2.0], velocities=[0.3, 0.1, 0.2],
                             accelerations=[0.0] * 3, time_from_start=seconds_to_duration(1.0)),
        JointTrajectoryPoint(positions=[6.0, 4.0, 5.0], velocities=[0.0] * 3,
                             accelerations=[0.0] * 3, time_from_start=seconds_to_duration(2.0)),
    ]
    return goal


def follow(goal: Goal, qd: float = 0.0) -> tuple[TrajectoryFollower, int]:
    return make_follower(goal, JOINTS, SetPoint(HERE, np.full(3, qd), HERE), LIMITS, NOW)


def test_any_joint_order_is_followed_from_the_present_set_point():
    follower, start = follow(good(), qd=0.7)
    assert start == NOW
    for t, q, qd in ((0.0, HERE, [0.7] * 3), (1.0, [1, 2, 3], [0.1, 0.2, 0.3]),
                     (2.0, [4, 5, 6], [0, 0, 0])):
        np.testing.assert_allclose(follower.sample(t)[0], q, atol=1e-12)
        np.testing.assert_allclose(follower.sample(t)[1], qd, atol=1e-12)


@pytest.mark.parametrize(('drop', 'degree'), [
    ((), 5), (('accelerations',), 3), (('velocities',), 1), (('velocities', 'accelerations'), 1)])
def test_the_spline_uses_what_the_points_give(drop, degree):
    goal = good()
    for point in goal.trajectory.points:
        for name in drop:
            setattr(point, name, [])
    follower, _ = follow(goal)
    h = 1e-4
    jumps = [follower.sample(1.0 + h)[i] - follower.sample(1.0 - h)[i] for i in (1, 2)]
    assert (np.abs(jumps[0]).max() < 0.1) == (degree >= 3)  # velocity is continuous
    assert (np.abs(jumps[1]).max() < 0.1) == (degree in (1, 5))  # linear: zero on both sides


def test_a_first_point_at_time_zero_must_be_where_the_arm_is():
    goal = good()
    goal.trajectory.points[0].time_from_start = seconds_to_duration(0.0)
    goal.trajectory.points[0].positions = [0.305, 0.1, 0.2]
    follower, _ = follow(goal)
    np.testing.assert_allclose(follower.sample(0.0)[0], HERE)
    goal.trajectory.points[0].positions = [0.3, 0.1, 0.22]
    with pytest.raises(GoalError, match=r'starts 0\.0200 rad away from b') as error:
        follow(goal)
    assert error.value.code == Codes.INVALID_GOAL


def test_a_single_point_where_the_arm_is_ends_at_once():
    goal = good()
    goal.trajectory.points = goal.trajectory.points[-1:]
    goal.trajectory.points[0].time_from_start = seconds_to_duration(0.0)
    goal.trajectory.points[0].positions = [0.3, 0.1, 0.2]
    assert follow(goal)[0].duration < 0.01


def test_a_start_in_the_future_is_kept():
    goal = good()
    goal.trajectory.header.stamp = ns_to_stamp(NOW + 5 * S)
    follower, start = follow(goal)
    assert start == NOW + 5 * S
    np.testing.assert_allclose(follower.sample(-5.0)[0], HERE)
    np.testing.assert_allclose(follower.sample(2.0)[0], [4, 5, 6])


def test_points_whose_time_has_passed_are_left_out():
    goal = good()
    goal.trajectory.header.stamp = ns_to_stamp(NOW - S - S // 2)
    follower, _ = follow(goal)
    np.testing.assert_allclose(follower.sample(1.5)[0], HERE)
    np.testing.assert_allclose(follower.sample(2.0)[0], [4, 5, 6])


def test_zero_tolerances_are_the_defaults_and_minus_one_is_none():
    goal = good()
    goal.path_tolerance = [JointTolerance(name='b', position=0.25),
                           JointTolerance(name='c', position=-1.0)]
    goal.goal_time_tolerance = seconds_to_duration(-1.0)
    follower, _ = follow(goal)
    tolerances = follower._tolerances
    np.testing.assert_array_equal(tolerances.path, [0.5, 0.25, np.inf])
    np.testing.assert_array_equal(tolerances.goal, [0.05] * 3)
    assert tolerances.goal_time_s == np.inf
    assert tolerances.stopped_velocity == 0.1


def _edit(call: Callable[[Goal], None], code: int, text: str):
    return pytest.param(call, code, text, id=text[:30])


def _set(name: str, index: int, value: object) -> Callable[[Goal], None]:
    return lambda goal: setattr(goal.trajectory.points[index], name, value)


def _name(goal: Goal, names: list[str]) -> None:
    goal.trajectory.joint_names = names


@pytest.mark.parametrize(('edit', 'code', 'text'), [
    _edit(lambda g: _name(g, ['c', 'a']), Codes.INVALID_JOINTS, r"missing \['b'\]"),
    _edit(lambda g: _name(g, ['c', 'a', 'x']), Codes.INVALID_JOINTS, r"unknown \['x'\]"),
    _edit(lambda g: _name(g, ['c', 'a', 'b', 'b']), Codes.INVALID_JOINTS, 'each of .* once'),
    _edit(lambda g: g.trajectory.points.clear(), Codes.INVALID_GOAL, 'no points'),
    _edit(_set('positions', 0, []), Codes.INVALID_GOAL, 'positions must have 3'),
    _edit(_set('velocities', 1, []), Codes.INVALID_GOAL, 'velocities must have 3'),
    _edit(_set('accelerations', 1, [0.0] * 4), Codes.INVALID_GOAL, 'accelerations must have 3'),
    _edit(_set('positions', 1, [np.nan, 0.0, 0.0]), Codes.INVALID_GOAL, 'positions are not fin'),
    _edit(_set('velocities', 0, [np.inf, 0.0, 0.0]), Codes.INVALID_GOAL, 'velocities are not'),
    _edit(_set('velocities', 1, [0.0, 0.1, 0.0]), Codes.INVALID_GOAL, 'zero velocity'),
    _edit(_set('time_from_start', 1, seconds_to_duration(1.0)), Codes.INVALID_GOAL, 'increase'),
    _edit(_set('time_from_start', 0, seconds_to_duration(-0.1)), Codes.INVALID_GOAL, '>= 0'),
    _edit(lambda g: setattr(g.trajectory.header, 'stamp', ns_to_stamp(NOW - 3 * S)),
          Codes.OLD_HEADER_TIMESTAMP, 'ended 1.000 s ago'),
    _edit(lambda g: g.path_tolerance.append(JointTolerance(name='x')), Codes.INVALID_JOINTS,
          "unknown joint 'x'"),
    _edit(lambda g: g.goal_tolerance.append(JointTolerance(name='a', position=-0.5)),
          Codes.INVALID_GOAL, 'tolerance -0.5 of a'),
    _edit(lambda g: g.goal_tolerance.append(JointTolerance(name='a', position=np.nan)),
          Codes.INVALID_GOAL, 'tolerance nan of a'),
    _edit(lambda g: g.path_tolerance.append(JointTolerance(name='a', velocity=0.5)),
          Codes.INVALID_GOAL, 'a: only position'),
    _edit(lambda g: g.multi_dof_trajectory.points.append(MultiDOFJointTrajectoryPoint()),
          Codes.INVALID_GOAL, 'multi_dof'),
])
def test_what_is_refused_says_why(edit, code, text):
    goal = good()
    edit(goal)
    with pytest.raises(GoalError, match=text) as error:
        follow(goal)
    assert error.value.code == code
