# SPDX-License-Identifier: Apache-2.0
"""Bags that we write: every byte and stamp comes back, also from a file that was cut anywhere."""

from __future__ import annotations

import errno
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from fourdgen_ros.cli.__main__ import main as fourdgen
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_metadata import BagTopic
from fourdgen_ros.data.bag_recovery import recover
from fourdgen_ros.data.bag_writer import COMPRESSIONS, BagWriter

INFINITE = {'sec': 9223372036, 'nsec': 854775807}
QOS = {'history': 'unknown', 'depth': 0, 'reliability': 'reliable', 'durability': 'transient_local',
       'deadline': INFINITE, 'lifespan': INFINITE, 'liveliness': 'automatic',
       'liveliness_lease_duration': INFINITE, 'avoid_ros_namespace_conventions': False}
HASH = 'RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18'
TOPICS = [BagTopic('/a', 'std_msgs/msg/String', 'string data\n', HASH, (QOS,)),
          BagTopic('/b', 'std_msgs/msg/String', 'string data\n', '', (QOS, QOS))]
# Syncing to a real disk, as every `close` does, takes its time.
MEMORY = '/dev/shm' if Path('/dev/shm').is_dir() else None
MESSAGES = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2**62), st.integers(0, 2**62),
                              st.binary(max_size=200)), max_size=30)


def write(folder: Path, messages: list, compression: str = 'none', flush_every: int = 7) -> None:
    writer = BagWriter(folder, {'task': 'Öl'}, compression=compression)
    channels = [writer.add_topic(topic) for topic in TOPICS]
    for i, (topic, log_ns, publish_ns, data) in enumerate(messages):
        writer.write(channels[topic], log_ns, publish_ns, data)
        if i % flush_every == 0:
            writer.flush()
    writer.close()


def read(folder: Path) -> list[tuple[int, int, int, bytes]]:
    """(topic, log time, publish time, data) in the order of the file."""
    file, = folder.glob('*.mcap')
    with file.open('rb') as stream:
        reader = make_reader(stream, validate_crcs=True)
        return [(('/a', '/b').index(c.topic), m.log_time, m.publish_time, m.data)
                for _, c, m in reader.iter_messages(log_time_order=False)]


@settings(deadline=None, max_examples=30)
@given(messages=MESSAGES, compression=st.sampled_from(COMPRESSIONS))
def test_everything_comes_back(messages: list, compression: str) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name, 'bag')
        write(folder, messages, compression)
        assert read(folder) == messages
        metadata = bag_metadata.read(folder)
        assert metadata['message_count'] == len(messages)
        if messages:
            first, last = min(m[1] for m in messages), max(m[1] for m in messages)
            assert metadata['starting_time'] == {'nanoseconds_since_epoch': first}
            assert metadata['duration'] == {'nanoseconds': last - first}
            with AnyReader([folder]) as reader:
                assert sorted((t, bytes(d)) for _, t, d in reader.messages()) == sorted(
                    (m[1], m[3]) for m in messages)


@settings(deadline=None, max_examples=40)
@given(messages=MESSAGES.filter(len), compression=st.sampled_from(COMPRESSIONS),
       share=st.floats(0.0, 1.0))
def test_a_file_cut_anywhere_gives_its_beginning(messages: list, compression: str,
                                                 share: float) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder, out = Path(name, 'bag'), Path(name, 'out')
        write(folder, messages, compression)
        file, = folder.glob('*.mcap')
        content = file.read_bytes()
        cut = content[:int(share * len(content))]
        file.write_bytes(cut)
        try:
            recovery = recover(folder, out)
        except InputError:  # not even one chunk
            assert not out.exists()
            return
        assert file.read_bytes() == cut
        found = read(out)
        assert found == messages[:len(found)]
        assert recovery.extent.messages == len(found)
        assert recovery.damaged_chunks == 0
        custom = bag_metadata.custom_data(out)
        assert (custom['task'], custom['recovered']) == ('Öl', 'true')


