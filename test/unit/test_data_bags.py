# SPDX-License-Identifier: Apache-2.0
"""Bags of every storage become records; what is wrong with a bag is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
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

SHORT = Recording(seconds=0.6)
LEFT = '/cam_left/color/image_raw'
LEFT_DEPTH = '/cam_left/aligned_depth_to_color/image_raw'


def problems(tmp_path: Path, what: Recording, **changes) -> list[str]:
    """Bad lines of the report about a bag."""
    bag = write_bag(tmp_path / 'bag', what)
    report = check(bag, topic_map(tmp_path / 'map.yaml', compressed=what.compressed, **changes))
    return [f'{f.what}: {f.found} -> {f.next}' for f in report.bad]


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
    import yaml

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


def shifted(topic: str, first: int, last: int, ns: int, *, received: bool):
    """An edit that moves the stamps of some messages of a topic, with or without reception."""
    def edit(name: str, index: int, stamp: int, message) -> list:
        if name == topic and first <= index < last:
            sec, nanosec = divmod(stamp + ns, NS)
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
        return [(name, stamp + 3_000_000 + (ns if received and name == topic else 0), message)]
    return edit


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


def test_a_camera_that_is_renamed_midway_is_named(tmp_path: Path) -> None:
    def renamed(topic: str, index: int, stamp: int, message) -> list:
        new = topic.replace('cam_left', 'cam_front') if index >= 6 else topic
        return [(new, stamp + 3_000_000, message)]

    text = '\n'.join(problems(tmp_path, Recording(edit=renamed)))
    assert f'{LEFT}: ends 1.' in text and 'Renamed midway' in text
    assert '/cam_front/color/image_raw' in text


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
