# SPDX-License-Identifier: Apache-2.0
"""The recorder node over real DDS; its bags are read by the readers of others."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from builtin_interfaces.msg import Time
from mcap.reader import make_reader
from rclpy.serialization import deserialize_message
from recorder_cell import CAMERAS, Sources
from ros_graph import Graph, eventually, parameters
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from fourdgen_ros import __version__
from fourdgen_ros.cli.__main__ import main as fourdgen
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.recorder import RecorderNode
from fourdgen_ros.srv import DiscardEpisode, LabelEpisode, StartEpisode, StopEpisode

TASK, TEXT = 'PlaceAppleFromBowlIntoBin', 'lege den Apfel in die Tonne – 把苹果放进垃圾桶'
COLOR = '/cam_left/color/image_raw'


class Desk:
    """A recorder, the sources that it records, and an operator."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, self.folder = graph, folder
        self.sources: Sources | None = None
        self.node: Any = None

    def open(self, sources: Sources | None = None, **options: Any) -> RecorderNode:
        if sources is None:
            sources = Sources()
        self.sources = self.graph.add(sources)
        self.node = self.graph.add(RecorderNode(**parameters(**{
            'output_folder': str(self.folder), 'min_free_space': 0.0, 'start_timeout': 20.0,
            **options})))
        return self.node

    def start(self, task: str = TASK, **fields: str) -> StartEpisode.Response:
        return self.graph.call(StartEpisode, '/recorder/start',
                               StartEpisode.Request(task=task, **fields))

    def stop(self, outcome: str = '') -> StopEpisode.Response:
        return self.graph.call(StopEpisode, '/recorder/stop', StopEpisode.Request(outcome=outcome))

    def discard(self, name: str = '') -> DiscardEpisode.Response:
        return self.graph.call(DiscardEpisode, '/recorder/discard',
                               DiscardEpisode.Request(name=name))

    def label(self, **fields: str) -> LabelEpisode.Response:
        return self.graph.call(LabelEpisode, '/recorder/label', LabelEpisode.Request(**fields))

    def recorded(self, topic: str = COLOR) -> int:
        return self.node._episode.recording.counts().recorded[topic]

    def record(self, images: int = 10, **fields: str) -> str:
        """Start, and wait for some images of each camera."""
        response = self.start(**fields)
        assert response.success, response.message
        assert eventually(lambda: all(self.recorded(f'/{c}/color/image_raw') >= images
                                      for c in CAMERAS))
        return response.path

    def drained(self) -> None:
        """The sources have stopped, and the recorder has taken the last that they sent."""
        queue, sent, taken = self.node._episode.recording._queue, self.sources.sent, set()
        put = queue.put

        def watched(channel: int, log_ns: int, publish_ns: int, data: bytes) -> bool:
            taken.add(data)
            return put(channel, log_ns, publish_ns, data)

        queue.put = watched
        begun = {topic: len(data) for topic, data in sent.items() if topic != '/tf_static'}
        assert begun
        assert eventually(lambda: all(len(sent[topic]) > n for topic, n in begun.items()))
        self.sources.stop()
        last = {sent[topic][-1] for topic in begun}
        assert eventually(lambda: last <= taken)


@pytest.fixture
def desk(graph: Graph, tmp_path: Path) -> Desk:
    return Desk(graph, tmp_path / 'episodes')


def messages(folder: Path) -> dict[str, list[tuple[int, int, bytes]]]:
    """(log time, publish time, bytes) by topic, as the package mcap reads them."""
    found: dict[str, list] = {}
    file, = folder.glob('*.mcap')
    with file.open('rb') as stream:
        for _, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            found.setdefault(channel.topic, []).append(
                (message.log_time, message.publish_time, message.data))
    return found


def is_run_of(part: list[bytes], whole: list[bytes]) -> bool:
    """Whether `part` is contiguous in `whole`, whose members differ."""
    if not part or part[0] not in whole:
        return False
    start = whole.index(part[0])
    return whole[start:start + len(part)] == part


def test_the_bag_holds_every_byte_and_stamp_that_was_sent(desk):
    desk.open()
    path = Path(desk.record(text=TEXT))
    assert not path.exists()  # under another name until it is whole
    desk.drained()
    response = desk.stop('success')
    assert response.success, response.message
    assert Path(response.path) == path
    assert sum(response.dropped) == sum(response.lost) == 0
    bag = messages(path)
    for topic, sent in desk.sources.sent.items():
        data = [data for _, _, data in bag[topic]]
        assert is_run_of(data, sent), topic
        assert data[-1] == sent[-1], topic  # nothing is missing at the end either
        assert response.recorded[response.topics.index(topic)] == len(data)
    # Sent once, before anybody recorded.
    assert [data for _, _, data in bag['/tf_static']] == desk.sources.sent['/tf_static']
    for topic, records in bag.items():
        assert [r[0] for r in records] == sorted(r[0] for r in records), topic
        if topic != '/tf_static':
            assert all(0 <= log - published < 10e9 for log, published, _ in records), topic
    labels = [json.loads(deserialize_message(d, String).data)
              for _, _, d in bag['/recorder/episode']]
    assert [label['outcome'] for label in labels] == ['unknown', 'success']
    assert labels[0]['text'] == TEXT


