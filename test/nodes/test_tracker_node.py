# SPDX-License-Identifier: Apache-2.0
"""Node `tracker` over real DDS: frames, stamps and errors around any tracker."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from ros_graph import Graph, eventually, parameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from fourdgen_ros.action import TrackGripper
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import ExecutionError, TrackingError
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.msg import GripperTrajectory as GripperTrajectoryMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.qos import LATCHED
from fourdgen_ros.nodes.tf import StaticTransformPublisher, TransformPublisher
from fourdgen_ros.nodes.tracker import TrackerNode

Result = TrackGripper.Result
REFERENCE = 'cam_left_color_optical_frame'
T_BASE_REF = se3.make(se3.exp_so3(np.array([2.0, 0.3, -0.1])), np.array([1.2, 0.5, 0.8]))
T_BASE_TCP = se3.make(se3.exp_so3(np.array([3.1, 0.0, 0.0])), np.array([0.5, 0.0, 0.3]))


class Upwards:
    """Moves the first pose 1 cm along the reference frame's y per frame."""

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray, float | None]] = []
        self.error: Exception | None = None

    def track(self, future: Future, first_pose: np.ndarray,
              first_opening: float | None) -> GripperTrajectory:
        self.calls.append((first_pose, first_opening))
        if self.error is not None:
            raise self.error
        poses = np.stack([se3.make(translation=np.array([0, 0.01 * t, 0])) @ first_pose
                          for t in range(future.frames)])
        return GripperTrajectory(poses, np.full(future.frames, 0.05), np.ones(future.frames),
                                 future.dt * np.arange(future.frames), future.frame_id,
                                 future.stamp)


class Bench:
    """Tracker node, its inputs, and calls."""

    def __init__(self, graph: Graph, **values: Any) -> None:
        self.graph, self.tracker = graph, Upwards()
        self.node = graph.add(TrackerNode(self.tracker, **parameters(
            **{'tf_timeout': 0.3, 'future_timeout': 0.3, **values})))
        self.futures = graph.client.create_publisher(GeneratedFuture, 'future', LATCHED)
        self.joints = graph.client.create_publisher(JointState, '/joint_states', 10)
        self.static = StaticTransformPublisher(graph.client)
        self.tf = TransformPublisher(graph.client)
        assert eventually(lambda: self.futures.get_subscription_count() == 1
                          and self.joints.get_subscription_count() == 1)

    def publish_future(self, future_id: str, stamp: int) -> None:
        shape = (1, 3, 8, 10)
        future = Future(
            rgb=np.zeros((*shape, 3), np.uint8), points=np.ones((*shape, 3), np.float32),
            valid=np.ones(shape, bool), gripper=np.zeros(shape, np.float32), dt=0.4,
            K=np.array([[[9.0, 0, 4.5], [0, 9.0, 3.5], [0, 0, 1]]]), cameras=('cam_left',),
            stamp=stamp, generator='test', frame_id=REFERENCE)
        self.futures.publish(conversions.future_to_msg(future, future_id))

    def publish_robot(self, stamp: int, opening: float, T_base_tcp: np.ndarray) -> None:
        message = JointState(name=['panda_finger_joint1', 'panda_finger_joint2'],
                             position=[opening / 2, opening / 2])
        message.header.stamp = conversions.ns_to_stamp(stamp)
        self.joints.publish(message)
        self.tf.send([('panda_link0', 'panda_hand_tcp', T_base_tcp)], stamp)

    def publish_camera(self, stamp: int) -> None:
        self.static.send([('panda_link0', REFERENCE, T_BASE_REF)], stamp)

    def track(self, future_id: str) -> Any:
        return self.graph.act(TrackGripper, 'track_gripper',
                              TrackGripper.Goal(future_id=future_id))


@pytest.fixture
def bench(graph: Graph) -> Bench:
    return Bench(graph)


