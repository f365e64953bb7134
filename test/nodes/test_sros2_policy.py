# SPDX-License-Identifier: Apache-2.0
"""The policy allows each node what it really has in the graph, and nobody else to move the arm."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from camera_server import Freeze
from rclpy.serialization import serialize_message
from ros_graph import Graph, eventually, parameters
from sros2_policy import load, matches
from std_msgs.msg import String

from fourdgen_ros.cli.processes import claim_domain
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.data.bag_metadata import BagTopic
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.nodes.generator import GeneratorNode
from fourdgen_ros.nodes.player import PlayerNode
from fourdgen_ros.nodes.qos import LATCHED
from fourdgen_ros.nodes.recorder import RecorderNode
from fourdgen_ros.nodes.recorder_definitions import definition
from fourdgen_ros.nodes.recorder_topics import qos_entry
from fourdgen_ros.nodes.task_loop import TaskLoopNode
from fourdgen_ros.nodes.tracker import TrackerNode
from fourdgen_ros.nodes.view import ViewNode
from fourdgen_ros.nodes.visualization import VisualizationNode

POLICY = share_directory() / 'config' / 'sros2' / 'policy.xml'
ROBOTS = sorted((share_directory() / 'config' / 'robots').glob('*.yaml'))
# Who may send a request or message that moves the arm or lets it move.
COMMANDS = {
    'rq/run_task/_action/send_goalRequest': {'operator'},
    'rq/plan_motion/_action/send_goalRequest': {'operator', 'task_loop'},
    'rq/execute_plan/_action/send_goalRequest': {'operator', 'task_loop'},
    'rq/confirm_planRequest': {'operator', 'view'},
    'rq/execution/reset_faultRequest': {'operator'},
    'rq/execution/change_stateRequest': {'operator'},
    'rq/execution/set_parametersRequest': {'operator'},
    'rq/fr3_arm_controller/follow_joint_trajectory/_action/send_goalRequest':
        {'execution', 'robot'},
    'rq/franka_gripper/gripper_action/_action/send_goalRequest': {'execution', 'robot'},
    'rq/execute_trajectory/_action/send_goalRequest': {'execution', 'robot'},
    'rt/fr3_arm_controller/joint_trajectory': {'robot'},
    'rt/heartbeat': {'task_loop'},
    'rt/future': {'generator'},
    'rt/gripper_trajectory': {'tracker'},
    'rt/plan': {'execution'},
    'rt/fault': {'execution'},
    'rt/joint_states': {'robot', 'cell', 'player'},
    'rt/tf_static': {'robot', 'cell', 'cameras', 'player'},
}


@pytest.fixture(scope='module')
def reservations() -> Iterator[ExitStack]:
    """Held until the last test: a domain that is given back is the next that is claimed."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def own_graph(monkeypatch: pytest.MonkeyPatch, reservations: ExitStack) -> Iterator[Graph]:
    """In a domain of its own: nodes of the same name from the last test linger in the graph."""
    domain, reserved = claim_domain()
    reservations.enter_context(reserved)
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    graph = Graph()
    yield graph
    graph.close()


def graph_of(graph: Graph, name: str) -> tuple[list[str], list[str]]:
    """DDS topics that a node and its inputs publish and subscribe to."""
    ask = graph.client
    known = {n for n, _ in ask.get_node_names_and_namespaces()}
    return tuple([topic for part in (name, f'_{name}_inputs') if part in known
                  for topic, _ in call(part, '/', no_demangle=True)] for call in (
        ask.get_publisher_names_and_types_by_node, ask.get_subscriber_names_and_types_by_node))


@pytest.mark.parametrize(('name', 'make', 'topic'), [
    ('generator', lambda: GeneratorNode(Freeze(), **parameters(cameras=['a', 'b', 'c'])),
     'rt/a/color/image_raw'),
    ('generator', lambda: GeneratorNode(Freeze(), **parameters(
        color_transport='compressed', depth_transport='compressedDepth')),
     'rt/cam_right/aligned_depth_to_color/image_raw/compressedDepth'),
    ('tracker', lambda: TrackerNode(object()), 'rt/future'),
    ('visualization', VisualizationNode, 'rt/plan'),
    ('view', lambda: ViewNode(**parameters(port=0)), 'rr/confirm_planReply'),
    ('recorder', RecorderNode, 'rq/recorder/startRequest'),
    ('execution', lambda: ExecutionNode(object()), 'rt/heartbeat'),
    ('execution', lambda: ExecutionNode(object(), **parameters(
        robot='xarm7', execute_action='execute_trajectory',
        deviation_distance=0.0, deviation_angle=0.0)),  # else it wants a URDF
     'rt/heartbeat'),
    ('task_loop', lambda: TaskLoopNode(**parameters(success_service='cell/check_success')),
     'rq/run_task/_action/send_goalRequest')])