def test_rosbags_reads_it_with_types_qos_and_labels(desk):
    desk.open()
    path = Path(desk.record(text=TEXT))
    desk.drained()
    assert desk.stop('failure').success
    with AnyReader([path]) as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability
                      for c in reader.connections}
        assert durability['/tf_static'] == QosDurability.TRANSIENT_LOCAL
        assert durability[COLOR] == QosDurability.VOLATILE
        assert all(q.reliability == QosReliability.RELIABLE for c in reader.connections
                   for q in c.ext.offered_qos_profiles)
        color = [c for c in reader.connections if c.topic == COLOR]
        stamps = []
        for connection, _, raw in reader.messages(color):
            image = reader.deserialize(raw, connection.msgtype)
            assert (image.height, image.width, image.encoding) == (48, 64, 'rgb8')
            stamps.append((image.header.stamp.sec, image.header.stamp.nanosec))
        sent = [deserialize_message(m, Image).header.stamp for m in desk.sources.sent[COLOR]]
        assert stamps == [(s.sec, s.nanosec) for s in sent][-len(stamps):]
    metadata = yaml.safe_load((path / 'metadata.yaml').read_text('utf-8'))[bag_metadata.ROOT]
    assert metadata['version'] == 9
    assert metadata['storage_identifier'] == 'mcap'
    custom = metadata['custom_data']
    assert (custom['task'], custom['text'], custom['outcome']) == (TASK, TEXT, 'failure')
    assert custom['software'] == f'fourdgen_ros {__version__}'
    hashes = {t['topic_metadata']['name']: t['topic_metadata']['type_description_hash']
              for t in metadata['topics_with_message_count']}
    assert all(hashes[topic].startswith('RIHS01_') for topic in desk.sources.sent)


def test_a_camera_without_publisher_is_named_and_nothing_is_made(desk):
    desk.open(Sources(('cam_left',)), start_timeout=0.5)
    response = desk.start()
    assert not response.success
    assert '/cam_right/color/image_raw (colour of camera cam_right)' in response.message
    assert 'cam_left' not in response.message
    assert not list(desk.folder.rglob('*.mcap'))
    assert not desk.stop().success


def test_a_camera_that_says_nothing_is_named(desk):
    desk.open(Sources(silent=('/cam_left/aligned_depth_to_color/image_raw',)), start_timeout=2.0)
    response = desk.start()
    assert not response.success
    assert 'nothing came' in response.message
    assert '(depth of camera cam_left)' in response.message
    assert '(colour' not in response.message


def test_what_appears_later_is_recorded_too(desk):
    desk.open(optional_topics=['future_text'])
    path = Path(desk.record())
    publisher = desk.graph.client.create_publisher(String, 'future_text', qos.LATCHED)
    publisher.publish(String(data='late'))
    assert eventually(lambda: desk.node._episode.recording.counts().recorded.get(
        '/future_text', 0) == 1)
    assert desk.stop().success
    assert deserialize_message(messages(path)['/future_text'][0][2], String).data == 'late'


class SlowWriter(BagWriter):
    """Writes nothing before it is released."""

    gate = threading.Event()

    def write(self, *message: Any) -> None:
        self.gate.wait(60.0)
        super().write(*message)


def test_what_a_slow_disk_drops_is_counted_and_told(desk, monkeypatch):
    SlowWriter.gate.clear()
    monkeypatch.setattr('fourdgen_ros.nodes.recorder.BagWriter', SlowWriter)
    statuses = desk.graph.listen(*diagnostics())
    desk.open(Sources(height=480), queue_size=1)
    response = desk.start()
    assert response.success, response.message
    counts = desk.node._episode.recording.counts
    assert eventually(lambda: counts().dropped.get(COLOR, 0) > 5)
    assert eventually(lambda: any('dropped, the disk is too slow' in text
                                  for text in texts(statuses, 'recorder: episode')))
    desk.sources.stop()
    SlowWriter.gate.set()
    response = desk.stop()
    assert response.success
    assert f'of {COLOR}' in response.message
    numbers = dict(zip(response.topics, zip(response.recorded, response.dropped, strict=True),
                       strict=True))
    assert numbers[COLOR][1] > 5
    bag = messages(Path(response.path))
    assert len(bag[COLOR]) == numbers[COLOR][0]
    dropped = json.loads(bag_metadata.custom_data(Path(response.path))['dropped'])
    assert dropped[COLOR] == numbers[COLOR][1]