def test_starts_where_the_robot_was_and_answers_in_the_base_frame(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    before = se3.make(translation=np.array([0.0, 0.0, 0.2])) @ T_BASE_TCP
    bench.publish_robot(now - 10**9, 0.01, before)
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    bench.publish_robot(now + 10**9, 0.02, before)
    bench.publish_future('f1', now)
    result = bench.track('f1')
    assert (result.error_code, result.error_msg) == (Result.NONE, '')

    first_pose, first_opening = bench.tracker.calls[0]
    np.testing.assert_allclose(first_pose, se3.inverse(T_BASE_REF) @ T_BASE_TCP, atol=1e-9)
    assert first_opening == pytest.approx(0.06)
    trajectory = conversions.gripper_trajectory_from_msg(result.trajectory)
    assert trajectory.frame_id == 'panda_link0'
    assert trajectory.stamp == now
    np.testing.assert_allclose(trajectory.poses[0], T_BASE_TCP, atol=1e-9)
    np.testing.assert_allclose(trajectory.poses[2, :3, 3] - T_BASE_TCP[:3, 3],
                               0.02 * T_BASE_REF[:3, 1], atol=1e-9)
    late = bench.graph.listen(GripperTrajectoryMsg, 'gripper_trajectory', LATCHED)
    assert eventually(lambda: bool(late))
    assert late[0].future_id == 'f1'


def test_waits_for_a_future_that_comes_after_the_goal(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    running = bench.graph.start(TrackGripper, 'track_gripper', TrackGripper.Goal(future_id='f'))
    bench.publish_future('f', now)
    assert running.wait(30.0)
    assert running.result.error_code == Result.NONE


def test_knows_the_last_four_futures(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    for i in range(5):
        bench.publish_future(f'f{i}', now)
        assert bench.track(f'f{i}').error_code == Result.NONE
    assert bench.track('f1').error_code == Result.NONE
    result = bench.track('f0')
    assert result.error_code == Result.UNKNOWN_FUTURE
    assert "'f0'" in result.error_msg
    assert "['f1', 'f2', 'f3', 'f4']" in result.error_msg


def test_says_which_transform_is_missing(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    bench.publish_future('f', now)
    result = bench.track('f')
    assert result.error_code == Result.NO_TRANSFORM
    assert REFERENCE in result.error_msg
    assert bench.tracker.calls == []


def test_does_not_extrapolate_transforms(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.publish_robot(now - 2 * 10**9, 0.06, T_BASE_TCP)
    bench.publish_future('f', now)
    assert bench.track('f').error_code == Result.NO_TRANSFORM


def test_does_not_guess_where_the_robot_was_while_tf_was_silent(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.publish_robot(now - 10**9, 0.06, T_BASE_TCP)
    bench.publish_robot(now + 10**9, 0.06, T_BASE_TCP)
    bench.publish_future('f', now)
    result = bench.track('f')
    assert result.error_code == Result.NO_TRANSFORM
    assert 'was silent at the wanted time; expected at most 0.25 s' in result.error_msg
    assert bench.tracker.calls == []


def test_openings_from_before_the_clock_was_set_back_are_forgotten(bench: Bench) -> None:
    for second, finger in ((30, 0.04), (25, 0.01)):
        message = JointState(name=['panda_finger_joint1', 'panda_finger_joint2'],
                             position=[finger, finger])
        message.header.stamp = conversions.ns_to_stamp(second * 10**9)
        bench.joints.publish(message)
    assert eventually(
        lambda: [o for _, o in bench.node._openings] == pytest.approx([0.02]))


def test_joint_states_without_positions_are_passed_over(bench: Bench, capfd: Any) -> None:
    names = ['panda_finger_joint1', 'panda_finger_joint2']
    for position in ([], [0.01], [0.02], [0.03, 0.03]):
        bench.joints.publish(JointState(name=names, position=position))
    assert eventually(lambda: len(bench.node._openings) == 1)
    log = capfd.readouterr().err
    assert log.count('ignoring a message of /joint_states') == 1
    assert 'expected 2 positions; got 1' in log
    assert 'Traceback' not in log


def test_another_robot_has_other_frames_and_fingers(graph: Graph) -> None:
    """A gripper whose one joint turns and closes as it grows."""
    b = Bench(graph, robot='ur5e_robotiq_2f85', tf_timeout=30.0, future_timeout=30.0)
    now = time.time_ns()
    message = JointState(name=['robotiq_85_left_knuckle_joint'], position=[0.4])
    message.header.stamp = conversions.ns_to_stamp(now)
    b.static.send([('base_link', REFERENCE, T_BASE_REF)], now)
    b.publish_future('a', now)
    b.tf.send([('base_link', 'gripper_tcp', T_BASE_TCP)], now)
    b.joints.publish(message)
    assert eventually(lambda: bool(b.node._openings))
    result = b.track('a')
    assert (result.error_code, result.error_msg) == (0, '')
    assert b.tracker.calls[0][1] == pytest.approx(0.0425)
    assert result.trajectory.header.frame_id == 'base_link'


def test_tracks_without_the_opening_when_fingers_are_silent(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.tf.send([('panda_link0', 'panda_hand_tcp', T_BASE_TCP)], now)
    bench.publish_future('f', now)
    assert bench.track('f').error_code == Result.NONE
    assert bench.tracker.calls[0][1] is None


def test_says_what_the_tracker_said(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    bench.publish_future('f', now)
    bench.tracker.error = TrackingError('gripper not visible in frame 0')
    result = bench.track('f')
    assert result.error_code == Result.TRACKING_FAILED
    assert result.error_msg == 'gripper not visible in frame 0'


def test_an_inactive_tracker_hears_nothing_and_starts_anew(bench: Bench) -> None:
    now = time.time_ns()
    bench.publish_camera(now)
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    bench.publish_future('f', now)
    assert bench.track('f').error_code == Result.NONE
    assert bench.graph.change('tracker', 'deactivate')
    assert eventually(lambda: bench.futures.get_subscription_count() == 0
                      and bench.joints.get_subscription_count() == 0)
    with pytest.raises(ExecutionError, match='rejected the goal'):
        bench.track('f')
    assert bench.graph.change('tracker', 'cleanup')
    assert bench.graph.change('tracker', 'configure')
    assert bench.graph.change('tracker', 'activate')
    assert eventually(lambda: bench.joints.get_subscription_count() == 1)
    bench.publish_robot(now, 0.02, T_BASE_TCP)
    assert bench.track('f').error_code == Result.NONE  # the last future is latched


def test_a_clock_that_jumps_back_leaves_no_pose_and_no_opening(graph: Graph) -> None:
    clock = graph.client.create_publisher(Clock, '/clock', 1)
    bench = Bench(graph, use_sim_time=True)
    assert bench.graph.change('tracker', 'deactivate')
    assert bench.graph.change('tracker', 'activate')
    assert eventually(lambda: bench.joints.get_subscription_count() == 1
                      and clock.get_subscription_count() == 1)

    def at_time(second: int) -> None:
        clock.publish(Clock(clock=conversions.ns_to_stamp(second * 10**9)))
        assert eventually(lambda: bench.node.get_clock().now().nanoseconds == second * 10**9)

    at_time(30)
    bench.publish_camera(0)
    bench.publish_robot(30 * 10**9, 0.06, T_BASE_TCP)
    bench.publish_future('f', 30 * 10**9)
    assert bench.track('f').error_msg == ''
    at_time(10)
    assert eventually(lambda: bench.track('f').error_code == Result.NO_TRANSFORM)
    assert bench.node._opening(10 * 10**9) is None
