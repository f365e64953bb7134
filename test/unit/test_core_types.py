# SPDX-License-Identifier: Apache-2.0
"""Value types refuse malformed data and say what was wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import (
    Future,
    GripperCommand,
    GripperTrajectory,
    JointTrajectory,
    MotionPlan,
    Observation,
    RgbdView,
)

K = np.array([[100.0, 0.0, 7.5], [0.0, 100.0, 5.5], [0.0, 0.0, 1.0]])


def view(camera: str = 'cam', stamp: int = 0) -> RgbdView:
    return RgbdView(rgb=np.zeros((12, 16, 3), np.uint8), depth=np.ones((12, 16), np.float32), K=K,
                    stamp=stamp, camera=camera)


def future() -> Future:
    shape = (2, 3, 4, 6)
    return Future(
        rgb=np.zeros((*shape, 3), np.uint8), points=np.zeros((*shape, 3), np.float32),
        valid=np.ones(shape, bool), gripper=np.zeros(shape, np.float32), dt=0.4,
        K=np.stack([K, K]), cameras=('a', 'b'), stamp=5, generator='test')


def joint_trajectory(n: int = 3) -> JointTrajectory:
    zero = np.zeros((n, 2))
    return JointTrajectory(('a', 'b'), np.arange(float(n)), zero, zero, zero)


@pytest.mark.parametrize('change', [
    {'rgb': np.zeros((12, 16, 4), np.uint8)},
    {'rgb': np.zeros((12, 16, 3), np.float32)},
    {'depth': np.ones((12, 15), np.float32)},
    {'depth': np.ones((12, 16), np.float64)},
    {'K': np.eye(4)},
    {'K': np.zeros((3, 3))},
])
def test_a_malformed_view_is_refused_by_name(change):
    with pytest.raises(InputError, match=f'^{next(iter(change))} of view of camera .cam.'):
        replace(view(), **change)


def test_an_observation_reports_skew_and_reference():
    observation = Observation((view('a', 1_000_000_000), view('b', 1_020_000_000)))
    assert observation.reference.camera == 'a'
    assert observation.stamp == 1_000_000_000
    assert observation.skew == pytest.approx(0.02)


@pytest.mark.parametrize('views', [(), (view('a'), view('a'))])
def test_an_observation_needs_distinct_views(views):
    with pytest.raises(InputError, match='observation'):
        Observation(views)


@pytest.mark.parametrize(('name', 'value'), [
    ('rgb', np.zeros((2, 3, 4, 6), np.uint8)),
    ('points', np.zeros((2, 3, 4, 6, 3))),
    ('valid', np.ones((2, 3, 4, 5), bool)),
    ('valid', np.ones((2, 3, 4, 6), np.uint8)),
    ('gripper', np.zeros((1, 3, 4, 6), np.float32)),
    ('K', K),
    ('cameras', ('a',)),
    ('dt', 0.0),
    ('dt', np.nan),
    ('dt', np.inf),
    ('dt', 400.0),
    ('dt', '0.4'),
    ('dt', None),
    ('cameras', None),
    ('cameras', 'ab'),
    ('cameras', (['a'], ['b'])),
    ('frame_ids', 3),
    ('rgb', [[1]]),
    ('K', [K, K]),
    ('rgb', np.zeros((2, 0, 4, 6, 3), np.uint8)),
    ('points', np.full((2, 3, 4, 6, 3), np.nan, np.float32)),
    ('points', np.full((2, 3, 4, 6, 3), np.inf, np.float32)),
    ('gripper', np.full((2, 3, 4, 6), 255.0, np.float32)),
    ('gripper', np.full((2, 3, 4, 6), -4.0, np.float32)),
    ('gripper', np.full((2, 3, 4, 6), np.nan, np.float32)),
    ('K', np.zeros((2, 3, 3))),
    ('K', np.full((2, 3, 3), np.nan)),
    ('K', np.stack([K, K * [[1.0], [-1.0], [1.0]]])),
    ('cameras', ('a', 'a')),
    ('opening', np.zeros((3, 1), np.float32)),
    ('opening', [0.08, 0.08, 0.08]),
    ('opening', np.array([0.08, np.nan, 0.08], np.float32)),
    ('opening', np.full(3, 80.0, np.float32)),
    ('opening', np.full(3, -0.02, np.float32)),
    ('seed', -1),
    ('seed', 2**64),
    ('steps', None),
    ('steps', 4.0),
    ('generator', None),
    ('frame_id', None),
    ('cameras', ('a', 1)),
    ('frame_ids', ('a_optical',)),
    ('frame_ids', ('a_optical', 1)),
])
def test_a_malformed_future_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f'{name} of future'):
        replace(future(), **{name: value})


def test_a_future_knows_at_least_the_frame_of_its_reference():
    told = {**vars(future()), 'frame_id': 'a_optical'}
    assert Future(**told | {'frame_ids': ()}).frame_ids == ('a_optical', '')
    assert Future(**told | {'frame_ids': ('a_optical', 'odd')}).frame_ids == ('a_optical', 'odd')


@pytest.mark.parametrize(('name', 'value', 'hint'), [
    ('gripper', np.full((2, 3, 4, 6), 255.0, np.float32), 'sigmoid.* 255'),
    ('points', np.full((2, 3, 4, 6, 3), np.nan, np.float32), 'np.isfinite'),
    ('opening', np.full(3, 80.0, np.float32), 'millimetres')])
def test_a_future_tells_the_likely_mistake(name, value, hint):
    with pytest.raises(InputError, match=hint):
        replace(future(), **{name: value})


def test_one_bad_valid_point_is_counted_and_an_invalid_one_may_be_nan():
    points, valid = future().points.copy(), future().valid.copy()
    points[1, 2, 3, 5, 1] = np.nan
    with pytest.raises(InputError, match='at 1 valid pixels'):
        replace(future(), points=points)
    valid[1, 2, 3, 5] = False
    assert replace(future(), points=points, valid=valid).frames == 3


def test_a_simulated_gripper_may_close_a_little_too_far():
    assert replace(future(), opening=np.array([0.08, 0.0, -1e-4], np.float32)).frames == 3


def test_a_future_counts_its_frames():
    assert future().frames == 3


def test_a_gripper_trajectory_moves_to_another_frame():
    T = se3.exp(np.array([0.1, 0.2, 0.3, 0.4, 0.0, 0.0]))
    trajectory = GripperTrajectory(np.stack([np.eye(4), T]), np.zeros(2), np.ones(2),
                                   np.array([0.0, 1.0]), 'cam', 3)
    moved = trajectory.transformed(T, 'base')
    assert moved.frame_id == 'base'
    np.testing.assert_allclose(moved.poses, np.stack([T, T @ T]))


@pytest.mark.parametrize(('name', 'value'), [
    ('poses', np.zeros((2, 4, 4))),
    ('poses', np.empty((0, 4, 4))),
    ('opening', np.array([0.0, np.nan])),
    ('confidence', np.ones(3)),
    ('times', np.array([0.0, 0.0])),
])
def test_a_malformed_gripper_trajectory_is_refused_by_name(name, value):
    good = GripperTrajectory(np.stack([np.eye(4)] * 2), np.zeros(2), np.ones(2),
                             np.array([0.0, 1.0]), 'cam', 3)
    with pytest.raises(InputError, match=f'{name} of gripper trajectory'):
        replace(good, **{name: value})


@pytest.mark.parametrize(('name', 'value'), [
    ('joint_names', ('a',)),
    ('velocities', np.zeros((2, 2))),
    ('times', np.array([0.0, 2.0, 1.0])),
])
def test_a_malformed_joint_trajectory_is_refused(name, value):
    with pytest.raises(InputError, match='of joint trajectory'):
        replace(joint_trajectory(), **{name: value})


def test_a_plan_lasts_as_long_as_its_arm_motions():
    plan = MotionPlan('id', (joint_trajectory(3), GripperCommand(0.0), joint_trajectory(2)), {}, 0,
                      0, 1, np.empty((0, 4, 4)))
    assert plan.duration == 3.0
    with pytest.raises(InputError, match='tcp_path'):
        replace(plan, tcp_path=np.eye(4))


def test_a_plan_tells_where_the_tool_is_in_each_segment():
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 3] = np.arange(6)
    segments = (GripperCommand(0.08), joint_trajectory(3), GripperCommand(0.0),
                joint_trajectory(2))
    plan = MotionPlan('id', segments, {}, 0, 0, 1, poses)
    assert [x[:, 0, 3].tolist() for _, x in plan.tcp_paths()] == [[0], [1, 2, 3], [3], [4, 5]]
    assert [len(times) for times, _ in plan.tcp_paths()] == [1, 3, 1, 2]
    with pytest.raises(InputError, match='expected 6 poses'):
        replace(plan, tcp_path=poses[1:]).tcp_paths()


def test_errors_name_input_expectation_and_next_step():
    error = InputError('depth', expected='metres', got='feet', hint='Convert it.')
    assert str(error) == 'depth; expected metres; got feet. Convert it.'
