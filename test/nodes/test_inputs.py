# SPDX-License-Identifier: Apache-2.0
"""The hidden node that hears sensors, over real DDS."""

from __future__ import annotations

import threading

from rclpy.node import Node
from ros_graph import eventually
from std_msgs.msg import Int32

from fourdgen_ros.nodes.base import StageNode

DEPTH = 10


def input_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == 'inputs']


def test_topics_are_remapped_as_those_of_the_node(graph):
    node = graph.add(StageNode('stage', cli_args=['--ros-args', '-r', '/sensor:=/other',
                                                  '-r', '__ns:=/arm']))
    heard: list[int] = []
    for topic in ('/sensor', 'own'):
        node.inputs.create_subscription(Int32, topic, lambda m: heard.append(m.data), DEPTH)
    sender = graph.add(Node('sender'))
    for topic, value in (('/other', 1), ('/arm/own', 2)):
        publisher = sender.create_publisher(Int32, topic, DEPTH)
        assert eventually(lambda p=publisher: p.get_subscription_count() == 1)
        publisher.publish(Int32(data=value))
    assert eventually(lambda: sorted(heard) == [1, 2])


def test_it_is_not_listed_among_the_nodes_that_users_see(graph):
    graph.client.inputs.create_subscription(Int32, 'numbers', lambda _: None, DEPTH)
    # `ros2 node list` hides names that begin with an underscore
    assert eventually(lambda: '_test_client_inputs' in graph.client.get_node_names())


def test_an_error_in_a_callback_does_not_end_it(graph):
    heard: list[int] = []

    def receive(message: Int32) -> None:
        heard.append(message.data)
        if message.data == 0:
            raise ValueError('in a test')

    graph.client.inputs.create_subscription(Int32, 'numbers', receive, DEPTH)
    publisher = graph.client.create_publisher(Int32, 'numbers', DEPTH)
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    for value in (0, 1):
        publisher.publish(Int32(data=value))
    assert eventually(lambda: heard == [0, 1])


def test_nothing_is_heard_after_a_subscription_is_destroyed(graph):
    heard: list[str] = []
    inputs = graph.client.inputs
    first = inputs.create_subscription(Int32, 'numbers', lambda _: heard.append('first'), DEPTH)
    inputs.create_subscription(Int32, 'numbers', lambda _: heard.append('second'), DEPTH)
    publisher = graph.client.create_publisher(Int32, 'numbers', DEPTH)
    assert eventually(lambda: publisher.get_subscription_count() == 2)
    assert inputs.destroy_subscription(first)
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(Int32(data=1))
    assert eventually(lambda: heard == ['second'])


def test_it_ends_with_its_node(graph):
    before = len(input_threads())
    node = graph.add(StageNode('stage'))
    node.inputs.create_subscription(Int32, 'numbers', lambda _: None, DEPTH)
    assert len(input_threads()) == before + 1
    graph.remove(node)
    assert len(input_threads()) == before
    assert eventually(lambda: '_stage_inputs' not in graph.client.get_node_names())