def test_what_waited_too_long_is_counted_as_lost(desk):
    desk.open(input_depth=1)
    path = Path(desk.record())
    sent = desk.sources.sent[COLOR]
    begun = len(sent)
    with desk.node._episode.recording._lock:  # nothing is taken from DDS meanwhile
        assert eventually(lambda: len(sent) > begun + 20)
    assert eventually(lambda: desk.node._episode.recording.counts().lost.get(COLOR, 0) > 5)
    desk.drained()
    response = desk.stop()
    assert f'of {COLOR}' in response.message.split('lost by DDS')[1]
    lost = response.lost[response.topics.index(COLOR)]
    data = [data for _, _, data in messages(path)[COLOR]]
    assert len(data) + lost == len(sent) - sent.index(data[0])


def test_a_second_publisher_is_not_taken_for_losses(desk):
    desk.open()
    path = Path(desk.record())
    publisher = desk.graph.client.create_publisher(TFMessage, '/tf', qos.TF)
    assert eventually(lambda: publisher.get_subscription_count() > 0)
    for _ in range(20):
        begun = len(desk.sources.sent['/tf'])
        publisher.publish(TFMessage())
        assert eventually(lambda begun=begun: len(desk.sources.sent['/tf']) > begun)
    desk.drained()
    response = desk.stop()
    assert sum(response.lost) == 0, response.message
    assert sum(len(data) < 20 for _, _, data in messages(path)['/tf']) == 20


def diagnostics() -> tuple:
    from diagnostic_msgs.msg import DiagnosticArray

    return DiagnosticArray, '/diagnostics'


def texts(arrays: list, name: str) -> list[str]:
    return [s.message for array in list(arrays) for s in array.status if s.name == name]


def test_the_episode_ends_before_the_disk_is_full(desk):
    from rclpy.parameter import Parameter

    desk.open()
    path = Path(desk.record())
    assert all(r.successful for r in desk.node.set_parameters(
        [Parameter('min_free_space', value=1e6)]))
    assert eventually(lambda: desk.node._episode.path is not None)
    assert path.is_dir()
    again = desk.start()
    assert not again.success
    assert 'has not been stopped' in again.message
    response = desk.stop('success')
    assert not response.success
    assert 'min_free_space' in response.message
    assert response.path == str(path)
    assert len(messages(path)[COLOR]) >= 10
    custom = bag_metadata.custom_data(path)
    assert custom['outcome'] == 'success'
    assert 'min_free_space' in custom['ended_by']
    refused = desk.start()
    assert not refused.success
    assert 'GB free' in refused.message


def test_a_disk_that_goes_away_is_told_and_no_folder_made_in_its_place(desk):
    statuses = desk.graph.listen(*diagnostics())
    desk.open()
    desk.record(name='one')
    desk.folder.rename(desk.folder.with_name('gone'))
    assert eventually(lambda: any('No such file' in text
                                  for text in texts(statuses, 'recorder: disk')))
    assert eventually(lambda: any('ended by itself' in text
                                  for text in texts(statuses, 'recorder: episode')))
    assert not desk.stop().success
    refused = desk.start(name='two')
    assert not refused.success
    assert 'cannot record: output_folder' in refused.message
    assert not desk.folder.exists()
    desk.folder.with_name('gone').rename(desk.folder)
    assert desk.start(name='two').success


def test_discarding_deletes_what_was_recorded_and_nothing_else(desk):
    desk.open()
    kept = Path(desk.record(name='kept'))
    assert desk.stop().success
    path = Path(desk.record())
    response = desk.discard()
    assert response.success, response.message
    assert not path.exists()
    assert kept.is_dir()
    assert not desk.stop().success
    (kept / 'notes.txt').write_text('mine')
    refused = desk.discard('kept')
    assert not refused.success
    assert 'notes.txt' in refused.message
    assert len(messages(kept)[COLOR]) >= 10
    (kept / 'notes.txt').unlink()
    assert desk.discard().success  # the last one that was kept
    assert not kept.exists()
    other = desk.folder / 'other'
    BagWriter(other, {}).close()
    assert not desk.discard('other').success
    assert other.is_dir()


def test_labels_can_be_changed_while_recording_and_afterwards(desk):
    desk.open()
    path = Path(desk.record())
    assert desk.label(text='second thoughts', outcome='failure').success
    assert desk.stop().success
    assert bag_metadata.custom_data(path)['outcome'] == 'failure'
    assert desk.label(name=path.name, outcome='success').success
    custom = bag_metadata.custom_data(path)
    assert (custom['task'], custom['text'], custom['outcome']) == (
        TASK, 'second thoughts', 'success')
    wrong = desk.label(outcome='fine')
    assert not wrong.success
    assert 'success, failure, unknown' in wrong.message
    assert not desk.label(name='nobody').success


