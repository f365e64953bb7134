# SPDX-License-Identifier: Apache-2.0
"""Messages <-> value types: exact round trips, every encoding, errors that name the topic."""

from __future__ import annotations

import array
import importlib.util
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2, PointField

from fourdgen_ros.core import images, se3
from fourdgen_ros.core.camera import intrinsics_from_fovy
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.synchroniser import Synchroniser
from fourdgen_ros.core.types import (
    Future,
    GripperCommand,
    GripperTrajectory,
    JointTrajectory,
    MotionPlan,
)
from fourdgen_ros.nodes import conversions as c

STAMP = 1_700_000_000_123_456_789
K = intrinsics_from_fovy(0.7, 6, 8)


def wire(msg):
    """The message as its receiver sees it."""
    return deserialize_message(serialize_message(msg), type(msg))


def image(values: np.ndarray, encoding: str, *, padding: int = 0,
          big_endian: bool = False) -> Image:
    """An image message of (H, W, C) values with `padding` bytes after each row."""
    values = values.astype(values.dtype.newbyteorder('>' if big_endian else '<'))
    rows = [row.tobytes() + b'\xee' * padding for row in values]
    msg = Image(height=values.shape[0], width=values.shape[1], encoding=encoding,
                is_bigendian=int(big_endian), step=len(rows[0]))
    msg.data = array.array('B', b''.join(rows))
    return msg


