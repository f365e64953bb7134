# SPDX-License-Identifier: Apache-2.0
"""Every parameter of every node is described, bounded, and in the node's commented YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from ros_graph import Graph, parameters

from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.data.bag_metadata import BagTopic
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.nodes.cell import CellNode
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.nodes.generator import GeneratorNode
from fourdgen_ros.nodes.player import PlayerNode
from fourdgen_ros.nodes.recorder import RecorderNode
from fourdgen_ros.nodes.task_loop import TaskLoopNode
from fourdgen_ros.nodes.tracker import TrackerNode
from fourdgen_ros.nodes.view import ViewNode
from fourdgen_ros.nodes.visualization import VisualizationNode

OF_RCLPY = {'use_sim_time', 'start_type_description_service'}
NUMBERS = (ParameterType.PARAMETER_INTEGER, ParameterType.PARAMETER_DOUBLE)
NODES = (GeneratorNode, TrackerNode, ExecutionNode, TaskLoopNode, CellNode, RecorderNode,
         PlayerNode, VisualizationNode, ViewNode)


@pytest.fixture(params=NODES, ids=lambda kind: kind.__name__)
def node(request: pytest.FixtureRequest, graph: Graph, tmp_path: Path) -> Node:
    options = {}
    if request.param in (GeneratorNode, TrackerNode, ExecutionNode):
        options = {'autostart': False}
    elif request.param is PlayerNode:
        writer = BagWriter(tmp_path / 'bag', {})
        channel = writer.add_topic(BagTopic('/a', 'std_msgs/msg/String', 'string data\n'))
        writer.write(channel, 1, 1, b'\x00\x01\x00\x00\x01\x00\x00\x00\x00')
        writer.close()
        options = {'bag': str(tmp_path / 'bag')}
    elif request.param is ViewNode:
        pytest.importorskip('viser')
    return graph.add(request.param(**parameters(**options)))


def test_described_bounded_and_in_the_file(node: Node) -> None:
    names = {name for name in node._parameters if name not in OF_RCLPY
             and not name.startswith('qos_overrides')}
    file = share_directory() / 'config' / f'{node.get_name()}.yaml'
    content = yaml.safe_load(file.read_text(encoding='utf-8'))
    assert names == set(content[f'/**/{node.get_name()}']['ros__parameters'])
    for name in names:
        descriptor = node.describe_parameter(name)
        assert len(descriptor.description) > 5, name
        if descriptor.type in NUMBERS:
            assert descriptor.floating_point_range or descriptor.integer_range, name


def test_the_file_has_values_of_the_right_type(node: Node) -> None:
    file = share_directory() / 'config' / f'{node.get_name()}.yaml'
    values = yaml.safe_load(file.read_text(encoding='utf-8'))[f'/**/{node.get_name()}'][
        'ros__parameters']
    for name, value in values.items():
        declared = node.get_parameter(name).value
        assert type(declared) is type(value), f'{name} is {declared!r}, the file has {value!r}'
