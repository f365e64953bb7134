# SPDX-License-Identifier: Apache-2.0
"""What a bag says of the cell: calibration, static links, fingers, and where the cameras look."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.data.bag_job import check

from .data_bags import NS, START, TCP, Recording, camera_pose, topic_map, write_bag
from .data_checks import LEFT_INFO, SHORT, changed, edited, problems, warnings

RECTIFIED = ('cameras', 'cam_left', 'rectified')
P = np.array([50.0, 0, 30, 0, 0, 50, 22, 0, 0, 0, 1, 0])


def _rectified(_: float, message) -> None:
    message.p, message.d = P, np.array([-0.3, 0.1, 0.0, 0.0, 0.0])


def _binned(_: float, message) -> None:
    message.binning_x = message.binning_y = 2


def _cut_out(_: float, message) -> None:
    message.roi.x_offset, message.roi.y_offset = 10, 6
    message.roi.width, message.roi.height = 64, 48


def _other_frame(_: float, message) -> None:
    message.header.frame_id = 'cam_left_depth_optical_frame'


def test_a_projection_that_is_not_k_is_a_warning(tmp_path: Path) -> None:
    line, = (w for w in warnings(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, _rectified)))
             if 'of P' in w)
    assert line.startswith(f'{LEFT_INFO}: fx 60.0 of K, 50.0 of P')
    assert 'rectified: true' in line and str(tmp_path / 'map.yaml') in line


def test_rectified_images_get_their_projection_and_no_warning(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT.but(edit=edited({LEFT_INFO}, _rectified)))
    report = check(bag, changed(tmp_path, *RECTIFIED, to=True))
    np.testing.assert_array_equal(report.records.episode.K[0], P.reshape(3, 4)[:, :3])
    assert [f.verdict for f in report.findings if f.what == LEFT_INFO] == ['ok']


def test_rectified_images_need_a_projection(tmp_path: Path) -> None:
    report = check(write_bag(tmp_path / 'bag', SHORT), changed(tmp_path, *RECTIFIED, to=True))
    line, = report.bad
    assert line.what == LEFT_INFO and 'expected P with positive focal lengths' in line.found


@pytest.mark.parametrize(('change', 'said'), [
    (_binned, 'binning 2x2'), (_cut_out, 'region of interest from (10, 6)')])
def test_a_calibration_of_other_pixels_is_bad(tmp_path: Path, change, said: str) -> None:
    line, = problems(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, change)))
    assert line.startswith(f'{LEFT_INFO}: {said}')


def test_a_calibration_of_another_frame_is_a_warning(tmp_path: Path) -> None:
    assert any(line.startswith(f"{LEFT_INFO}: frame 'cam_left_depth_optical_frame', colour in "
                               "'cam_left_color_optical_frame'")
               for line in warnings(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, _other_frame))))


@pytest.mark.parametrize('change', [_rectified, _binned, _cut_out], ids=['P', 'binning', 'ROI'])
def test_a_calibration_that_changes_midway_is_bad(tmp_path: Path, change) -> None:
    def midway(seconds: float, message) -> None:
        if seconds > 0.3:
            change(seconds, message)

    line, = problems(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, midway)))
    assert line.startswith(f'{LEFT_INFO}: 2 different calibrations')


CAMERA_FRAME = 'cam_left_color_optical_frame'


def again(change, seconds: float, topic: str = '/tf_static'):
    """An edit that publishes the left camera's static link once more, changed, on a topic."""
    def edit(name: str, index: int, stamp: int, message) -> list:
        if name != '/tf_static' or message.transforms[0].child_frame_id != CAMERA_FRAME:
            return [(name, stamp + 3_000_000, message)]
        later, stamp = copy.deepcopy(message), START + round(seconds * NS)
        later.transforms[0].header.stamp.sec, later.transforms[0].header.stamp.nanosec = divmod(
            stamp, NS)
        change(later.transforms[0])
        return [(name, START, message), (topic, stamp + 1_000_000, later)]
    return edit


def _shift(metres: float):
    def change(link) -> None:
        link.transform.translation.x += metres
    return change


def _other_parent(link) -> None:
    link.header.frame_id = 'world'


