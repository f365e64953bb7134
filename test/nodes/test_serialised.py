# SPDX-License-Identifier: Apache-2.0
"""Serialised camera messages: the stamp is read where rmw put it, the rest on demand."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from camera_server import DEPTH, K, millimetres, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.synchroniser import Synchroniser
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.serialised import deserialised, serialised_stamp

TYPES = {'color': Image, 'depth': Image, 'info': CameraInfo}


@settings(deadline=None)
@given(st.integers(0, 2**31 * 10**9 - 1), st.text('abc_/', max_size=30),
       st.sampled_from([Image, CompressedImage, CameraInfo]))
def test_the_stamp_is_that_of_the_header(stamp: int, frame_id: str, kind: type) -> None:
    message = kind(header=Header(stamp=conversions.ns_to_stamp(stamp), frame_id=frame_id))
    assert serialised_stamp(serialize_message(message)) == stamp


def test_the_stamp_of_a_machine_with_the_other_byte_order() -> None:
    assert serialised_stamp(b'\0\0\0\0' + struct.pack('>iI', 3, 7)) == 3_000_000_007
    assert serialised_stamp(b'\0\1\0\0' + struct.pack('<iI', 3, 7)) == 3_000_000_007


def test_names_the_topic_of_what_is_no_message() -> None:
    with pytest.raises(InputError, match='message /cam/color/image_raw; expected a serialised'):
        serialised_stamp(b'\0\1\0\0', '/cam/color/image_raw')


def test_a_set_of_bytes_becomes_an_observation() -> None:
    sync = Synchroniser(('a', 'b'))
    metres = millimetres().astype(np.float32) / 1000.0
    for camera in sync.cameras:
        height, width = metres.shape
        for kind, message in (
                ('info', conversions.K_to_camera_info(K, height, width, 5, 'f')),
                ('color', conversions.rgb_to_image(picture(), 5, 'f')),
                ('depth', conversions.depth_to_image(metres, 5, 'f'))):
            data = serialize_message(message)
            sync.add(camera, kind, serialised_stamp(data), data)
    synced = deserialised(sync.latest(), TYPES)
    assert (synced.stamp, synced.skew_s) == (5, 0.0)
    observation = conversions.observation_from_set(synced, sync.cameras)
    for view in observation.views:
        np.testing.assert_array_equal(view.rgb, picture())
        np.testing.assert_allclose(view.depth[1:], DEPTH, atol=1e-3)
