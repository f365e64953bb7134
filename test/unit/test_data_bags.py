# SPDX-License-Identifier: Apache-2.0
"""Bags of every storage become records; what is wrong with a bag is named."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_job import check
from fourdgen_ros.data.bags import open_bag
from fourdgen_ros.data.episode import COLOUR, DEPTH
from fourdgen_ros.data.mapping import load_map
from fourdgen_ros.data.records import examine, pictures
from fourdgen_ros.data.scan import scan

from .data_bags import (
    NS,
    START,
    CompressionMode,
    Recording,
    StoragePlugin,
    camera_pose,
    depth_mm,
    opening_at,
    rgb,
    tcp_at,
    topic_map,
    write_bag,
)
from .data_checks import (
    LEFT,
    LEFT_DEPTH,
    LEFT_INFO,
    SHORT,
    edited,
    heard,
    late_by,
    problems,
    shifted,
    warnings,
)


@pytest.mark.parametrize('what', [
    SHORT,
    SHORT.but(storage=StoragePlugin.SQLITE3),
    SHORT.but(storage=StoragePlugin.SQLITE3, compression=CompressionMode.FILE),
    SHORT.but(compression=CompressionMode.STORAGE, padding=8),
    SHORT.but(storage=StoragePlugin.SQLITE3, compression=CompressionMode.MESSAGE, compressed=True),
    SHORT.but(depth_encoding='32FC1', big_endian=True, padding=4),
], ids=['mcap', 'sqlite3', 'zstd file', 'zstd chunks, padded', 'zstd messages, compressed images',
        'big endian float depth'])
def test_every_storage_gives_the_recorded_values(tmp_path: Path, what: Recording) -> None:
    path = write_bag(tmp_path / 'bag', what)
    topics = load_map(topic_map(tmp_path / 'map.yaml', compressed=what.compressed))
    with open_bag(path) as bag:
        records = examine(scan(bag, topics), topics).records
        shown = list(pictures(bag, topics, records))
    episode = records.episode
    assert len(episode) == 7
    # true stamps, to the nanosecond
    np.testing.assert_array_equal(episode.stamps[:, 0], START + np.arange(7) * NS // 10)
    np.testing.assert_array_equal(episode.stamps[:, 1] - episode.stamps[:, 0], 1_000_000)
    seconds = (episode.stamps[:, 0] - START) / NS
    for t, pose, opening in zip(seconds, episode.tcp, episode.opening, strict=True):
        assert max(se3.distance(pose, tcp_at(t))) < 1e-4  # interpolated between samples of /tf
        assert opening == pytest.approx(opening_at(t), abs=1e-9)
    np.testing.assert_allclose(episode.T_base_camera[3, 1], camera_pose(1), atol=1e-9)
    np.testing.assert_allclose(episode.joints[:, 0], 0.1 * seconds, atol=1e-9)
    assert len(shown) == 2 * 2 * 7
    for picture in shown:
        if picture.kind == COLOUR:
            np.testing.assert_array_equal(
                picture.values, rgb(picture.camera, picture.record, what.size))
        elif what.depth_encoding == '16UC1':
            assert picture.kind == DEPTH
            np.testing.assert_array_equal(
                picture.values, depth_mm(picture.camera, picture.record, what.size))
        else:
            expected = depth_mm(picture.camera, picture.record, what.size) / np.float32(1000)
            np.testing.assert_array_equal(np.nan_to_num(picture.values), expected)


def test_without_tf_the_map_tells_camera_and_arm(tmp_path: Path) -> None:
    pytest.importorskip('pinocchio')
    from importlib import resources

    from fourdgen_ros.data.kinematics import tcp_path

    urdf = Path(str(resources.files('fourdgen_ros') / 'assets/panda_urdf/panda.urdf'))
    path = write_bag(tmp_path / 'bag', SHORT.but(static_tf=False, arm_tf=False))
    file = topic_map(tmp_path / 'map.yaml', tcp={'frame': 'panda_hand_tcp', 'urdf': str(urdf)})
    assert 'pose of cam_left' in str(check(path, file).bad)
    spec = yaml.safe_load(file.read_text())
    for camera in spec['cameras'].values():
        camera['T_base_camera'] = {'translation': [0.5, -0.1, 1.0],
                                   'rotation_xyzw': [1.0, 0.0, 0.0, 0.0]}
    file.write_text(yaml.safe_dump(spec))
    report = check(path, file)
    assert report.records is not None, report.bad
    episode = report.records.episode
    np.testing.assert_allclose(episode.T_base_camera[0, 0], camera_pose(0), atol=1e-9)
    np.testing.assert_allclose(episode.tcp, tcp_path(
        urdf, 'panda_link0', 'panda_hand_tcp', episode.joint_names, episode.joints))


def test_a_labelled_bag_names_its_own_task(tmp_path: Path) -> None:
    notes = {'task': 'pick', 'text': 'lege den Äpfel 🍎 in die Kiste', 'outcome': 'success'}
    bag = write_bag(tmp_path / 'bag', SHORT.but(notes=notes))
    episode = check(bag, topic_map(tmp_path / 'map.yaml')).records.episode
    assert (episode.task, episode.text) == ('pick', notes['text'])


def test_a_failed_demonstration_is_kept_out(tmp_path: Path) -> None:
    assert 'outcome: failure' in problems(tmp_path, SHORT.but(notes={'outcome': 'failure'}))[0]


def test_an_outcome_that_nobody_told_is_a_warning(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT.but(notes={'outcome': 'unknown'}))
    report = check(bag, topic_map(tmp_path / 'map.yaml'))
    assert report.records.episode.outcome == 'success'
    assert [f.verdict for f in report.findings if f.what == 'outcome'] == ['warning']


@pytest.mark.parametrize(('edit', 'expected'), [
    (shifted(LEFT, 8, 99, -2 * NS, received=False), f'{LEFT}: clock jump: stamps go back by'),
    (shifted(LEFT, 8, 99, 3 * NS, received=False),
     f'{LEFT}: clock jump: stamps leave the time of reception by +3.000 s at message 8'),
    (shifted(LEFT, 5, 6, -NS // 10, received=False), f'{LEFT}: 1 repeated stamps'),
], ids=['back', 'forward', 'duplicate'])
def test_a_clock_that_jumps_is_seen(tmp_path: Path, edit, expected: str) -> None:
    assert any(expected in p for p in problems(tmp_path, Recording(edit=edit)))


def test_late_messages_are_no_clock_jump(tmp_path: Path) -> None:
    def stalled(topic: str, index: int, stamp: int, message) -> list:
        late = START + round(1.5 * NS) if START + 0.5 * NS < stamp < START + 1.5 * NS else stamp
        return [(topic, late + 3_000_000, message)]

    assert problems(tmp_path, Recording(edit=stalled)) == []


@pytest.mark.parametrize('speed', [0.5, 0.8, 2.0])
def test_a_simulator_that_is_not_as_fast_as_time_is_no_clock_jump(
        tmp_path: Path, speed: float) -> None:
    """Stamps are simulated time, and `ros2 bag record` without --use-sim-time noted its own."""
    def simulated(topic: str, index: int, stamp: int, message) -> list:
        return [(topic, START + round((stamp - START) / speed) + 3_000_000, message)]

    found = warnings(tmp_path, Recording(seconds=3.5, edit=simulated))
    assert [line.split(':')[0] for line in found] == ['outcome']


def test_a_camera_that_is_renamed_midway_is_named(tmp_path: Path) -> None:
    def renamed(topic: str, index: int, stamp: int, message) -> list:
        new = topic.replace('cam_left', 'cam_front') if index >= 6 else topic
        return [(new, stamp + 3_000_000, message)]

    text = '\n'.join(problems(tmp_path, Recording(edit=renamed)))
    assert f'{LEFT}: ends 1.' in text and 'Renamed midway' in text
    assert '/cam_front/color/image_raw' in text


def test_images_that_were_recorded_compressed_are_offered(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT.but(compressed=True))
    lines = [str(f) for f in check(bag, topic_map(tmp_path / 'map.yaml')).bad]
    assert any(line.startswith(f'{LEFT}: no messages') and f'The bag also has {LEFT}/compressed.'
               in line for line in lines), lines
    assert any(line.startswith(f'{LEFT_DEPTH}: ') and f'{LEFT_DEPTH}/compressedDepth.' in line
               for line in lines), lines


def test_messages_that_are_counted_but_not_found_are_told(tmp_path: Path) -> None:
    """rosbags takes a topic for another when its QoS is not that of metadata.yaml."""
    bag = write_bag(tmp_path / 'bag', SHORT.but(storage=StoragePlugin.SQLITE3))
    content = bag_metadata.read(bag)
    for topic in content['topics_with_message_count']:
        topic['topic_metadata']['offered_qos_profiles'] = [{
            'history': 'keep_last', 'depth': 1, 'reliability': 'reliable',
            'durability': 'volatile', 'deadline': {'sec': 0, 'nsec': 0},
            'lifespan': {'sec': 0, 'nsec': 0}, 'liveliness': 'automatic',
            'liveliness_lease_duration': {'sec': 0, 'nsec': 0},
            'avoid_ros_namespace_conventions': False}]
    bag_metadata.write(bag, content)
    lines = [str(f) for f in check(bag, topic_map(tmp_path / 'map.yaml')).bad]
    for topic, count in ((LEFT, 7), ('/joint_states', 55)):
        assert any(line.startswith(f'{topic}: none of the {count} messages of metadata.yaml can be '
                                   'read') and 'ros2 bag reindex' in line for line in lines), lines


def test_a_frame_that_changes_midway_is_named(tmp_path: Path) -> None:
    def renamed(topic: str, index: int, stamp: int, message) -> list:
        if topic == LEFT and index >= 6:
            message.header.frame_id = 'other_frame'
        return [(topic, stamp + 3_000_000, message)]

    assert any('other_frame' in p and LEFT in p
               for p in problems(tmp_path, SHORT.but(seconds=1.0, edit=renamed)))


@pytest.mark.parametrize(('what', 'changes', 'expected'), [
    (SHORT.but(depth_size=(24, 32)), {}, f'{LEFT_DEPTH}: 32x24, colour 64x48'),
    (SHORT.but(rates={'cam_right': 4.0}, seconds=1.0), {}, '/cam_right/color/image_raw: 5 at 4.0'),
    (SHORT.but(static_tf=False), {}, 'pose of cam_left: '),
    (SHORT.but(arm_tf=False), {}, 'TCP: '),
    (SHORT, {'task': ''}, "task: ''"),
    (SHORT, {'gripper': {'topic': '/joint_states', 'joints': ['panda_finger_joint1'],
                         'positions': [0.0, 0.04], 'opening': [0.0, 0.04]}}, ''),
    (SHORT, {'gripper': {'topic': '/joint_states', 'joints': ['nothing'],
                         'positions': [0.0, 0.04], 'opening': [0.0, 0.08]}},
     'no message with all of nothing'),
    (SHORT, {'gripper': {'topic': '/joint_states', 'joints': ['panda_finger_joint1'],
                         'positions': [0.0, 0.01], 'opening': [0.0, 0.08]}}, 'gripper: '),
], ids=['depth size', 'mixed rates', 'no static tf', 'no tf', 'no task', 'half opening',
        'no such joint', 'gripper range'])
def test_what_is_missing_is_named(tmp_path: Path, what: Recording, changes: dict,
                                  expected: str) -> None:
    found = problems(tmp_path, what, **changes)
    assert any(p.startswith(expected) or expected in p for p in found) if expected else not found


def test_lost_images_refuse_the_episode(tmp_path: Path) -> None:
    def lossy(topic: str, index: int, stamp: int, message) -> list:
        return [] if topic == LEFT and index in (5, 6) else [(topic, stamp + 3_000_000, message)]

    found = problems(tmp_path, Recording(seconds=1.2, edit=lossy))
    assert any(LEFT in p and 'Nothing within max_age 0.1 s' in p for p in found)


@pytest.mark.parametrize('topic', ['/tf', '/joint_states'])
@pytest.mark.parametrize('begin', [0.03, 0.08])
def test_a_robot_that_is_heard_after_the_first_image_costs_that_image(
        tmp_path: Path, topic: str, begin: float) -> None:
    def late(of: str, index: int, stamp: int, message) -> list:
        heard = of != topic or stamp >= START + begin * NS
        return [(of, stamp + 3_000_000, message)] if heard else []

    what = Recording(seconds=1.0, edit=late)
    assert problems(tmp_path, what) == []
    topics = load_map(tmp_path / 'map.yaml')
    with open_bag(tmp_path / 'bag') as bag:
        episode = examine(scan(bag, topics), topics).records.episode
    assert episode.stamps[0].tolist() == [START + NS // 10, START + NS // 10 + 10**6]


def test_an_arm_that_stands_still_is_bad(tmp_path: Path) -> None:
    def still(topic: str, index: int, stamp: int, message) -> list:
        if topic == '/tf':
            message.transforms[0].transform.translation.y = 0.0
            message.transforms[0].transform.translation.z = 0.3
        return [(topic, stamp + 3_000_000, message)]

    assert any(p.startswith('TCP: travels 0.000') for p in problems(
        tmp_path, SHORT.but(edit=still)))


def test_a_truncated_bag_is_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT)
    file = next(bag.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:-4000])
    report = check(bag, topic_map(tmp_path / 'map.yaml'))
    assert str(bag) in report.bad[0].what and 'fourdgen recover' in report.bad[0].next


def test_a_bag_without_metadata_is_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT)
    (bag / 'metadata.yaml').unlink()
    assert str(bag) in check(bag, topic_map(tmp_path / 'map.yaml')).bad[0].what
    with pytest.raises(InputError, match='metadata.yaml'), open_bag(bag):
        pass


def test_reindex_is_advised_only_where_there_is_a_recording(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'got none, nor any recording') as error, open_bag(
            tmp_path):
        pass
    assert 'reindex' not in error.value.hint
    for number in range(2):
        (tmp_path / f'bag_{number}.mcap').write_bytes(b'')
    with pytest.raises(InputError, match='metadata.yaml') as error, open_bag(tmp_path):
        pass
    assert 'ros2 bag reindex' in error.value.hint and 'recover' not in error.value.hint


@pytest.mark.parametrize('name', ['../../secret.mcap', '/etc/passwd'])
def test_a_bag_that_points_outside_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT)
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace(next(bag.glob('*.mcap')).name, name))
    with pytest.raises(InputError, match='files inside the folder'), open_bag(bag):
        pass


@pytest.mark.parametrize(('changes', 'expected'), [
    ({'fps': 0}, 'fps'), ({'speed': 3}, 'unknown keys'), ({'cameras': {}}, 'cameras'),
    ({'cameras': {'../up': {'color': '/a', 'depth': '/b', 'info': '/c'}}}, 'letters, digits')])
def test_a_map_that_is_wrong_is_named(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_map(topic_map(tmp_path / 'map.yaml', **changes))


def test_the_example_of_the_package_is_a_map() -> None:
    from fourdgen_ros.core.paths import share_directory

    topics = load_map(share_directory() / 'config' / 'data' / 'realsense_franka.yaml')
    assert [c.name for c in topics.cameras] == ['cam_left', 'cam_right'] and topics.fps == 10


def test_tf_that_is_silent_is_not_interpolated(tmp_path: Path) -> None:
    found = problems(tmp_path, Recording(edit=heard('/tf', lambda t: not 0.5 < t < 1.5)))
    assert len(found) == 1 and found[0].startswith('TCP: ')
    assert 'panda_link0 -> panda_hand_tcp was silent' in found[0] and 'got 1.0' in found[0]


@pytest.mark.parametrize(('topic', 'names'), [('/tf', ['TCP']), (
    '/joint_states', ['/joint_states (arm)', '/joint_states (gripper)'])])
@pytest.mark.parametrize(('when', 'said'), [
    (lambda t: t < 1.21, 'ends 1.80 s before the images'),
    (lambda t: t > 1.79, 'starts 1.80 s after the images')], ids=['end', 'start'])
def test_a_robot_that_is_not_heard_for_long_is_bad(
        tmp_path: Path, topic: str, names: list[str], when, said: str) -> None:
    found = problems(tmp_path, Recording(seconds=3.0, edit=heard(topic, when)))
    assert len(found) == len(names)
    for name, line in zip(names, found, strict=True):
        assert line.startswith(f'{name}: {said}')


def test_a_robot_that_is_not_heard_for_a_while_is_a_warning(tmp_path: Path) -> None:
    lines = warnings(tmp_path, Recording(edit=heard('/tf', lambda t: t > 0.45)))
    assert any(line.startswith('TCP: starts 0.46 s after the images') for line in lines)


def test_arm_and_gripper_may_share_a_topic_out_of_order(tmp_path: Path) -> None:
    def split(name: str, index: int, stamp: int, message) -> list:
        if name != '/joint_states':
            return [(name, stamp + 3_000_000, message)]
        fingers = copy.deepcopy(message)
        message.name, message.position = message.name[:7], message.position[:7]
        fingers.name, fingers.position = fingers.name[7:], fingers.position[7:]
        sec, nanosec = divmod(stamp - 2_000_000, NS)
        fingers.header.stamp.sec, fingers.header.stamp.nanosec = sec, nanosec
        return [(name, stamp + 3_000_000, message), (name, stamp + 4_000_000, fingers)]

    assert problems(tmp_path, SHORT.but(edit=split)) == []


def test_joint_stamps_that_go_back_are_a_clock_jump(tmp_path: Path) -> None:
    found = problems(tmp_path, SHORT.but(
        edit=shifted('/joint_states', 20, 99, -NS // 5, received=False)))
    assert len(found) == 1 and found[0].startswith('/joint_states: clock jump: stamps go back')


def test_transforms_that_go_back_are_a_clock_jump_even_alone(tmp_path: Path) -> None:
    """The tree sorts them: what came before and after would be mixed."""
    def back(name: str, index: int, stamp: int, message) -> list:
        if name == '/tf' and index >= 200:  # the median stays
            for t in message.transforms:
                now = t.header.stamp
                now.sec, now.nanosec = divmod(now.sec * NS + now.nanosec - 4 * NS // 5, NS)
        return [(name, stamp + 3_000_000, message)]

    found = problems(tmp_path, Recording(seconds=6.0, edit=back))
    jump = '/tf of panda_hand_tcp: clock jump: stamps go back by 0.'
    assert any(line.startswith(jump) for line in found), found


def _nan(t) -> None:
    t.transform.translation.x = float('nan')


def _zero(t) -> None:
    t.transform.rotation = type(t.transform.rotation)(0.0, 0.0, 0.0, 0.0)


def _self(t) -> None:
    t.header.frame_id = t.child_frame_id


@pytest.mark.parametrize('spoil', [_nan, _zero, _self], ids=['nan', 'zero', 'self'])
def test_a_transform_that_is_none_is_ignored(tmp_path: Path, spoil) -> None:
    def once(seconds: float, message) -> None:
        if abs(seconds - 0.2) < 1e-3:
            spoil(message.transforms[0])

    lines = warnings(tmp_path, SHORT.but(edit=edited({'/tf'}, once)))
    assert any(line.startswith('TF: ignored') and '1 x ' in line and 'panda_hand_tcp' in line
               for line in lines)


def test_a_needed_link_without_a_valid_transform_is_bad(tmp_path: Path) -> None:
    found = problems(tmp_path, SHORT.but(
        edit=edited({'/tf'}, lambda _, message: _zero(message.transforms[0]))))
    assert len(found) == 1 and found[0].startswith('TCP: ')


def test_a_leading_slash_of_an_image_frame_is_stripped(tmp_path: Path) -> None:
    def slash(_: float, message) -> None:
        message.header.frame_id = f'/{message.header.frame_id}'

    assert problems(tmp_path, SHORT.but(edit=edited({LEFT}, slash))) == []


def _float_mm(_: float, message) -> None:
    values = np.frombuffer(bytes(message.data), np.uint16).astype(np.float32)
    message.encoding, message.step, message.data = '32FC1', 4 * message.width, values.view(np.uint8)


def _full(_: float, message) -> None:
    message.data = np.full_like(message.data, 255)


@pytest.mark.parametrize('change', [_float_mm, _full], ids=['float mm', 'all 65535'])
def test_depth_that_training_cannot_hold_is_not_valid(tmp_path: Path, change) -> None:
    found = problems(tmp_path, SHORT.but(edit=edited({LEFT_DEPTH}, change)))
    assert len(found) == 1 and found[0].startswith(f'{LEFT_DEPTH}: 0 % of pixels valid')
    assert '32FC1 is in metres' in found[0]


@pytest.mark.parametrize('size', [(48, 65), (47, 64)])
def test_a_size_that_is_odd_is_bad(tmp_path: Path, size: tuple[int, int]) -> None:
    found = problems(tmp_path, SHORT.but(size=size))
    assert any(line.startswith(f'{LEFT}: {size[1]}x{size[0]}') and 'even' in line for line in found)


RIGHT = {'/cam_right/color/image_raw', '/cam_right/aligned_depth_to_color/image_raw'}


@pytest.mark.parametrize(('topics', 'ns', 'named', 'said'), [
    (RIGHT, 2 * NS, '/cam_right/', '2000 ms ahead'),
    ({'/joint_states', '/tf'}, -800_000_000, '/joint_states', '800 ms behind'),
    ({'/tf'}, -800_000_000, '/tf', '800 ms behind'),
    ({'/joint_states'}, 10 * NS, '/joint_states', '10000 ms ahead'),
], ids=['camera', 'robot', 'tf', 'joints'])
def test_clocks_that_differ_are_seen(tmp_path: Path, topics: set[str], ns: int, named: str,
                                     said: str) -> None:
    found = problems(tmp_path, Recording(edit=late_by(topics, ns)))
    assert any(line.startswith(named) and said in line and '/cam_left/' in line for line in found)


def test_clocks_that_differ_a_little_are_a_warning(tmp_path: Path) -> None:
    lines = warnings(tmp_path, Recording(edit=late_by({'/joint_states', '/tf'}, -200_000_000)))
    assert any(line.startswith(('/joint_states: ', '/tf: ')) and '200 ms behind those of /cam_'
               in line for line in lines), lines


def test_the_latency_of_images_is_no_clock_that_differs(tmp_path: Path) -> None:
    def slow(name: str, index: int, stamp: int, message) -> list:
        late = (150 if index % 5 else 60) if name.startswith('/cam_') else 3  # ms
        return [(name, stamp + late * 1_000_000, message)]

    assert [line.split(':')[0] for line in warnings(tmp_path, Recording(edit=slow))] == ['outcome']


@pytest.mark.parametrize('topic', ['/joint_states', '/tf'])
def test_stamps_that_nobody_set_are_named(tmp_path: Path, topic: str) -> None:
    def unset(_: float, message) -> None:
        for header in ([t.header for t in message.transforms] if topic == '/tf'
                       else [message.header]):
            header.stamp.sec = header.stamp.nanosec = 0

    found = problems(tmp_path, SHORT.but(edit=edited({topic}, unset)))
    assert len(found) == 1 and found[0].startswith(f'{topic}: all stamps are 0')


def test_a_stream_from_another_time_is_named(tmp_path: Path) -> None:
    def before(name: str, index: int, stamp: int, message) -> list:
        if name != '/tf':
            return [(name, stamp + 3_000_000, message)]
        stamp -= NS
        sec, nanosec = divmod(stamp, NS)
        message.transforms[0].header.stamp.sec = sec
        message.transforms[0].header.stamp.nanosec = nanosec
        return [(name, stamp + 3_000_000, message)]

    found = problems(tmp_path, SHORT.but(edit=before))
    assert len(found) == 1 and found[0].startswith('TCP: no stamp within the time of the images')
    assert 'record longer' not in found[0]


def test_distortion_that_is_not_used_is_a_warning(tmp_path: Path) -> None:
    def distorted(_: float, message) -> None:
        message.d = np.array([0.1, -0.2, 0.0, 0.0, 0.0])

    lines = warnings(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, distorted)))
    assert any(line.startswith('/cam_left/color/camera_info: ') and
               'K is used, distortion is not' in line for line in lines)


def test_cameras_that_look_at_different_times_are_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, SHORT.but(edit=late_by(RIGHT, 40_000_000)), max_skew=0.02)
    assert len(found) == 1 and found[0].startswith('cameras: at most 0.04')
    assert 'max_skew 0.02 s' in found[0]


def test_depth_that_does_not_belong_to_its_colour_is_refused(tmp_path: Path) -> None:
    depth = '/cam_left/aligned_depth_to_color/image_raw'
    lost = heard(depth, lambda seconds: not 0.25 < seconds < 0.35)
    found = problems(tmp_path, Recording(edit=lost))
    assert len(found) == 1 and found[0].startswith(f'{depth}: at most 0.1000 s from its colour')


def _half_size(seconds: float, message) -> None:
    message.width = 32


def _zoomed_midway(seconds: float, message) -> None:
    message.k[0] *= 1.0 if seconds < 0.3 else 1.1


@pytest.mark.parametrize(('edit', 'said'), [
    (heard(LEFT_INFO, lambda seconds: False), '0 different calibrations'),
    (edited({LEFT_INFO}, _zoomed_midway), '2 different calibrations'),
    (edited({LEFT_INFO}, _half_size), '32')],
    ids=['none', 'changes', 'another size'])
def test_one_calibration_of_the_images_is_needed(tmp_path: Path, edit, said: str) -> None:
    found = problems(tmp_path, SHORT.but(edit=edit))
    assert len(found) == 1 and found[0].startswith('/cam_left/color/camera_info: ')
    assert said in found[0]


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_in_several_files_is_one_bag(tmp_path: Path, storage: StoragePlugin) -> None:
    """As `ros2 bag record --max-bag-duration` writes it."""
    def part(of: int):
        def edit(name: str, index: int, stamp: int, message) -> list:
            here = int(stamp >= START + 3 * NS // 10) == of
            return [(name, stamp + 3_000_000, message)] if here else []
        return edit

    whole, first, second = (
        write_bag(tmp_path / name, SHORT.but(storage=storage, edit=edit))
        for name, edit in (('whole', None), ('bag', part(0)), ('more', part(1))))
    file, = (path for path in second.iterdir() if path.name != 'metadata.yaml')
    shutil.move(file, first / file.name)
    one, two = (yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
                for bag in (first, second))
    one['relative_file_paths'] += two['relative_file_paths']
    one['files'] += two['files']
    one['message_count'] += two['message_count']
    one['duration']['nanoseconds'] += two['duration']['nanoseconds']
    for a, b in zip(*(sorted(info['topics_with_message_count'],
                             key=lambda topic: topic['topic_metadata']['name'])
                      for info in (one, two)), strict=False):
        a['message_count'] += b['message_count']
    (first / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': one}))
    map = topic_map(tmp_path / 'map.yaml')
    expected, got = (check(bag, map).records for bag in (whole, first))
    np.testing.assert_array_equal(got.episode.stamps, expected.episode.stamps)
    np.testing.assert_array_equal(got.episode.tcp, expected.episode.tcp)