@pytest.mark.parametrize(('change', 'said'), [
    (_shift(0.2), ('first in panda_link0 at [0.5, -0.1, 1.0] m',
                   'later in panda_link0 at [0.7, -0.1, 1.0] m')),
    (_other_parent, ('first in panda_link0', 'later in world'))], ids=['pose', 'parent'])
def test_a_static_link_that_changes_is_bad(tmp_path: Path, change, said: tuple[str, str]) -> None:
    line, = problems(tmp_path, SHORT.but(edit=again(change, 0.4)))
    assert line.startswith(f'/tf_static of {CAMERA_FRAME}: ')
    assert all(part in line for part in said)


def test_a_static_link_that_is_repeated_is_taken(tmp_path: Path) -> None:
    assert problems(tmp_path, SHORT.but(edit=again(_shift(5e-4), 0.4))) == []


def test_a_static_link_that_is_also_on_tf_stays_static(tmp_path: Path) -> None:
    """realsense2_camera with tf_publish_rate: TF every now and then, of what does not move."""
    bag = write_bag(tmp_path / 'bag', Recording(edit=again(_shift(5e-4), 0.9, '/tf')))
    report = check(bag, topic_map(tmp_path / 'map.yaml'))
    assert report.bad == []
    np.testing.assert_allclose(report.records.episode.T_base_camera[:, 0], np.broadcast_to(
        camera_pose(0), (len(report.records.episode), 4, 4)), atol=1e-9)


def test_a_static_link_that_moves_on_tf_is_not_static(tmp_path: Path) -> None:
    line, = problems(tmp_path, SHORT.but(edit=again(_shift(0.2), 0.4, '/tf')))
    assert line.startswith('pose of cam_left: ') and 'is not known at the wanted time' in line


def _mirrored(_: float, message) -> None:
    message.position[8] *= -1.0


def _one_finger(_: float, message) -> None:
    message.position[8] = 0.0


def test_fingers_that_cancel_out_are_bad(tmp_path: Path) -> None:
    line, = problems(tmp_path, SHORT.but(edit=edited({'/joint_states'}, _mirrored)))
    assert line.startswith('/joint_states: panda_finger_joint1 moves by 0.0')
    assert 'the mean of gripper.joints by 0.0000' in line
    assert f'Name one of them in {tmp_path / "map.yaml"}' in line


def test_a_finger_that_stands_still_cancels_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path, SHORT.but(edit=edited({'/joint_states'}, _one_finger))) == []


def _body_frame(_: float, message) -> None:
    """The link that x is forward of, as camera_link: the optical frame is turned in it."""
    body_optical = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    for t in message.transforms:
        q = t.transform.rotation
        turned = se3.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w])) @ body_optical.T
        q.x, q.y, q.z, q.w = se3.quaternion_from_matrix(turned)


def _of_robot1(topic: str, index: int, stamp: int, message) -> list:
    name = f'/robot1{topic}' if topic == '/tf' or (topic == '/tf_static' and index == 1) else topic
    return [(name, stamp + 3_000_000, message)]


def test_transforms_of_a_namespace_are_named_and_read(tmp_path: Path) -> None:
    """One robot of several: its transforms, and those of a camera that is on it, are its own."""
    bag = write_bag(tmp_path / 'bag', SHORT.but(edit=_of_robot1))
    line, = (str(f) for f in check(bag, topic_map(tmp_path / 'map.yaml')).bad)
    assert line.startswith('TCP: ') and '/robot1/tf, /robot1/tf_static' in line, line
    report = check(bag, topic_map(
        tmp_path / 'map.yaml', tf=['/robot1/tf'], tf_static=['/tf_static', '/robot1/tf_static']))
    assert report.bad == []
    np.testing.assert_allclose(report.records.episode.T_base_camera[0, 1], camera_pose(1))