def rgb(seed: int = 0, shape: tuple[int, ...] = (6, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(('encoding', 'arrange'), [
    ('rgb8', lambda x: x),
    ('bgr8', lambda x: x[..., ::-1]),
    ('8UC3', lambda x: x[..., ::-1]),  # as OpenCV has it, and cv_bridge
    ('rgba8', lambda x: np.dstack([x, x[..., 0]])),
    ('bgra8', lambda x: np.dstack([x[..., ::-1], x[..., 0]])),
])
def test_colour_encodings_become_rgb(encoding, arrange, padding):
    values = rgb()
    out = c.image_to_rgb(wire(image(arrange(values), encoding, padding=padding)))
    np.testing.assert_array_equal(out, values)
    assert out.flags.c_contiguous
    assert out.flags.writeable


def test_grey_becomes_rgb():
    grey = rgb()[..., :1]
    np.testing.assert_array_equal(c.image_to_rgb(image(grey, 'mono8', padding=3)),
                                  np.repeat(grey, 3, axis=2))


@pytest.mark.skipif(importlib.util.find_spec('cv_bridge') is not None,
                    reason='cv_bridge decodes it')
def test_an_encoding_that_needs_cv_bridge_says_so():
    with pytest.raises(InputError, match=r"/cam/image.*'bayer_rggb8'.*cv_bridge.*rgb8"):
        c.image_to_rgb(image(rgb()[..., :1], 'bayer_rggb8'), '/cam/image')


def test_an_encoding_that_cv_bridge_refuses_is_named(monkeypatch):
    class CvBridgeError(TypeError):
        pass

    class CvBridge:
        def imgmsg_to_cv2(self, msg, encoding):
            raise CvBridgeError('[64FC3] is not a color format')

    monkeypatch.setitem(sys.modules, 'cv_bridge', types.SimpleNamespace(
        CvBridge=CvBridge, CvBridgeError=CvBridgeError))
    with pytest.raises(InputError, match=r"/cam/image.*'64FC3'.*not a color format.*rgb8"):
        c.image_to_rgb(image(rgb().astype(float), '64FC3'), '/cam/image')


@pytest.mark.parametrize('late', ['made', 'used'])
def test_a_cv_bridge_that_cannot_be_loaded_says_why(monkeypatch, late):
    """It imports OpenCV when it is made and its own library when it is used: another numpy's."""
    class CvBridge:
        def __init__(self):
            if late == 'made':
                raise ImportError('numpy.core.multiarray failed to import')

        def imgmsg_to_cv2(self, msg, encoding):
            raise ImportError('numpy.core.multiarray failed to import')

    monkeypatch.setitem(sys.modules, 'cv_bridge', types.SimpleNamespace(
        CvBridge=CvBridge, CvBridgeError=TypeError))
    with pytest.raises(InputError, match=r"/cam/image.*'bayer_rggb8', numpy.*failed.*rgb8"):
        c.image_to_rgb(image(rgb()[..., :1], 'bayer_rggb8'), '/cam/image')


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('padding', [0, 6])
def test_depth_in_mm_and_in_m_agree(big_endian, padding):
    mm = np.array([[[0], [1], [999]], [[1000], [65535], [2345]]], np.uint16)
    expected = mm[..., 0].astype(np.float32) / np.float32(1000)
    expected[0, 0] = np.nan
    options = {'padding': padding, 'big_endian': big_endian}
    np.testing.assert_array_equal(c.image_to_depth(wire(image(mm, '16UC1', **options))), expected)
    metres = expected[..., None].copy()
    np.testing.assert_array_equal(
        c.image_to_depth(wire(image(metres, '32FC1', **options))), expected)


def test_every_invalid_depth_becomes_nan():
    values = np.array([[[0.0], [-1.0], [np.inf], [-np.inf], [np.nan], [1.5]]], np.float32)
    np.testing.assert_array_equal(c.image_to_depth(image(values, '32FC1')),
                                  np.array([[np.nan] * 5 + [1.5]], np.float32))


def test_every_depth_in_mm_round_trips():
    mm = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    msg = image(mm, '16UC1')
    again = c.depth_to_image(c.image_to_depth(msg), 0, '')
    assert again.data == msg.data


def test_depth_in_m_round_trips():
    depth = np.random.default_rng(0).uniform(0.1, 5, (6, 8)).astype(np.float32)
    depth[1, 2] = np.nan
    msg = wire(c.depth_to_image(depth, STAMP, 'optical', '32FC1'))
    np.testing.assert_array_equal(c.image_to_depth(msg), depth)
    assert (c.stamp_to_ns(msg.header.stamp), msg.header.frame_id) == (STAMP, 'optical')


def test_depth_beyond_16_bit_is_invalid_not_wrapped():
    depth = np.array([[65.535, 65.6, 100.0]], np.float32)
    np.testing.assert_array_equal(c.image_to_depth(c.depth_to_image(depth, 0, '')),
                                  np.array([[65.535, np.nan, np.nan]], np.float32))


def test_colour_and_mono_round_trip():
    np.testing.assert_array_equal(c.image_to_rgb(wire(c.rgb_to_image(rgb(), STAMP, 'x'))), rgb())
    mono = rgb()[..., 1]
    np.testing.assert_array_equal(c.image_to_mono(wire(c.mono_to_image(mono, STAMP, 'x'))), mono)


@pytest.mark.parametrize('change', [{'step': 10}, {'height': 7}, {'width': 0}])
def test_an_image_whose_size_and_data_disagree_is_refused(change):
    msg = image(rgb(), 'rgb8')
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(InputError, match='image /cam/color; expected'):
        c.image_to_rgb(msg, '/cam/color')


def test_a_colour_image_on_the_depth_topic_is_refused():
    with pytest.raises(InputError, match=r"depth image /d; expected 16UC1.*got 'rgb8'"):
        c.image_to_depth(image(rgb(), 'rgb8'), '/d')


def test_camera_info_round_trips():
    msg = wire(c.K_to_camera_info(K, 6, 8, STAMP, 'optical'))
    np.testing.assert_array_equal(c.camera_info_to_K(msg, 6, 8), K)
    assert msg.p[2] == K[0, 2]


def test_camera_info_of_another_size_is_refused_by_topic():
    msg = c.K_to_camera_info(K, 6, 8, 0, '')
    with pytest.raises(InputError, match='/info; expected the image size 16x12; got 8x6'):
        c.camera_info_to_K(msg, 12, 16, '/info')


def test_an_uncalibrated_camera_is_refused():
    with pytest.raises(InputError, match='positive focal lengths'):
        c.camera_info_to_K(CameraInfo(height=6, width=8), 6, 8)


def test_a_calibration_that_may_not_be_that_of_the_images():
    msg = c.K_to_camera_info(K, 6, 8, 0, '')
    assert images.calibration_doubt(msg, '/info') == ''
    msg.d = [0.0, 0.1, 0.0, 0.0, 0.0]
    assert 'distortion in info (topic /info) is not 0' in images.calibration_doubt(msg, '/info')
    assert images.calibration_doubt(msg, '/info', rectified=True) == ''
    msg.d, p = [], msg.p.copy()
    assert images.calibration_doubt(msg, '/info') == ''
    p[0] *= 1.1
    msg.p = p
    assert f'fx {K[0, 0]:.1f} in K and {1.1 * K[0, 0]:.1f} in P' in images.calibration_doubt(
        msg, '/info')
    assert images.calibration_doubt(msg, '/info', rectified=True) == ''
    msg.p = np.zeros(12)  # of a driver that does not fill it in
    assert images.calibration_doubt(msg, '/info') == ''


def test_rectified_images_have_the_calibration_of_p():
    msg = c.K_to_camera_info(K, 6, 8, 0, '')
    msg.p = 2.0 * msg.p
    views = [c.view_from_msgs('a', image(rgb(), 'rgb8'), c.depth_to_image(
        np.ones((6, 8), np.float32), 0, ''), msg, rectified=rectified)
        for rectified in (False, True)]
    np.testing.assert_array_equal(views[0].K, K)
    np.testing.assert_array_equal(views[1].K[:2], 2.0 * K[:2])


def test_a_synchronised_set_becomes_an_observation():
    sync = Synchroniser(('a', 'b'))
    depth = np.full((6, 8), 1.25, np.float32)
    for i, camera in enumerate(sync.cameras):
        frame = f'{camera}_optical'
        sync.add(camera, 'info', 0, c.K_to_camera_info(K, 6, 8, 0, frame))
        sync.add(camera, 'color', STAMP + i, c.rgb_to_image(rgb(i), STAMP + i, frame))
        sync.add(camera, 'depth', STAMP + i, c.depth_to_image(depth, STAMP + i, frame))
    observation = c.observation_from_set(sync.latest(), sync.cameras)
    assert [v.camera for v in observation.views] == ['a', 'b']
    assert [v.frame_id for v in observation.views] == ['a_optical', 'b_optical']
    assert [v.stamp for v in observation.views] == [STAMP, STAMP + 1]
    for i, view in enumerate(observation.views):
        np.testing.assert_array_equal(view.rgb, rgb(i))
        np.testing.assert_array_equal(view.depth, depth)


def test_depth_that_is_not_aligned_is_refused():
    with pytest.raises(InputError, match='align_depth'):
        c.view_from_msgs('a', image(rgb(), 'rgb8'),
                         c.depth_to_image(np.ones((3, 4), np.float32), 0, ''), CameraInfo())


def test_clouds_round_trip_organised():
    points = np.random.default_rng(1).normal(size=(6, 8, 3)).astype(np.float32)
    points[2, 3] = np.nan
    msg = wire(c.points_to_cloud(points, rgb(), STAMP, 'optical'))
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (6, 8, 16, 128)
    assert [(f.name, f.offset) for f in msg.fields] == [('x', 0), ('y', 4), ('z', 8), ('rgb', 12)]
    out, colour = c.cloud_to_points(msg)
    np.testing.assert_array_equal(out, points)
    np.testing.assert_array_equal(colour, rgb())


def test_clouds_of_another_layout_are_read():
    row = np.dtype([('pad', 'u1', 4), ('z', '>f4'), ('y', '>f4'), ('x', '>f4'), ('rgb', '>u4')])
    data = np.zeros((1, 2), row)
    data['x'], data['y'], data['z'], data['rgb'] = 1.0, 2.0, 3.0, 0x0A0B0C
    msg = PointCloud2(height=1, width=2, point_step=row.itemsize, row_step=2 * row.itemsize,
                      is_bigendian=True)
    msg.fields = [PointField(name=n, offset=row.fields[n][1], datatype=PointField.FLOAT32, count=1)
                  for n in ('z', 'y', 'x', 'rgb')]
    msg.data = array.array('B', data.tobytes())
    points, colour = c.cloud_to_points(msg)
    np.testing.assert_array_equal(points, np.broadcast_to([1.0, 2.0, 3.0], (1, 2, 3)))
    np.testing.assert_array_equal(colour, np.broadcast_to([10, 11, 12], (1, 2, 3)))


def test_a_cloud_without_colour_is_refused():
    with pytest.raises(InputError, match='x y z rgb'):
        c.cloud_to_points(PointCloud2())


def future() -> Future:
    rng = np.random.default_rng(3)
    shape = (2, 3, 6, 8)
    valid = rng.random(shape) > 0.2
    points = rng.normal(size=(*shape, 3)).astype(np.float32)
    points[~valid] = np.nan
    return Future(
        rgb=rgb(4, shape), points=points, valid=valid,
        gripper=rng.integers(0, 256, shape).astype(np.float32) / np.float32(255), dt=0.4,
        K=np.stack([K, K * [[2.0], [2.0], [1.0]]]), cameras=('left', 'right'), stamp=STAMP,
        generator='tiny', frame_id='left_color_optical_frame', seed=2**63 + 1, steps=7,
        frame_ids=('left_color_optical_frame', 'zed_optical'),
        clamp_ratio=0.25, timings={'encode': 0.1, 'sample': 0.7},
        opening=np.array([0.08, 0.07, 0.05], np.float32))


def test_a_future_round_trips_bit_exactly():
    before = future()
    msg = wire(c.future_to_msg(before, 'f1'))
    assert msg.future_id == 'f1'
    for image in (msg.images[4], msg.gripper_masks[4], msg.camera_info[1]):
        assert image.header.frame_id == 'zed_optical'
    assert msg.points[4].header.frame_id == 'left_color_optical_frame'
    after = c.future_from_msg(msg)
    for name in before.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name), err_msg=name)


