# SPDX-License-Identifier: Apache-2.0
"""Sampling and tolerance checks of joint trajectories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import JointTrajectory
from fourdgen_ros.sim.trajectory import Status, Tolerances, TrajectoryFollower


def trajectory(seed: int = 0, n: int = 5) -> JointTrajectory:
    rng = np.random.default_rng(seed)
    velocities, accelerations = rng.normal(size=(2, n, 3))
    velocities[[0, -1]] = accelerations[[0, -1]] = 0.0
    return JointTrajectory(('a', 'b', 'c'), np.cumsum(rng.uniform(0.2, 1.0, n)) - 0.1,
                           rng.normal(size=(n, 3)), velocities, accelerations)


@given(st.integers(0, 1000), st.sampled_from([1, 3, 5]))
def test_splines_meet_what_the_points_give(seed, degree):
    motion = trajectory(seed)
    follower = TrajectoryFollower(motion, degree=degree)
    for i, t in enumerate(motion.times):
        for at in (t, t - 1e-9 if i else t):  # from either side
            q, qd, qdd = follower.sample(at)
            np.testing.assert_allclose(q, motion.positions[i], atol=1e-6)
            if degree >= 3:
                np.testing.assert_allclose(qd, motion.velocities[i], atol=1e-5)
            if degree == 5:
                np.testing.assert_allclose(qdd, motion.accelerations[i], atol=1e-4)


@given(st.integers(0, 1000), st.sampled_from([1, 3, 5]), st.floats(0.01, 0.99))
def test_velocities_are_the_derivatives_of_positions(seed, degree, u):
    motion = trajectory(seed)
    follower = TrajectoryFollower(motion, degree=degree)
    t = motion.times[1] + u * (motion.times[2] - motion.times[1])
    h = 1e-6
    (q0, v0, _), (q1, v1, _), (_, v, a) = (follower.sample(s) for s in (t - h, t + h, t))
    np.testing.assert_allclose((q1 - q0) / (2 * h), v, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose((v1 - v0) / (2 * h), a, atol=1e-2, rtol=1e-4)


def test_the_ends_are_held():
    motion = trajectory()
    follower = TrajectoryFollower(motion)
    for t, i in ((-1.0, 0), (motion.times[0] - 0.01, 0), (follower.duration + 1.0, -1)):
        q, qd, qdd = follower.sample(t)
        np.testing.assert_array_equal(q, motion.positions[i])
        assert not qd.any()
        assert not qdd.any()


def test_another_degree_is_refused():
    with pytest.raises(InputError, match='1, 3 or 5'):
        TrajectoryFollower(trajectory(), degree=2)


def test_without_tolerances_the_end_of_time_is_success():
    follower = TrajectoryFollower(trajectory())
    far, still = np.full(3, 99.0), np.zeros(3)
    assert follower.check(follower.duration - 0.01, far, still).status is Status.RUNNING
    assert follower.check(follower.duration, far, still).status is Status.SUCCEEDED


def test_leaving_the_path_names_joint_error_and_bound():
    tolerances = Tolerances(np.array([0.1, np.inf, 0.1]), np.full(3, np.inf))
    follower = TrajectoryFollower(trajectory(), tolerances=tolerances)
    q = follower.sample(0.5)[0]
    assert follower.check(0.5, q + [0.09, 9.0, -0.09], q).status is Status.RUNNING
    outcome = follower.check(0.5, q + [0.05, 9.0, -0.15], q)
    assert outcome.status is Status.PATH_TOLERANCE_VIOLATED
    assert outcome.message == ('c is 0.1500 rad off, tolerance 0.1000 rad, 0.500 s into the path')


def test_the_goal_may_be_reached_late_but_not_too_late():
    tolerances = Tolerances(np.full(3, np.inf), np.full(3, 0.01), goal_time_s=0.5,
                            stopped_velocity=0.02)
    follower = TrajectoryFollower(trajectory(), tolerances=tolerances)
    end, goal, still = follower.duration, trajectory().positions[-1], np.zeros(3)
    assert follower.check(end, goal + 0.02, still).status is Status.RUNNING
    assert follower.check(end + 0.4, goal + 0.009, still).status is Status.SUCCEEDED
    assert follower.check(end + 0.4, goal, still + 0.03).status is Status.RUNNING
    outcome = follower.check(end + 0.6, goal + [0.0, 0.02, 0.0], still)
    assert outcome.status is Status.GOAL_TOLERANCE_VIOLATED
    assert outcome.message == 'b is 0.0200 rad off, tolerance 0.0100 rad, 0.600 s after the end'
    outcome = follower.check(end + 0.6, goal, still + [0.0, 0.0, -0.03])
    assert outcome.status is Status.GOAL_TOLERANCE_VIOLATED
    assert 'c still moves at 0.030 rad/s' in outcome.message