def test_clocks_of_transforms_in_a_namespace_are_compared(tmp_path: Path) -> None:
    def late(name: str, index: int, stamp: int, message) -> list:
        return [(topic, at + (800_000_000 if topic == '/robot1/tf' else 0), m)
                for topic, at, m in _of_robot1(name, index, stamp, message)]

    bag = write_bag(tmp_path / 'bag', Recording(edit=late))
    found = check(bag, topic_map(tmp_path / 'map.yaml', tf=['/robot1/tf'],
                                 tf_static=['/tf_static', '/robot1/tf_static'])).bad
    assert any(str(f).startswith('/robot1/tf: stamps are 800 ms behind') for f in found), found


def test_a_camera_that_moves_is_a_warning(tmp_path: Path) -> None:
    """Of a wrist: data sets take it, training does not."""
    def carried(_: float, message) -> None:
        for t in message.transforms:
            if t.child_frame_id.startswith('cam_left'):
                t.header.frame_id = TCP

    lines = warnings(tmp_path, Recording(seconds=2.0, edit=edited({'/tf_static'}, carried)))
    assert any(line.startswith('pose of cam_left: moves by ') and 'data cache' in line
               for line in lines), lines


def test_a_camera_that_does_not_see_the_hand_is_a_warning(tmp_path: Path) -> None:
    lines = warnings(tmp_path, SHORT.but(edit=edited({'/tf_static'}, _body_frame)))
    for camera in ('cam_left', 'cam_right'):
        assert any(line.startswith(f'pose of {camera}: the TCP is in its image in 0 of 7 records')
                   and 'z forward' in line for line in lines)


def test_cameras_that_see_the_hand_give_no_warning(tmp_path: Path) -> None:
    assert [line.split(':')[0] for line in warnings(tmp_path, SHORT)] == ['outcome']


@pytest.mark.parametrize(('joint', 'name'), [(0, 'panda_joint1'), (7, 'panda_finger_joint1')])
def test_a_position_that_is_no_number_is_named(tmp_path: Path, joint: int, name: str) -> None:
    def once(seconds: float, message) -> None:
        if abs(seconds - 0.2) < 1e-3:
            message.position[joint] = np.nan

    line, = problems(tmp_path, SHORT.but(edit=edited({'/joint_states'}, once)))
    assert line.startswith(f'/joint_states: {name} is nan 0.4 s after the first message')


def test_two_publishers_of_the_same_joints_are_sorted(tmp_path: Path) -> None:
    def twice(name: str, index: int, stamp: int, message) -> list:
        if name != '/joint_states':
            return [(name, stamp + 3_000_000, message)]
        other = copy.deepcopy(message)
        other.header.stamp.sec, other.header.stamp.nanosec = divmod(stamp - 2_000_000, NS)
        return [(name, stamp + 3_000_000, message), (name, stamp + 4_000_000, other)]

    assert problems(tmp_path, SHORT.but(edit=twice)) == []


def test_fingers_on_a_topic_of_their_own_are_offered(tmp_path: Path) -> None:
    """As franka_gripper publishes them; then arm and fingers each come with others in the map."""
    def apart(name: str, index: int, stamp: int, message) -> list:
        entries = [(name, stamp + 3_000_000, message)]
        if name == '/joint_states':
            fingers = copy.copy(message)
            fingers.name, fingers.position = message.name[7:], message.position[7:]
            message.name, message.position = message.name[:7], message.position[:7]
            entries.append(('/panda_gripper/joint_states', stamp + 3_000_000, fingers))
        return entries

    bag = write_bag(tmp_path / 'bag', SHORT.but(edit=apart))
    line, = check(bag, topic_map(tmp_path / 'map.yaml')).bad
    assert line.found.startswith('no message with all of panda_finger_joint1'), line
    assert line.next.endswith('The bag also has /panda_gripper/joint_states.'), line
    line, = check(bag, changed(tmp_path, 'joints', 'topic', to='/franka/joint_states')).bad[:1]
    assert line.found == 'no messages', line
    assert line.next.endswith('The bag also has /panda_gripper/joint_states.'), line


def test_joint_states_without_names_are_named(tmp_path: Path) -> None:
    def nameless(_: float, message) -> None:
        message.name, message.position = [], np.zeros(0)

    line, = problems(tmp_path, SHORT.but(edit=edited({'/joint_states'}, nameless)))
    assert 'no message with all of panda_joint1, ' in line
    assert '; no joint has a name and a position -> Does its publisher' in line
