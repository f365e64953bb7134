# SPDX-License-Identifier: Apache-2.0
"""What running nodes tell of themselves, as Markdown."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rclpy
from rclpy.action import (
    get_action_client_names_and_types_by_node,
    get_action_server_names_and_types_by_node,
)
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from fourdgen_ros.cli.processes import claim_domain
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.data.bag_metadata import BagTopic
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.inputs import spin

# What every node of ROS 2 has.
_COMMON_TOPICS = {'/rosout', '/parameter_events', '/diagnostics'}
_COMMON_SERVICES = ('rcl_interfaces/', 'type_description_interfaces/', 'lifecycle_msgs/')
_OF_RCLPY = ('use_sim_time', 'start_type_description_service', 'qos_overrides')
_DISCOVERY = 30.0  # s
_BAG = 'example_bag'


@contextlib.contextmanager
def _ros(*args: str) -> Iterator[None]:
    """A domain of its own, and a bag for the node that plays one."""
    domain, reserved = claim_domain()
    with reserved, tempfile.TemporaryDirectory() as folder:
        writer = BagWriter(Path(folder, _BAG), {})
        channel = writer.add_topic(BagTopic('/TOPICS_OF_THE_BAG', 'std_msgs/msg/String',
                                            'string data', '', ()))
        writer.write(channel, 0, 0, serialize_message(String()))
        writer.close()
        rclpy.init(args=['--ros-args', *args, '-p', f'player:bag:={folder}/{_BAG}'],
                   domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        try:
            yield
        finally:
            rclpy.try_shutdown()


def parameters(kind: type[StageNode]) -> str:
    """A table of the parameters that a node declares, with their defaults."""
    with _ros():
        node = kind()
        rows = [_parameter(node, name) for name in sorted(node._parameters)
                if not name.startswith(_OF_RCLPY)]
        node.close()
        node.destroy_node()
    return _table(['parameter', 'default', 'range', 'set', 'what it is'], rows)


def _parameter(node: StageNode, name: str) -> list[str]:
    described = node.describe_parameter(name)
    value = node.get_parameter(name).value
    if str(value).endswith(_BAG):
        value = ''
    ranges = [*described.floating_point_range, *described.integer_range]
    limits = f'{ranges[0].from_value:.10g} to {ranges[0].to_value:.10g}' if ranges else (
        described.additional_constraints)
    when = 'any time' if name not in node._fixed else (
        'before configuring' if node.reconfigurable else 'at the start')
    return [f'`{name}`', f'`{_shown(value)}`', limits, when, described.description]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f'[{", ".join(map(_shown, value))}]'
    return f'"{value}"' if isinstance(value, str) else f'{value}'


def endpoints(classes: Mapping[str, type[StageNode]]) -> dict[str, str]:
    """Tables of topics, services and actions by node, of nodes that are active together."""
    config = share_directory() / 'config'
    files = [config / f'{name}.yaml' for name in classes] + [config / 'sim.yaml']
    arguments = [part for file in files if file.is_file() for part in ('--params-file', str(file))]
    with _ros(*arguments):
        nodes: dict[str, StageNode] = {}
        executor = MultiThreadedExecutor(num_threads=20)
        observer = rclpy.create_node('reference')
        executor.add_node(observer)
        thread: threading.Thread | None = None
        try:
            for name, kind in classes.items():
                # the oracle needs no weights, and offers what every generator does
                chosen = [Parameter('generator', value='oracle')] if name == 'generator' else []
                nodes[name] = kind(parameter_overrides=chosen)
                executor.add_node(nodes[name])
                if thread is None:
                    thread = threading.Thread(
                        target=spin, args=(executor.spin, nodes[name], nodes[name].closing))
                    thread.start()
            for node in nodes.values():
                node.start()
            return {name: _offered(observer, node) for name, node in nodes.items()}
        finally:
            for node in reversed(list(nodes.values())):
                node.close()
            executor.shutdown(timeout_sec=5.0)
            if thread is not None:
                thread.join(timeout=5.0)
            for node in [*nodes.values(), observer]:
                node.destroy_node()


def _offered(observer: Node, node: StageNode) -> str:
    name, namespace = node.get_name(), node.get_namespace()
    _wait_until_known(observer, node)
    rows: list[list[str]] = []
    for what, found in (
            ('publishes', observer.get_publisher_names_and_types_by_node(name, namespace)),
            ('subscribes to', [
                found for subscriber in _subscribers(node)
                for found in observer.get_subscriber_names_and_types_by_node(
                    subscriber, namespace)])):
        rows += [[what, f'`{topic}`', f'`{types[0]}`', _qos(observer, topic, node, what)]
                 for topic, types in sorted(found)
                 if topic not in _COMMON_TOPICS and '/_' not in topic]
    for what, found in (
            ('serves', observer.get_service_names_and_types_by_node(name, namespace)),
            ('calls', observer.get_client_names_and_types_by_node(name, namespace))):
        rows += [[what, f'`{_relative(service, name)}`', f'`{types[0]}`', 'service']
                 for service, types in sorted(found)
                 if '/_' not in service and not types[0].startswith(_COMMON_SERVICES)]
    for what, ask in (('serves', get_action_server_names_and_types_by_node),
                      ('calls', get_action_client_names_and_types_by_node)):
        rows += [[what, f'`{action}`', f'`{types[0]}`', 'action']
                 for action, types in sorted(ask(observer, name, namespace))]
    return _table(['', 'name', 'type', 'quality of service'], rows)


def _subscribers(node: StageNode) -> tuple[str, str]:
    """Names in the graph of the node and of the hidden one that hears sensors for it."""
    return node.get_name(), node.inputs.get_name()


def _wait_until_known(observer: Node, node: StageNode) -> None:
    """Until the graph that the observer sees has what the node itself has."""
    wanted = {publisher.topic_name for publisher in node.publishers}
    wanted_inputs = {subscription.topic_name for subscription in node.inputs.subscriptions}
    end = time.monotonic() + _DISCOVERY
    while time.monotonic() < end:
        with contextlib.suppress(RuntimeError):  # no such node yet
            seen = observer.get_publisher_names_and_types_by_node(
                node.get_name(), node.get_namespace())
            inputs = observer.get_subscriber_names_and_types_by_node(
                node.inputs.get_name(), node.get_namespace())
            if (wanted <= {topic for topic, _ in seen}
                    and wanted_inputs <= {topic for topic, _ in inputs}):
                return
        time.sleep(0.05)
    raise RuntimeError(f'node {node.get_name()}: not seen in the graph after {_DISCOVERY:g} s')


def _qos(observer: Node, topic: str, node: StageNode, what: str) -> str:
    ask = (observer.get_publishers_info_by_topic if what == 'publishes'
           else observer.get_subscriptions_info_by_topic)
    profile = next(info.qos_profile for info in ask(topic) if info.node_name in _subscribers(node))
    words = [profile.reliability.name, profile.durability.name]
    return ', '.join(word.lower().replace('_', ' ') for word in words)


def _relative(service: str, node: str) -> str:
    """A private name as ROS 2 writes it."""
    return service.replace(f'/{node}/', '~/', 1) if service.startswith(f'/{node}/') else service


def _table(header: list[str], rows: list[list[str]]) -> str:
    cells = [header, ['---'] * len(header), *[[_escaped(cell) for cell in row] for row in rows]]
    return ''.join(f'| {" | ".join(row)} |\n' for row in cells)


def _escaped(cell: str) -> str:
    """Text that Markdown shows as it is; code stays code."""
    special = '|' if cell.startswith('`') else '\\`*_[]<|'
    return ''.join(f'\\{c}' if c in special else c for c in cell.replace('\n', ' '))
