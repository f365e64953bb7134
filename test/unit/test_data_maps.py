# SPDX-License-Identifier: Apache-2.0
"""What a topic map, a bag or one image may be called and hold, and what is said of the rest."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image as PILImage

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_job import BagJob, check
from fourdgen_ros.data.bags import open_bag
from fourdgen_ros.data.compressed import compressed_depth_pixels
from fourdgen_ros.data.convert import convert
from fourdgen_ros.data.mapping import load_map

from .data_bags import (
    START,
    CompressionMode,
    Recording,
    StoragePlugin,
    depth_mm,
    topic_map,
    write_bag,
)
from .data_checks import changed

SHORT = Recording(seconds=0.3)
SQLITE = SHORT.but(storage=StoragePlugin.SQLITE3)


def test_an_empty_task_or_text_is_empty(tmp_path: Path) -> None:
    topics = load_map(topic_map(tmp_path / 'map.yaml', task=None, text=None))
    assert (topics.task, topics.text) == ('', '')


def test_one_topic_of_transforms_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tf is '/robot1/tf', expected a list"):
        load_map(topic_map(tmp_path / 'map.yaml', tf='/robot1/tf'))


def test_frames_lose_their_leading_slash(tmp_path: Path) -> None:
    topics = load_map(topic_map(tmp_path / 'map.yaml', base_frame='/base', tcp={'frame': '/hand'}))
    assert (topics.base_frame, topics.tcp_frame) == ('base', 'hand')


@pytest.mark.parametrize(('keys', 'to', 'expected'), [
    (('outcomes',), 'success', "outcomes is 'success', expected a list"),
    (('joints', 'names'), 'panda_joint1', "joints.names is 'panda_joint1', expected a list"),
    (('gripper', 'joints'), 'finger', "gripper.joints is 'finger', expected a list"),
    (('cameras', 'cam_left', 'T_base_camra'), {}, r"unknown keys \['T_base_camra'\] in "
                                                  r"cameras.cam_left: known .*T_base_camera"),
    (('cameras', 'cam_left', 'T_base_camera'), {'rotation_wxyz': []},
     'unknown .* known .*rotation_xyzw'),
    (('tcp', 'urdff'), 'x.urdf', r"unknown keys \['urdff'\] in tcp: known .*'urdf'"),
    (('joints', 'name'), [], "unknown .* in joints: known .*'names'"),
    (('gripper', 'effort'), 1, "unknown .* in gripper: known .*'positions'"),
    (('cameras', 'cam_left', 'rectified'), 'yes please',
     "rectified is 'yes please', expected true or false"),
    (('tcp',), 'hand', "tcp is 'hand', expected the keys"),
    (('base_frame',), None, 'base_frame is empty'),
    (('joints', 'topic'), '/tf', "topic /tf as .*TF.*joints"),
    (('cameras', 'cam_left', 'info'), '/cam_left/color/image_raw',
     'topic /cam_left/color/image_raw as .*colour of cam_left.*camera info'),
    (('cameras', 'cam_left', 'depth'), '/cam_right/color/image_raw',
     'topic /cam_right/color/image_raw as .*colour of cam_right'),
    (('cameras', 'cam_left', 'color'), '/joint_states', 'topic /joint_states as'),
])
def test_what_a_map_must_not_say(tmp_path: Path, keys, to, expected: str) -> None:
    path = changed(tmp_path, *keys, to=to)
    with pytest.raises(InputError, match=expected) as caught:
        load_map(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('name', ['x_depth', 'x_gripper'])
def test_a_camera_is_not_named_as_the_pictures_of_another(tmp_path: Path, name: str) -> None:
    topics = {'color': '/c', 'depth': '/d', 'info': '/i'}
    with pytest.raises(InputError, match=f'map.yaml, camera {name}.*_depth or _gripper'):
        load_map(topic_map(tmp_path / 'map.yaml', cameras={name: topics}))


@pytest.mark.parametrize('what', [SHORT, SQLITE], ids=['mcap', 'sqlite3'])
def test_a_folder_may_end_as_bags_of_ros_1_do(tmp_path: Path, what: Recording) -> None:
    with open_bag(write_bag(tmp_path / 'demo.bag', what)) as bag:
        assert len(list(bag.messages(['/cam_left/color/image_raw']))) == 4


def test_a_list_of_files_that_is_none_is_named(tmp_path: Path) -> None:
    metadata = write_bag(tmp_path / 'bag', SHORT) / 'metadata.yaml'
    content = yaml.safe_load(metadata.read_text())
    content['rosbag2_bagfile_information']['relative_file_paths'] = None
    metadata.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r'metadata\.yaml.*relative_file_paths.*None'), \
            open_bag(metadata.parent):
        pass


def _add_topic(bag: Path, kind: str, encoding: str, definition: str) -> None:
    """One message on /odd, of a type that is defined so."""
    with sqlite3.connect(next(bag.glob('*.db3'))) as file:
        file.execute('insert into message_definitions (topic_type, encoding, '
                     'encoded_message_definition, type_description_hash) values (?, ?, ?, ?)',
                     (kind, encoding, definition, ''))
        file.execute('insert into topics values (?, ?, ?, ?, ?, ?)', (99, '/odd', kind, 'cdr', '',
                                                                      ''))
        file.execute('insert into messages (topic_id, timestamp, data) values (99, ?, ?)',
                     (START, b'\0\1\0\0'))
    file.close()


def test_a_topic_without_a_definition_is_explained(tmp_path: Path) -> None:
    """rosbag2 of Jazzy writes the encoding 'unknown' for feedback of actions."""
    bag = write_bag(tmp_path / 'bag', SQLITE)
    _add_topic(bag, 'my_msgs/action/Move_FeedbackMessage', 'unknown', '')
    line = check(bag, topic_map(tmp_path / 'map.yaml')).bad[0]
    assert 'definition' in line.found and "'unknown'" in line.found
    assert 'ros2 bag convert' in line.next and 'topics' in line.next


@pytest.mark.parametrize(('what', 'single', 'told'), [
    (SHORT, False, True), (SHORT, True, False), (SQLITE, False, False), (SQLITE, True, False)])
def test_recover_is_advised_where_it_helps(tmp_path: Path, what, single, told) -> None:
    bag = write_bag(tmp_path / 'bag', what)
    file = next(p for p in bag.iterdir() if p.suffix in ('.mcap', '.db3'))
    file.write_bytes(file.read_bytes()[:-4000] if file.suffix == '.mcap' else b'none' * 2000)
    if single:
        (bag / 'metadata.yaml').unlink()
    line = check(file if single else bag, topic_map(tmp_path / 'map.yaml')).bad[0]
    assert line.next and ('fourdgen recover' in line.next) == told


@pytest.mark.parametrize('what', [SHORT, SQLITE, SHORT.but(compression=CompressionMode.MESSAGE)],
                         ids=['mcap', 'sqlite3', 'zstd messages'])
def test_the_only_file_of_a_bag_is_the_bag(tmp_path: Path, what: Recording) -> None:
    bag = write_bag(tmp_path / 'bag', what.but(notes={'outcome': 'failure'}))
    file, = (p for p in bag.iterdir() if p.name != 'metadata.yaml')
    map = topic_map(tmp_path / 'map.yaml')
    assert [f.what for f in check(file, map).bad] == ['outcome']
    before = BagJob(file, map).fingerprint()
    bag_metadata.set_custom_data(bag, {'outcome': 'success'})
    assert check(file, map).records.episode.outcome == 'success'
    assert BagJob(file, map).fingerprint() != before, 'a new label makes another episode'


def test_a_file_of_another_bag_beside_metadata_is_read_alone(tmp_path: Path) -> None:
    other = next(write_bag(tmp_path / 'other', SHORT).glob('*.mcap'))
    file = other.rename(write_bag(tmp_path / 'bag', SHORT) / 'other.mcap')
    with open_bag(file) as bag:
        assert bag.path == file


def test_one_of_several_files_is_no_episode(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT)
    file = next(bag.glob('*.mcap'))
    content = bag_metadata.read(bag)
    content['relative_file_paths'] = [file.name, 'bag_1.mcap']
    bag_metadata.write(bag, content)
    map = topic_map(tmp_path / 'map.yaml')
    line, = check(file, map).bad
    assert line.found == 'expected the folder of a bag; got one of its 2 files'
    assert str(bag) in line.next
    whole = write_bag(tmp_path / 'whole', SHORT)
    kept, left = convert([BagJob(whole, map), BagJob(file, map)], tmp_path / 'set')
    assert kept.episode is not None and 'one of its 2 files' in left.reason


def test_notes_that_look_like_numbers_are_text(tmp_path: Path) -> None:
    """rosbag2 writes texts without quotes."""
    bag = write_bag(tmp_path / 'bag', SHORT.but(notes={'task': 'none'}))
    bag_metadata.set_custom_data(bag, {'task': 12, 'text': 5})
    episode = check(bag, topic_map(tmp_path / 'map.yaml')).records.episode
    assert (episode.task, episode.text) == ('12', '5')


@pytest.mark.parametrize('verb', [['check'], ['convert', '--out', 'set']], ids=['check', 'convert'])
def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path, capsys, verb: list[str]) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9'))
    write_bag(tmp_path / 'bag', SHORT).rename(odd)
    assert cli.main(['data', *verb, str(odd), '--map', str(topic_map(tmp_path / 'map.yaml'))]) == 1
    error = ''.join(capsys.readouterr().err.split())
    assert 'caf\\xe9;expectedapathinUTF-8;gototherbytes.Renameit.' in error


@pytest.mark.parametrize('name', ['demo #3', 'pick 50%25', 'wie? so'])
def test_a_path_that_misleads_sqlite_is_to_be_renamed(tmp_path: Path, name: str) -> None:
    odd = write_bag(tmp_path / 'bag', SQLITE).rename(tmp_path / name)
    line, = check(odd, topic_map(tmp_path / 'map.yaml')).bad
    assert line.next.startswith('Rename it') and 'killed' not in line.next


def test_bags_that_are_unpacked_need_room(tmp_path: Path, monkeypatch) -> None:
    def full(*given) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    bag = write_bag(tmp_path / 'bag', SHORT.but(compression=CompressionMode.FILE))
    monkeypatch.setattr('rosbags.rosbag2.reader.shutil.copyfileobj', full)
    line, = check(bag, topic_map(tmp_path / 'map.yaml')).bad
    assert line.what == f'disk of {tempfile.gettempdir()}' and 'No space left' in line.found
    assert 'TMPDIR' in line.next and 'killed' not in line.next


def test_a_type_that_is_not_its_definition_is_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT)
    content = bag_metadata.read(bag)
    for topic in content['topics_with_message_count']:
        if topic['topic_metadata']['type'] == 'sensor_msgs/msg/CameraInfo':
            topic['topic_metadata']['type_description_hash'] = f'RIHS01_{"1" * 64}'
    bag_metadata.write(bag, content)
    line, = check(bag, topic_map(tmp_path / 'map.yaml')).bad
    assert 'sensor_msgs/msg/CameraInfo' in line.found and 'ros2 bag convert' in line.next
    assert 'killed' not in line.next


def test_a_definition_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    bag, kind = write_bag(tmp_path / 'bag', SQLITE), 'my_msgs/msg/Odd'
    _add_topic(bag, kind, 'ros2msg', 'float32[] x 3 !!\n')
    content = bag_metadata.read(bag)
    content['topics_with_message_count'].append({'message_count': 1, 'topic_metadata': {
        'name': '/odd', 'type': kind, 'serialization_format': 'cdr', 'offered_qos_profiles': [],
        'type_description_hash': ''}})
    bag_metadata.write(bag, content)
    line, = check(bag, topic_map(tmp_path / 'map.yaml')).bad
    assert kind in line.found and 'ros2 bag convert' in line.next and 'killed' not in line.next


def test_a_mapped_topic_without_a_definition_is_named(tmp_path: Path) -> None:
    bag, kind = write_bag(tmp_path / 'bag', SQLITE), 'sensor_msgs/msg/CameraInfo'
    with sqlite3.connect(next(bag.glob('*.db3'))) as file:
        file.execute('delete from message_definitions where topic_type = ?', (kind,))
    file.close()
    line, = check(bag, topic_map(tmp_path / 'map.yaml')).bad
    assert line.found == f'expected the definition of {kind} in the bag; got none' and line.next


def test_a_folder_of_bags_is_no_bag(tmp_path: Path) -> None:
    (tmp_path / 'bags').mkdir()
    write_bag(tmp_path / 'bags' / 'a', SHORT)
    line, = check(tmp_path / 'bags', topic_map(tmp_path / 'map.yaml')).bad
    assert line.found == 'expected metadata.yaml in it; got none, but folders that have one'
    assert f'{tmp_path / "bags"}/*' in line.next and 'killed' not in line.next


def test_findings_say_what_was_expected(tmp_path: Path) -> None:
    line = check(tmp_path / 'none', topic_map(tmp_path / 'map.yaml')).bad[0]
    assert line.found == 'expected a rosbag2 folder; got nothing there'


def test_depth_of_cv_bridge_is_a_plain_png() -> None:
    def coded(values: np.ndarray) -> SimpleNamespace:
        data = io.BytesIO()
        PILImage.fromarray(values).save(data, 'PNG')
        return SimpleNamespace(format='png', data=data.getvalue())

    depth = depth_mm(0, 0, (12, 16))
    np.testing.assert_array_equal(compressed_depth_pixels(coded(depth)), depth)
    with pytest.raises(InputError, match='16 bits in one channel'):
        compressed_depth_pixels(coded(depth.astype(np.uint8)))
    with pytest.raises(InputError, match='lossless'):
        compressed_depth_pixels(SimpleNamespace(format='jpeg', data=b'\xff\xd8'))


def test_brackets_in_names_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bag = write_bag(tmp_path / 'take [bold]', SHORT)
    odd, file = tmp_path / 'odd [/red]', str(topic_map(tmp_path / 'map.yaml'))
    odd.mkdir(parents=True)  # no bag
    assert cli.main(['data', 'check', str(bag), str(odd), '--map', file]) == 1
    shown = capsys.readouterr().out.replace('\n', '')
    assert 'take [bold]: ' in shown and 'odd [/red]: ' in shown
    out = tmp_path / 'set [/red]'
    cli.main(['data', 'convert', str(bag), str(odd), '--map', file, '--out', str(out)])
    shown = capsys.readouterr().out.replace('\n', '')
    assert 'odd [/red]: ' in shown and 'set [/red]' in shown