def test_a_file_that_was_only_flushed_has_everything(tmp_path: Path) -> None:
    messages = [(i % 2, 10 + i, 5 + i, bytes([i])) for i in range(20)]
    writer = BagWriter(tmp_path / 'bag', {'task': 'x'})
    channels = [writer.add_topic(topic) for topic in TOPICS]
    for topic, *message in messages:
        writer.write(channels[topic], *message)
    writer.flush()
    shutil.copytree(tmp_path / 'bag', tmp_path / 'killed')
    writer.close()
    recover(tmp_path / 'killed', tmp_path / 'out')
    assert read(tmp_path / 'out') == messages
    with AnyReader([tmp_path / 'out']) as reader:
        assert {c.topic: len(c.ext.offered_qos_profiles) for c in reader.connections} == {
            '/a': 1, '/b': 2}
    assert bag_metadata.read(tmp_path / 'out')['topics_with_message_count'][0]['topic_metadata'][
        'type_description_hash'] == TOPICS[0].type_hash


def test_a_damaged_chunk_is_left_out_and_counted(tmp_path: Path) -> None:
    messages = [(0, 10 + i, 5 + i, bytes([i]) * 50) for i in range(30)]
    write(tmp_path / 'bag', messages, flush_every=10)
    file, = (tmp_path / 'bag').glob('*.mcap')
    damage(file, bytes([15]) * 50)
    recovery = recover(tmp_path / 'bag', tmp_path / 'out')
    assert recovery.damaged_chunks == 1
    assert read(tmp_path / 'out') == [*messages[:11], *messages[21:]]


def killed(folder: Path, messages: list) -> Path:
    """A bag in chunks of ten messages without its end; topic 1 comes with the second chunk, with a
    type of its own. Returns the file."""
    writer = BagWriter(folder.with_name('open'), {'task': 'x'})
    topics = [TOPICS[0], replace(TOPICS[1], type='std_msgs/msg/Int8', definition='int8 data\n')]
    channels = []
    for i, (topic, *message) in enumerate(messages):
        if i % 10 == 0:
            writer.flush()
        while len(channels) <= topic:
            channels.append(writer.add_topic(topics[len(channels)]))
        writer.write(channels[topic], *message)
    writer.flush()
    shutil.copytree(writer.folder, folder)
    writer.abort()
    file, = folder.glob('*.mcap')
    return file


def damage(file: Path, data: bytes) -> None:
    """Flip one bit of the message with this data."""
    content = bytearray(file.read_bytes())
    content[content.index(data)] ^= 1
    file.write_bytes(content)


# A record of a length beyond any limit, and one that says that the file ends here.
@pytest.mark.parametrize('tail', [b'\x06' + b'\xff' * 60, b'\x02\x14' + bytes(7) + b'\xff' * 60],
                         ids=['length', 'footer'])
def test_a_tail_of_garbage_ends_the_reading(tmp_path: Path, tail: bytes) -> None:
    messages = [(0, 10 + i, 5 + i, bytes([i]) * 50) for i in range(30)]
    with killed(tmp_path / 'bag', messages).open('ab') as file:
        file.write(tail)
    recovery = recover(tmp_path / 'bag', tmp_path / 'out')
    assert recovery.damaged_chunks == 1
    assert read(tmp_path / 'out') == messages


def test_without_its_first_chunk_a_whole_bag_still_names_its_topics(tmp_path: Path) -> None:
    messages = [(i % 2, 10 + i, 5 + i, bytes([1 + i]) * 50) for i in range(30)]
    write(tmp_path / 'bag', messages, flush_every=10)
    file, = (tmp_path / 'bag').glob('*.mcap')
    damage(file, bytes([1]) * 50)
    recovery = recover(tmp_path / 'bag', tmp_path / 'out')
    assert (recovery.damaged_chunks, recovery.orphans) == (1, 0)
    assert read(tmp_path / 'out') == messages[1:]


