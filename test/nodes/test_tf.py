# SPDX-License-Identifier: Apache-2.0
"""Transforms over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from ros_graph import eventually, parameters
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from fourdgen_ros.core import se3
from fourdgen_ros.core.transforms import TransformError
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.conversions import ns_to_stamp
from fourdgen_ros.nodes.tf import StaticTransformPublisher, TransformPublisher, Transforms

S = 1_000_000_000


def at(x: float) -> np.ndarray:
    return se3.make(None, np.array([x, 0.0, 0.0]))


def test_moving_and_static_links_are_joined_also_for_late_joiners(graph):
    sender = graph.add(Node('sender'))
    static, moving = StaticTransformPublisher(sender), TransformPublisher(sender)
    static.send([('base', 'camera', at(5.0))], 0)
    static.send([('hand', 'tcp', at(0.5))], 0)
    transforms = Transforms(graph.client)
    assert eventually(lambda: sender.count_subscribers('/tf') == 1)
    moving.send([('base', 'hand', at(1.0))], 10 * S)
    moving.send([('base', 'hand', at(2.0))], 11 * S)
    T = transforms.lookup('camera', 'tcp', 10 * S + S // 2, timeout_s=10.0)
    np.testing.assert_allclose(T, at(1.5 + 0.5 - 5.0), atol=1e-12)
    np.testing.assert_allclose(transforms.lookup('base', 'tcp'), at(2.5), atol=1e-12)


def test_a_new_calibration_replaces_the_old_one(graph):
    static = StaticTransformPublisher(graph.add(Node('sender')))
    transforms = Transforms(graph.client)
    static.send([('base', 'camera', at(1.0)), ('base', 'table', at(3.0))], 0)
    transforms.lookup('base', 'table', timeout_s=10.0)
    static.send([('base', 'camera', at(2.0))], 0)
    assert eventually(lambda: transforms.lookup('base', 'camera')[0, 3] == 2.0, 10.0)
    late = Transforms(graph.add(StageNode('late')))
    assert late.lookup('table', 'camera', timeout_s=10.0)[0, 3] == -1.0


def test_a_clock_that_jumps_back_leaves_no_moving_link(graph):
    clock = graph.client.create_publisher(Clock, '/clock', 1)
    node = graph.add(StageNode('simulated', **parameters(use_sim_time=True)))
    transforms = Transforms(node, cache_s=60.0)
    static, moving = StaticTransformPublisher(graph.client), TransformPublisher(graph.client)
    assert eventually(lambda: graph.client.count_subscribers('/tf') == 1
                      and clock.get_subscription_count() == 1)

    def at_time(second):
        clock.publish(Clock(clock=ns_to_stamp(second * S)))
        assert eventually(lambda: node.get_clock().now().nanoseconds == second * S)

    def known(frame):
        try:
            return transforms.lookup('base', frame) is not None
        except TransformError:
            return False

    at_time(30)
    static.send([('base', 'camera', at(5.0))], 0)
    moving.send([('base', 'hand', at(1.0))], 30 * S)
    assert transforms.lookup('camera', 'hand', timeout_s=10.0)[0, 3] == -4.0
    at_time(31)
    assert transforms.lookup('base', 'hand')[0, 3] == 1.0
    at_time(10)
    assert eventually(lambda: not known('hand'))
    assert transforms.lookup('base', 'camera')[0, 3] == 5.0
    transforms.close()
    moving.send([('base', 'hand', at(2.0))], 10 * S)
    assert transforms.lookup('base', 'hand', timeout_s=10.0)[0, 3] == 2.0
    at_time(9)
    assert transforms.lookup('base', 'hand')[0, 3] == 2.0


def test_a_missing_link_is_named_after_the_timeout(graph):
    with pytest.raises(TransformError, match='static_transform_publisher'):
        Transforms(graph.client).lookup('base', 'camera', timeout_s=0.05)


def test_a_broken_transform_is_ignored_and_the_rest_of_its_message_kept(graph):
    publisher = graph.client.create_publisher(TFMessage, '/tf', qos.TF)
    transforms = Transforms(graph.client)
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    broken, good = TransformStamped(child_frame_id='x'), TransformStamped(child_frame_id='/hand')
    broken.header.frame_id = good.header.frame_id = '/base'
    broken.transform.rotation.w = 0.0
    publisher.publish(TFMessage(transforms=[broken, good]))
    np.testing.assert_array_equal(transforms.lookup('base', 'hand', timeout_s=10.0), np.eye(4))
    with pytest.raises(TransformError, match="'x' is unknown"):
        transforms.lookup('base', 'x')
