# SPDX-License-Identifier: Apache-2.0
"""The tracker node with its other back ends: lifecycle, a whole goal, failures with reasons."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from isaac_standin import IsaacStandIn
from ros_graph import Graph, eventually, parameters
from sensor_msgs.msg import JointState

from fourdgen_ros.action import TrackGripper
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import MissingDependencyError, TrackingError
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.qos import LATCHED
from fourdgen_ros.nodes.tf import StaticTransformPublisher, TransformPublisher
from fourdgen_ros.nodes.tracker import TrackerNode
from fourdgen_ros.tracker.estimator import gripper_object
from fourdgen_ros.tracker.gripper_model import load_gripper

sys.path.insert(0, str(Path(__file__).parents[1]))
from unit.foundationpose_checkout import make_checkout, set_faults
from unit.tracker_scene import Clip, random_clip

Result = TrackGripper.Result
GRIPPER = load_gripper('panda_hand')
T_BASE_REF = se3.make(se3.exp_so3(np.array([2.0, 0.3, -0.1])), np.array([1.2, 0.5, 0.8]))


@pytest.fixture(scope='module')
def clip() -> Clip:
    return random_clip(GRIPPER, 0, frames=3)


class Bench:
    """A tracker node, the robot of a clip, and its future."""

    def __init__(self, graph: Graph, clip: Clip, **values: Any) -> None:
        self.graph = graph
        self.node = graph.add(TrackerNode(**parameters(**values)))
        self.stamp = time.time_ns()
        futures = graph.client.create_publisher(GeneratedFuture, 'future', LATCHED)
        joints = graph.client.create_publisher(JointState, '/joint_states', 10)
        self.static = StaticTransformPublisher(graph.client)
        self.tf = TransformPublisher(graph.client)
        assert eventually(lambda: futures.get_subscription_count() == 1
                          and joints.get_subscription_count() == 1)
        self.static.send([('panda_link0', clip.future.frame_id, T_BASE_REF)], self.stamp)
        self.tf.send([('panda_link0', 'panda_hand_tcp', T_BASE_REF @ clip.poses[0])], self.stamp)
        opening = float(clip.opening[0])
        joints.publish(JointState(
            header=conversions.header(self.stamp, ''), position=[opening / 2, opening / 2],
            name=['panda_finger_joint1', 'panda_finger_joint2']))
        message = conversions.future_to_msg(clip.future, 'f')
        message.header.stamp = conversions.ns_to_stamp(self.stamp)
        futures.publish(message)

    def track(self) -> Any:
        return self.graph.act(TrackGripper, 'track_gripper', TrackGripper.Goal(future_id='f'))


def errors(trajectory: GripperTrajectory, clip: Clip) -> list[float]:
    return [se3.distance(a, T_BASE_REF @ b)[0]
            for a, b in zip(trajectory.poses, clip.poses, strict=True)]


def process(bench: Bench) -> Any:
    return bench.node._tracker._estimator._process._process


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / 'checkout')


def test_a_goal_with_foundationpose_and_what_happens_when_it_dies(graph, clip, checkout) -> None:
    bench = Bench(graph, clip, backend='foundationpose', foundationpose_path=str(checkout),
                  foundationpose_python=sys.executable, foundationpose_timeout=60.0)
    worker = process(bench)
    result = bench.track()
    assert (result.error_code, result.error_msg) == (Result.NONE, '')
    trajectory = conversions.gripper_trajectory_from_msg(result.trajectory)
    assert trajectory.frame_id == 'panda_link0'
    assert max(errors(trajectory, clip)) < 0.015
    # It dies within a clip: the goal fails with its last words, and so does the next.
    set_faults(checkout, {'track': {'all': 'die'}})
    for _ in range(2):
        result = bench.track()
        assert result.error_code == Result.TRACKING_FAILED
        assert 'exit code 7' in result.error_msg
        assert 'illegal memory access' in result.error_msg
        assert not result.trajectory.poses
    # Configured again, all is well; nothing of the old one is left.
    set_faults(checkout, None)
    for transition in ('deactivate', 'cleanup', 'configure', 'activate'):
        assert graph.change('tracker', transition)
    assert worker.poll() == 7
    worker = process(bench)
    assert worker.poll() is None
    assert graph.change('tracker', 'deactivate')
    assert graph.change('tracker', 'cleanup')
    assert worker.poll() == 0  # it went by itself


def test_a_checkout_that_is_not_there_keeps_the_node_unconfigured(graph, checkout) -> None:
    node = TrackerNode(**parameters(backend='foundationpose', autostart=True,
                                    foundationpose_python=sys.executable))
    with pytest.raises(MissingDependencyError, match='git clone'):
        graph.add(node)
    assert node.state == 'unconfigured'
    assert not graph.change('tracker', 'configure')
    assert 'git clone' in str(node.failure)


def test_a_goal_with_isaac_ros(graph, clip, tmp_path) -> None:
    mesh = tmp_path / 'hand.obj'
    gripper_object(GRIPPER, 0.06).mesh.export(mesh)
    isaac = graph.add(IsaacStandIn(mesh, tmp_path, namespace='/isaac'))
    bench = Bench(graph, clip, backend='isaac_ros', isaac_namespace='/isaac', mesh_opening=0.06,
                  isaac_timeout=60.0, isaac_start_timeout=60.0)
    result = bench.track()
    assert (result.error_code, result.error_msg) == (Result.NONE, '')
    trajectory = conversions.gripper_trajectory_from_msg(result.trajectory)
    assert max(errors(trajectory, clip)) < 0.015
    assert {camera for _, camera in isaac.asked} == {'cam0', 'cam1'}
    assert graph.change('tracker', 'deactivate')
    assert graph.change('tracker', 'cleanup')
    assert eventually(lambda: isaac.count_publishers('/isaac/tracking/image') == 0)


def test_without_isaac_ros_the_error_names_its_topics(graph) -> None:
    node = TrackerNode(**parameters(backend='isaac_ros', isaac_start_timeout=0.1))
    with pytest.raises(TrackingError, match='/tracking/pose_input: nobody listens'):
        graph.add(node)
    assert node.state == 'unconfigured'
    assert eventually(lambda: node.count_publishers('tracking/image') == 0)


@pytest.mark.parametrize(('name', 'value'), [
    ('backend', 'magic'), ('mesh_opening', -0.1), ('least_confidence', 0.0), ('max_speed', 0.0),
    ('track_iterations', 0), ('isaac_reliability', 'maybe')])
def test_values_out_of_range_stop_the_start(ros, name, value) -> None:
    with pytest.raises(Exception, match=name):
        TrackerNode(**parameters(**{name: value}))
