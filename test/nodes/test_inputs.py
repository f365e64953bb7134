# SPDX-License-Identifier: Apache-2.0
"""The hidden node that hears sensors, over real DDS."""

from __future__ import annotations

import threading

from rclpy.executors import Executor
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
        node.inputs.subscribe(Int32, topic, lambda m: heard.append(m.data), DEPTH)
    sender = graph.add(Node('sender'))
    for topic, value in (('/other', 1), ('/arm/own', 2)):
        publisher = sender.create_publisher(Int32, topic, DEPTH)
        assert eventually(lambda p=publisher: p.get_subscription_count() == 1)
        publisher.publish(Int32(data=value))
    assert eventually(lambda: sorted(heard) == [1, 2])


def test_a_resolved_name_is_not_remapped_again(graph):
    node = graph.add(StageNode('stage', cli_args=['--ros-args', '-r', '/left:=/right',
                                                  '-r', '/right:=/left']))
    inputs = node.inputs
    assert inputs.subscribe(Int32, '/left', lambda _: None, DEPTH).topic_name == '/right'
    assert inputs.create_subscription(Int32, '/right', lambda _: None, DEPTH).topic_name == '/right'


def test_an_error_of_the_middleware_on_one_topic_leaves_the_others_heard(graph, monkeypatch):
    heard: list[int] = []
    take = Executor._take_subscription

    def fail(executor, subscription):
        if subscription.topic_name == '/broken':
            raise RuntimeError('in a test')
        return take(executor, subscription)

    monkeypatch.setattr(Executor, '_take_subscription', fail)
    publishers = []
    for topic in ('/broken', '/whole'):
        graph.client.inputs.subscribe(Int32, topic, lambda m: heard.append(m.data), DEPTH)
        publishers.append(graph.client.create_publisher(Int32, topic, DEPTH))
    assert eventually(lambda: all(p.get_subscription_count() == 1 for p in publishers))
    publishers[0].publish(Int32(data=0))
    for value in (1, 2):
        publishers[1].publish(Int32(data=value))
        assert eventually(lambda v=value: v in heard)


def test_it_is_not_listed_among_the_nodes_that_users_see(graph):
    graph.client.inputs.subscribe(Int32, 'numbers', lambda _: None, DEPTH)
    # `ros2 node list` hides names that begin with an underscore
    assert eventually(lambda: '_test_client_inputs' in graph.client.get_node_names())


def test_an_error_in_a_callback_does_not_end_it(graph):
    heard: list[int] = []

    def receive(message: Int32) -> None:
        heard.append(message.data)
        if message.data == 0:
            raise ValueError('in a test')

    graph.client.inputs.subscribe(Int32, 'numbers', receive, DEPTH)
    publisher = graph.client.create_publisher(Int32, 'numbers', DEPTH)
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    for value in (0, 1):
        publisher.publish(Int32(data=value))
    assert eventually(lambda: heard == [0, 1])


def test_nothing_is_heard_after_a_subscription_is_destroyed(graph):
    heard: list[str] = []
    inputs = graph.client.inputs
    first = inputs.subscribe(Int32, 'numbers', lambda _: heard.append('first'), DEPTH)
    inputs.subscribe(Int32, 'numbers', lambda _: heard.append('second'), DEPTH)
    publisher = graph.client.create_publisher(Int32, 'numbers', DEPTH)
    assert eventually(lambda: publisher.get_subscription_count() == 2)
    assert inputs.destroy_subscription(first)
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(Int32(data=1))
    assert eventually(lambda: heard == ['second'])


def test_it_ends_with_its_node(graph):
    before = len(input_threads())
    node = graph.add(StageNode('stage'))
    node.inputs.subscribe(Int32, 'numbers', lambda _: None, DEPTH)
    assert len(input_threads()) == before + 1
    graph.remove(node)
    assert len(input_threads()) == before
    assert eventually(lambda: '_stage_inputs' not in graph.client.get_node_names())


def test_may_be_destroyed_twice(graph):
    inputs = graph.add(StageNode('stage')).inputs
    inputs.destroy_node()
    inputs.destroy_node()