@pytest.mark.parametrize('name', ['../out', 'a/b', '..', '.hidden', 'a\nb', ' x', 'x' * 201])
def test_names_that_lead_elsewhere_are_refused(desk, name):
    desk.open(Sources(()), cameras=['none'])
    response = desk.start(name=name)
    assert not response.success
    assert 'plain folder name' in response.message
    assert not list(desk.folder.parent.rglob('*.mcap'))


def test_simulated_time_that_nobody_tells_is_refused(desk):
    desk.open(use_sim_time=True, start_timeout=0.5)
    refused = desk.start(name='one')
    assert not refused.success
    assert 'use_sim_time is set and nobody publishes /clock' in refused.message
    assert not list(desk.folder.rglob('*.mcap'))
    clock = desk.graph.client.create_publisher(Clock, '/clock', 10)

    def told() -> bool:
        clock.publish(Clock(clock=Time(sec=7)))
        return desk.node.get_clock().now().nanoseconds == 7 * 10**9

    assert eventually(told)
    path = Path(desk.record())
    assert desk.stop().success
    assert {log for log, _, _ in messages(path)[COLOR]} == {7 * 10**9}


def test_a_folder_that_cannot_be_made_keeps_the_recorder_from_starting(desk):
    desk.folder.write_text('a file')
    with pytest.raises(InputError, match='output_folder'):
        desk.open()


def test_a_taken_name_is_refused_and_a_second_start_too(desk):
    desk.open()
    path = Path(desk.record(name='one'))
    assert 'has not been stopped' in desk.start(name='two').message
    assert desk.stop().success
    before = sorted(p.stat().st_size for p in path.iterdir())
    refused = desk.start(name='one')
    assert not refused.success
    assert 'taken' in refused.message
    assert sorted(p.stat().st_size for p in path.iterdir()) == before


def test_an_unknown_outcome_leaves_the_episode_running(desk):
    desk.open()
    desk.record()
    assert not desk.stop('great').success
    assert desk.stop('success').success


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('what', ['set_custom_data', 'write'])
def test_a_disk_that_fails_at_the_end_costs_one_episode_at_most(desk, monkeypatch, what):
    desk.open()
    path = Path(desk.record(name='one'))
    with monkeypatch.context() as m:
        m.setattr(bag_metadata, what, no_space)
        response = desk.stop()
    assert not response.success
    assert 'No space left' in response.message
    partial = path.parent / '.partial' / 'one'
    assert f'fourdgen recover {partial}' in response.message
    assert fourdgen(['recover', str(partial)]) == 0
    assert len(messages(path)[COLOR]) >= 10
    desk.record(name='two')
    assert desk.stop().success


def test_a_disk_that_fails_while_the_node_ends_lets_it_end(desk, monkeypatch):
    desk.open()
    desk.record(name='one')
    monkeypatch.setattr(bag_metadata, 'set_custom_data', no_space)
    desk.graph.remove(desk.node)
    assert (desk.folder / '.partial' / 'one').is_dir()


def test_an_episode_that_could_not_be_finished_can_be_discarded(desk, monkeypatch):
    desk.open()
    desk.record(name='one')
    with monkeypatch.context() as m:
        m.setattr(bag_metadata, 'set_custom_data', no_space)
        assert desk.discard().success
    assert not list(desk.folder.rglob('*.mcap'))
    assert desk.start(name='one').success


def test_a_start_that_the_disk_refuses_leaves_nothing(desk, monkeypatch):
    desk.open()
    with monkeypatch.context() as m:
        m.setattr(BagWriter, 'add_topic', no_space)
        response = desk.start(name='one')
    assert not response.success
    assert 'No space left' in response.message
    assert not (desk.folder / '.partial' / 'one').exists()
    assert desk.start(name='one').success


def test_an_error_that_nobody_expects_is_answered(desk, monkeypatch):
    desk.open(Sources(()), cameras=['none'])

    def fail(*_: object) -> None:
        raise KeyError('in a test')

    monkeypatch.setattr(desk.node._folders, 'new_name', fail)
    response = desk.start()
    assert not response.success
    assert "KeyError: 'in a test'" in response.message


def test_ending_the_node_keeps_the_episode(desk):
    desk.open()
    path = Path(desk.record())
    desk.graph.remove(desk.node)
    assert len(messages(path)[COLOR]) >= 10
    assert bag_metadata.custom_data(path)['ended_by'] == 'the recorder was ended'
