# SPDX-License-Identifier: Apache-2.0
"""The recorder with `ros2 bag record`, whose place a stand-in takes (stand_in/ros2)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from recorder_cell import Sources
from ros_graph import Graph, eventually, parameters
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

from fourdgen_ros.data import bag_metadata
from fourdgen_ros.nodes import recorder_ros2bag
from fourdgen_ros.nodes.recorder import RecorderNode
from fourdgen_ros.srv import DiscardEpisode, StartEpisode, StopEpisode

COLOR = '/cam_left/color/image_raw'


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in comes first in PATH; it writes its arguments here."""
    file = tmp_path / 'arguments.json'
    monkeypatch.setenv('STAND_IN_ARGUMENTS', str(file))
    stand_in = Path(__file__).parent / 'stand_in'
    python = Path(sys.executable).parent  # for `env python3`
    monkeypatch.setenv('PATH', os.pathsep.join([str(stand_in), str(python), os.environ['PATH']]))
    return file


def recorder(graph: Graph, folder: Path, **options: Any) -> RecorderNode:
    return graph.add(RecorderNode(**parameters(**{
        'backend': 'ros2bag', 'output_folder': str(folder), 'min_free_space': 0.0,
        'start_timeout': 10.0, **options})))


def start(graph: Graph, **fields: str) -> StartEpisode.Response:
    return graph.call(StartEpisode, '/recorder/start', StartEpisode.Request(**fields), 60.0)


def test_it_is_started_stopped_and_its_bag_is_labelled(graph, arguments, tmp_path):
    sources = graph.add(Sources())
    recorder(graph, tmp_path, compression='zstd')
    response = start(graph, task='x', text='Öl = gut', name='one')
    assert response.success, response.message
    begun = len(sources.sent[COLOR])
    assert eventually(lambda: len(sources.sent[COLOR]) > begun + 15)
    response = graph.call(StopEpisode, '/recorder/stop', StopEpisode.Request(outcome='success'),
                          60.0)
    assert response.success, response.message
    given = json.loads(arguments.read_text('utf-8'))
    assert given[:2] == ['bag', 'record']
    assert given[given.index('--output') + 1] == str(tmp_path / '.partial' / 'one')
    assert given[given.index('--storage') + 1] == 'mcap'
    assert given[given.index('--storage-preset-profile') + 1] == 'zstd_fast'
    topics = given[given.index('--topics') + 1:]
    assert {COLOR, '/tf_static', '/joint_states', '/recorder/episode'} <= set(topics)
    custom = bag_metadata.custom_data(tmp_path / 'one')
    assert (custom['task'], custom['text'], custom['outcome']) == ('x', 'Öl = gut', 'success')
    assert (custom['recorder'], custom['backend']) == ('fourdgen_ros', 'ros2bag')
    with AnyReader([tmp_path / 'one']) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        labels = [reader.deserialize(raw, c.msgtype).data for c, _, raw in reader.messages(
            [c for c in reader.connections if c.topic == '/recorder/episode'])]
    assert counts[COLOR] > 5
    assert counts['/tf_static'] == len(sources.sent['/tf_static'])
    assert response.recorded[response.topics.index(COLOR)] == counts[COLOR]
    assert json.loads(labels[0])['text'] == 'Öl = gut'
    assert not (tmp_path / '.partial').exists()


def test_a_discarded_episode_leaves_nothing(graph, arguments, tmp_path):
    graph.add(Sources())
    recorder(graph, tmp_path / 'episodes')
    assert start(graph, name='one').success
    response = graph.call(DiscardEpisode, '/recorder/discard', timeout=60.0)
    assert response.success, response.message
    assert not list((tmp_path / 'episodes').iterdir())


def test_what_it_says_when_it_fails_is_told_and_nothing_stays(graph, arguments, tmp_path,
                                                             monkeypatch):
    monkeypatch.setenv('STAND_IN_FAILS', '1')
    graph.add(Sources())
    recorder(graph, tmp_path / 'episodes')
    response = start(graph, name='one')
    assert not response.success
    assert 'no storage plugin mcap' in response.message
    assert not list((tmp_path / 'episodes').rglob('*one*'))


def test_it_ends_by_itself_and_that_is_told(graph, arguments, tmp_path):
    graph.add(Sources())
    node = recorder(graph, tmp_path)
    assert start(graph, name='one').success
    node._episode.recording._process.kill()
    assert eventually(lambda: node._episode.path is not None)
    response = graph.call(StopEpisode, '/recorder/stop', timeout=60.0)
    assert not response.success
    assert 'ended with exit code -9' in response.message


def test_one_that_a_killed_recorder_left_is_named(graph, arguments, tmp_path, monkeypatch):
    """It would be taken for the new one, and goes on writing."""
    monkeypatch.setattr(recorder_ros2bag, 'START_TIMEOUT', 3.0)
    graph.add(Sources())
    left = graph.add(Node(recorder_ros2bag.NODE))
    left.create_subscription(Image, COLOR, lambda message: None, qos_profile_sensor_data)
    node = recorder(graph, tmp_path / 'episodes')
    assert eventually(lambda: any(info.node_name == recorder_ros2bag.NODE for info in
                                  node.get_subscriptions_info_by_topic(COLOR)))
    response = start(graph, name='one')
    assert not response.success
    assert f'pkill -INT -f {recorder_ros2bag.NODE}' in response.message
    assert not arguments.exists() and not list((tmp_path / 'episodes').rglob('*one*'))


def test_without_ros2_the_start_says_what_to_install(graph, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    graph.add(Sources())
    recorder(graph, tmp_path / 'episodes')
    response = start(graph)
    assert not response.success
    assert 'source /opt/ros/jazzy/setup.bash' in response.message


def test_a_missing_camera_is_named(graph, arguments, tmp_path):
    graph.add(Sources(('cam_left',)))
    recorder(graph, tmp_path / 'episodes', start_timeout=0.5)
    response = start(graph)
    assert not response.success
    assert '(depth of camera cam_right)' in response.message
    assert not arguments.exists()
