# SPDX-License-Identifier: Apache-2.0
"""The player over real DDS: what was recorded arrives again, also in nodes that act on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from camera_server import CAMERAS, Cameras, Freeze
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from ros_graph import Graph, eventually, parameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from fourdgen_ros.action import GenerateFuture
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.health import Level
from fourdgen_ros.data.bag_metadata import BagTopic
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.conversions import stamp_to_ns
from fourdgen_ros.nodes.generator import GeneratorNode
from fourdgen_ros.nodes.player import PlayerNode
from fourdgen_ros.nodes.recorder import RecorderNode
from fourdgen_ros.nodes.recorder_definitions import definition
from fourdgen_ros.nodes.recorder_topics import qos_entry
from fourdgen_ros.srv import StartEpisode, StopEpisode

START = 1_700_000_000 * 10**9
DEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def write(folder: Path, images: int = 20, period_ns: int = 10**7, *,
          compression: str = 'none') -> list[bytes]:
    """A bag of images, ten a chunk, a latched transform, a plan and a type that is not installed.
    """
    writer = BagWriter(folder, {}, compression=compression)
    channels = [writer.add_topic(BagTopic(name, kind, definition(kind), '', (qos_entry(profile),)))
                for name, kind, profile in (
                    ('/cam/color/image_raw', 'sensor_msgs/msg/Image', DEEP),
                    ('/tf_static', 'tf2_msgs/msg/TFMessage', qos.TF_STATIC),
                    ('/plan', 'std_msgs/msg/String', qos.LATCHED))]
    strange = writer.add_topic(BagTopic('/strange', 'nobody_msgs/msg/Thing', 'int32 x\n', '',
                                        (qos_entry(DEEP),)))
    transform = TransformStamped(child_frame_id='cam')
    writer.write(channels[1], START, START,
                 serialize_message(TFMessage(transforms=[transform])))
    writer.write(channels[2], START, START, serialize_message(String(data='old')))
    writer.write(strange, START, START, b'\x00\x01\x00\x00\x01\x00\x00\x00')
    sent = []
    for i in range(images):
        image = Image(height=2, width=2, step=6, encoding='rgb8')
        image.header.stamp.sec = 1_700_000_000 + i
        image.data = bytes([i]) * 12
        sent.append(serialize_message(image))
        writer.write(channels[0], START + i * period_ns, START, sent[-1])
        if i % 10 == 9:
            writer.flush()
    writer.close()
    return sent


def play(graph: Graph, bag: Path, **options: Any) -> PlayerNode:
    return graph.add(PlayerNode(**parameters(**{
        'bag': str(bag), 'wait_for_subscribers': 30.0, **options})))


def receive(graph: Graph, topic: str, profile: Any = DEEP, kind: type = Image) -> list[bytes]:
    found: list[bytes] = []
    graph.client.create_subscription(kind, topic, found.append, profile, raw=True,
                                     callback_group=graph.client.group)
    return found


def test_bytes_order_and_quality_of_service_are_those_recorded(graph, tmp_path):
    sent = write(tmp_path / 'bag')
    found = receive(graph, '/cam/color/image_raw')
    plans = receive(graph, '/plan', qos.LATCHED, String)
    player = play(graph, tmp_path / 'bag')
    assert player.ended.wait(30.0)
    assert eventually(lambda: len(found) == len(sent))
    assert sorted(found) == sorted(sent)
    assert player.played == len(sent) + 1  # the plan and the unknown type are left out
    assert not plans
    late = receive(graph, '/tf_static', qos.TF_STATIC, TFMessage)
    assert eventually(lambda: len(late) == 1)


def test_the_clock_is_the_time_of_the_bag_at_its_rate(graph, tmp_path):
    write(tmp_path / 'bag', images=40, period_ns=10**8)  # 4 s
    clocks = graph.listen(Clock, '/clock')
    found = receive(graph, '/cam/color/image_raw')
    player = play(graph, tmp_path / 'bag', rate=10.0)
    assert player.ended.wait(30.0)
    assert eventually(lambda: len(found) == 40)
    times = [stamp_to_ns(c.clock) for c in list(clocks)]
    assert times == sorted(times)
    assert eventually(lambda: stamp_to_ns(clocks[-1].clock) > START + 3.9e9)
    assert min(times) >= START


def test_it_waits_for_those_who_look_at_the_images(graph, tmp_path):
    sent = write(tmp_path / 'bag')
    player = play(graph, tmp_path / 'bag')
    assert not player.ended.wait(0.5)
    assert player.played == 0
    found = receive(graph, '/cam/color/image_raw')
    assert eventually(lambda: len(found) == len(sent))


@pytest.mark.parametrize(('bag', 'text'), [('', 'parameter bag'), ('nowhere', 'rosbag2 folder'),
                                           ('empty', 'expected messages')])
def test_what_is_no_bag_is_refused(graph, tmp_path, bag, text):
    BagWriter(tmp_path / 'empty', {}).close()
    with pytest.raises(InputError, match=text):
        PlayerNode(**parameters(bag=str(tmp_path / bag) if bag else ''))


def test_a_bag_that_is_damaged_is_an_error_and_not_silence(graph, tmp_path):
    write(tmp_path / 'bag', compression='zstd')
    file, = (tmp_path / 'bag').glob('*.mcap')
    content = bytearray(file.read_bytes())
    begins = content.rindex(b'\x28\xb5\x2f\xfd')  # the second chunk, as zstd marks it
    content[begins + 8:begins + 16] = bytes(8)
    file.write_bytes(content)
    statuses = graph.listen(DiagnosticArray, '/diagnostics')
    player = play(graph, tmp_path / 'bag', wait_for_subscribers=0.0)
    assert eventually(lambda: any(
        s.name == 'player: player' and s.level == bytes([Level.ERROR])
        and f'fourdgen recover {tmp_path / "bag"}' in s.message
        for m in list(statuses) for s in m.status))
    assert 10 <= player.played < 20
    assert not player.ended.is_set()


def test_the_generator_imagines_from_a_recorded_episode(graph, tmp_path):
    """Cameras -> recorder -> bag -> player -> generator, in the time of the bag."""
    cameras = graph.add(Cameras(reliability=ReliabilityPolicy.RELIABLE))
    recorder = graph.add(RecorderNode(**parameters(
        output_folder=str(tmp_path), min_free_space=0.0, start_timeout=20.0,
        topics=['cam_left/color/camera_info'])))
    response = graph.call(StartEpisode, '/recorder/start', StartEpisode.Request(name='one'))
    assert response.success, response.message
    counts = recorder._episode.recording.counts
    assert eventually(lambda: counts().recorded.get('/cam_left/color/image_raw', 0) > 60)
    assert graph.call(StopEpisode, '/recorder/stop').success
    graph.remove(cameras)
    freeze = Freeze()
    graph.add(GeneratorNode(generator=freeze, **parameters(
        use_sim_time=True, input_reliability='reliable', observation_timeout=20.0)))
    play(graph, tmp_path / 'one')
    result = graph.act(GenerateFuture, 'generate_future', GenerateFuture.Goal(task='x'))
    assert result.error_code == GenerateFuture.Result.NONE, result.error_msg
    assert [view.camera for view in freeze.observations[0].views] == list(CAMERAS)