def test_numbers_of_numpy_in_a_future_are_sent():
    """ROS's own serialisation ends the process where a field is no int of Python."""
    counted = Future(**{**vars(future()), 'seed': np.int64(3), 'steps': np.int32(4)})
    after = c.future_from_msg(wire(c.future_to_msg(counted, 'f1')))
    assert (after.seed, after.steps) == (3, 4)


def test_a_future_that_does_not_tell_the_opening_stays_so():
    silent = Future(**{**vars(future()), 'opening': None})
    assert c.future_from_msg(wire(c.future_to_msg(silent, 'f1'))).opening is None


def test_invalid_points_of_a_future_are_sent_as_nan():
    before = future()
    points = np.where(np.isnan(before.points), np.float32(9), before.points)
    msg = c.future_to_msg(Future(**{**vars(before), 'points': points}), 'f1')
    np.testing.assert_array_equal(c.future_from_msg(msg).valid, before.valid)


def test_a_future_with_missing_frames_is_refused():
    msg = c.future_to_msg(future(), 'f1')
    msg.points.pop()
    with pytest.raises(InputError, match=r'points of future f1; expected 6 .*got 5'):
        c.future_from_msg(msg)


@given(st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_poses_round_trip(twist):
    T = se3.exp(np.array(twist))
    np.testing.assert_allclose(c.pose_to_matrix(wire(c.matrix_to_pose(T))), T, atol=1e-14)
    np.testing.assert_allclose(c.transform_to_matrix(wire(c.matrix_to_transform(T))), T, atol=1e-14)


def test_an_unset_quaternion_is_refused():
    pose = c.matrix_to_pose(np.eye(4))
    pose.orientation.w = 0.0
    with pytest.raises(InputError, match='pose; expected a unit quaternion'):
        c.pose_to_matrix(pose)


def test_a_gripper_trajectory_round_trips():
    rng = np.random.default_rng(5)
    before = GripperTrajectory(np.stack([se3.exp(t) for t in rng.normal(size=(4, 6))]),
                               rng.random(4), rng.random(4), np.arange(4) * 0.4, 'cam', STAMP)
    msg = wire(c.gripper_trajectory_to_msg(before, 'f1'))
    after = c.gripper_trajectory_from_msg(msg)
    assert msg.future_id == 'f1'
    assert (after.frame_id, after.stamp) == ('cam', STAMP)
    for name in ('opening', 'confidence', 'times'):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_allclose(after.poses, before.poses, atol=1e-14)


def joint_trajectory() -> JointTrajectory:
    rng = np.random.default_rng(6)
    return JointTrajectory(('a', 'b'), np.array([0.0, 0.1, 0.25, 1.000000001]),
                           *rng.normal(size=(3, 4, 2)))


def test_a_plan_round_trips_bit_exactly_over_two_clocks():
    path = np.stack([se3.exp(t) for t in np.random.default_rng(7).normal(size=(3, 6))])
    before = MotionPlan('id', (joint_trajectory(), GripperCommand(0.0, 12.5)), {'box': '0.1 m'},
                        STAMP, 77_000, 5, path)
    msg = wire(c.motion_plan_to_msg(before, 'base', ros_now_ns=STAMP, steady_now_ns=70_000))
    assert msg.header.frame_id == 'base'
    assert c.stamp_to_ns(msg.expires) == STAMP + 7_000
    after = c.motion_plan_from_msg(msg, ros_now_ns=STAMP + 10, steady_now_ns=70_010)
    for name in ('plan_id', 'checks', 'stamp', 'expiry', 'frames'):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_allclose(after.tcp_path, path, atol=1e-14)
    arm, gripper = after.segments
    for name in arm.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(arm, name), getattr(joint_trajectory(), name))
    assert (gripper.opening, gripper.max_effort) == (0.0, 12.5)


def test_a_trajectory_without_velocities_is_refused():
    msg = c.joint_trajectory_to_msg(joint_trajectory())
    msg.points[2].velocities = []
    with pytest.raises(InputError, match='velocities of trajectory point 2; expected 2 values'):
        c.joint_trajectory_from_msg(msg)


@given(st.integers(-2**31 * 10**9, 2**31 * 10**9 - 1))
def test_stamps_round_trip(ns):
    assert c.stamp_to_ns(c.ns_to_stamp(ns)) == ns


def test_joint_states_with_and_without_velocity():
    msg = JointState(name=['a', 'b'], position=[1.0, 2.0], velocity=[3.0, 4.0])
    assert c.joint_state_to_dict(msg) == {'a': (1.0, 3.0), 'b': (2.0, 4.0)}
    msg.velocity = []
    assert np.isnan(c.joint_state_to_dict(msg)['b'][1])
    msg.position.pop()
    with pytest.raises(InputError, match='expected 2 positions'):
        c.joint_state_to_dict(msg)
    msg.position = []  # efforts only
    assert c.joint_state_to_dict(msg) == {}