def test_a_node_may_have_what_it_has(own_graph: Graph, name: str, make: Any, topic: str) -> None:
    graph = own_graph
    graph.add(make())
    assert eventually(lambda: topic in graph_of(graph, name)[1])
    publishes, subscribes = graph_of(graph, name)
    assert len(publishes) > 10
    assert load(POLICY)[f'/fourdgen/{name}'].denied(publishes, subscribes) == []


def test_the_player_may_have_what_is_in_a_bag(
        own_graph: Graph, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / 'bag', {})
    for topic, kind in (('/cam/color/image_raw', 'sensor_msgs/msg/Image'),
                        ('/cam/color/image_raw/compressed', 'sensor_msgs/msg/CompressedImage'),
                        ('/cam/aligned_depth_to_color/image_raw', 'sensor_msgs/msg/Image'),
                        ('/cam/color/camera_info', 'sensor_msgs/msg/CameraInfo'),
                        ('/joint_states', 'sensor_msgs/msg/JointState'),
                        ('/tf', 'tf2_msgs/msg/TFMessage'),
                        ('/tf_static', 'tf2_msgs/msg/TFMessage'),
                        ('/recorder/episode', 'std_msgs/msg/String')):
        channel = writer.add_topic(BagTopic(
            topic, kind, definition(kind), '', (qos_entry(LATCHED),)))
    writer.write(channel, 1, 1, serialize_message(String()))
    writer.close()
    own_graph.add(PlayerNode(**parameters(bag=str(tmp_path / 'bag'))))
    assert eventually(lambda: 'rt/tf_static' in graph_of(own_graph, 'player')[0])
    assert load(POLICY)['/fourdgen/player'].denied(*graph_of(own_graph, 'player')) == []


@pytest.mark.parametrize('topic', COMMANDS)
def test_only_these_may_command(topic: str) -> None:
    allowed = {path.split('/')[-1] for path, enclave in load(POLICY).items()
               if matches(enclave.publish, topic)}
    assert allowed == COMMANDS[topic]


def test_everybody_with_a_key_may_stop() -> None:
    for path, enclave in load(POLICY).items():
        assert 'rq/execution/stopRequest' in enclave.publish, path
        assert 'rr/execution/stopReply' in enclave.subscribe, path


@pytest.mark.parametrize('file', ROBOTS, ids=lambda f: f.stem)
def test_the_controllers_of_every_robot_file_can_be_reached(file: Path) -> None:
    from fourdgen_ros.motion.robot import RobotConfig

    enclaves = load(POLICY)
    controllers = RobotConfig.from_yaml(file).controllers
    for action in (controllers.arm_action, controllers.gripper_action):
        for request in ('send_goal', 'cancel_goal', 'get_result'):
            topic = f'rq/{action}/_action/{request}Request'
            assert matches(enclaves['/fourdgen/execution'].publish, topic), topic
            assert matches(enclaves['/fourdgen/robot'].subscribe, topic), topic


def test_launch_files_name_enclaves_of_the_policy() -> None:
    enclaves = load(POLICY)
    for name in ('generator', 'tracker', 'execution', 'task_loop', 'visualization', 'cell',
                 'cameras', 'recorder', 'player'):
        assert f'/fourdgen/{name}' in enclaves


def test_sros2_takes_the_policy_and_allows_the_same() -> None:
    """Upstream's schema and translation, where sros2 is installed."""
    pytest.importorskip('sros2')
    etree = pytest.importorskip('lxml.etree')
    from sros2.policy import get_transport_schema, get_transport_template, load_policy

    policy = load_policy(POLICY)  # raises where the schema is not kept to
    to_permissions = etree.XSLT(etree.parse(str(get_transport_template('dds', 'permissions.xsl'))))
    permissions = to_permissions(policy)
    etree.XMLSchema(etree.parse(str(get_transport_schema('dds', 'permissions.xsd')))).assertValid(
        permissions)
    root = ET.fromstring(etree.tostring(permissions))
    for path, enclave in load(POLICY).items():
        grant = next(g for g in root.iter('grant') if g.attrib['name'] == path)
        assert grant.find('default').text == 'DENY'
        for verb in ('publish', 'subscribe'):
            found = {topic.text for rule in grant.iter(verb) for topic in rule.iter('topic')}
            assert found == getattr(enclave, verb), path