def test_messages_whose_topic_nobody_names_are_left_out_and_told(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages = [(int(i >= 10 and i % 2), 10 + i, 5 + i, bytes([i]) * 50) for i in range(30)]
    damage(killed(tmp_path / 'bag', messages), bytes([1]) * 50)
    assert fourdgen(['recover', str(tmp_path / 'bag'), '--out', str(tmp_path / 'out')]) == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert '10 messages in ' in said
    assert '10 messages are left out' in said
    assert bag_metadata.custom_data(tmp_path / 'out')['orphans'] == '10'
    file, = (tmp_path / 'out').glob('*.mcap')
    with file.open('rb') as stream:
        assert [m.data for *_, m in make_reader(stream).iter_messages()] == [
            m[3] for m in messages if m[0]]


def test_where_nothing_can_be_named_nothing_is_made(tmp_path: Path) -> None:
    messages = [(0, 10 + i, 5 + i, bytes([i]) * 50) for i in range(30)]
    damage(killed(tmp_path / 'bag', messages), bytes([1]) * 50)
    with pytest.raises(InputError, match='at least one whole chunk'):
        recover(tmp_path / 'bag', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_full_disk_leaves_no_half_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / 'bag', [(0, 1, 1, b'x')])
    before = sorted(tmp_path.rglob('*'))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as m:
        m.setattr(BagWriter, 'write', full)
        with pytest.raises(InputError, match=r'disk of .*out; expected space.*is as it was'):
            recover(tmp_path / 'bag', tmp_path / 'out')
    assert sorted(tmp_path.rglob('*')) == before
    recover(tmp_path / 'bag', tmp_path / 'out')
    assert read(tmp_path / 'out') == read(tmp_path / 'bag')


@pytest.mark.parametrize('what', ['flush', '_write_metadata'])
def test_a_bag_that_cannot_be_begun_leaves_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as m:
        m.setattr(BagWriter, what, full)
        with pytest.raises(OSError, match='No space left'):
            BagWriter(tmp_path / 'bag', {})
    assert not list(tmp_path.iterdir())
    BagWriter(tmp_path / 'bag', {}).close()


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    write(tmp_path / 'bag', [(0, 1, 1, b'x')])
    before = read(tmp_path / 'bag')
    with pytest.raises(FileExistsError):
        BagWriter(tmp_path / 'bag', {})
    with pytest.raises(InputError, match='does not exist yet'):
        recover(tmp_path / 'bag', tmp_path / 'bag')
    assert read(tmp_path / 'bag') == before
    with pytest.raises(InputError, match='one of none, lz4, zstd'):
        BagWriter(tmp_path / 'other', {}, compression='rar')
    assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize(('bag', 'files', 'got', 'hint'), [
    ('gone', [], 'got nothing there', ''), ('file', ['file'], 'got a file', 'its folder'),
    ('', [], 'got no .mcap file', ''), ('', ['x.db3'], 'got no .mcap file', 'reindex -s sqlite3'),
    ('', ['a.mcap', 'b.mcap'], 'got 2 of them', 'reindex -s mcap')])
def test_nothing_to_recover_is_said(tmp_path: Path, bag: str, files: list[str], got: str,
                                    hint: str) -> None:
    for name in files:
        (tmp_path / name).write_text('')
    with pytest.raises(InputError, match=f'one .mcap file.*{got}') as error:
        recover(tmp_path / bag, tmp_path / 'out')
    assert hint in error.value.hint and ('reindex' in hint) == ('reindex' in error.value.hint)
    assert not (tmp_path / 'out').exists()


def test_custom_data_keeps_what_it_does_not_change(tmp_path: Path) -> None:
    write(tmp_path / 'bag', [(0, 1, 1, b'x')])
    before = bag_metadata.read(tmp_path / 'bag')
    bag_metadata.set_custom_data(tmp_path / 'bag', {'outcome': 'success', 'text': '苹果: "1"'})
    after = bag_metadata.read(tmp_path / 'bag')
    assert after.pop('custom_data') == {'task': 'Öl', 'outcome': 'success', 'text': '苹果: "1"'}
    before.pop('custom_data')
    assert after == before
