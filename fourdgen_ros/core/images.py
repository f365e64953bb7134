# SPDX-License-Identifier: Apache-2.0
"""What image and camera info messages hold, as arrays.

The messages may be those of ROS or of any reader of bags: only the fields of sensor_msgs/Image and
CameraInfo are used. Row padding (`step`) and byte order are respected. `topic` arguments only serve
error texts; malformed messages raise InputError.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError

# encoding -> (channels, channel order that gives RGB)
COLOR: dict[str, tuple[int, slice | list[int]]] = {
    'rgb8': (3, slice(0, 3)),
    'bgr8': (3, slice(2, None, -1)),
    '8UC3': (3, slice(2, None, -1)),  # of OpenCV
    'rgba8': (4, slice(0, 3)),
    'bgra8': (4, slice(2, None, -1)),
    'mono8': (1, [0, 0, 0]),
}
DEPTH = {'16UC1': np.uint16, 'mono16': np.uint16, '32FC1': np.float32}
_SAME_FOCUS = 1e-3  # of the focal length: two writings of one calibration


def pixels(msg: Any, dtype: type, channels: int, topic: str = '') -> NDArray:
    """(H, W, channels) view of an image's data in its byte order, without row padding."""
    kind = np.dtype(dtype).newbyteorder('>' if msg.is_bigendian else '<')
    row = msg.width * channels * kind.itemsize
    if msg.height == 0 or msg.width == 0 or msg.step < row or (
            len(msg.data) < msg.step * (msg.height - 1) + row):
        raise InputError(
            f'image {topic}', expected=f'{msg.height} rows of {row} bytes for {msg.encoding}',
            got=f'step {msg.step}, {len(msg.data)} bytes')
    return np.ndarray((msg.height, msg.width, channels), kind, memoryview(msg.data),
                      strides=(msg.step, channels * kind.itemsize, kind.itemsize))


def color_pixels(msg: Any, topic: str = '') -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image with one of the encodings `COLOR`."""
    if msg.encoding not in COLOR:
        raise InputError(f'encoding of image {topic}', expected=', '.join(COLOR),
                         got=repr(msg.encoding), hint='Set the camera to rgb8.')
    channels, order = COLOR[msg.encoding]
    return np.array(pixels(msg, np.uint8, channels, topic)[..., order], order='C')


def depth_pixels(msg: Any, topic: str = '') -> NDArray[np.uint16] | NDArray[np.float32]:
    """(H, W) as sent: uint16 mm of a 16UC1 image or float32 m of a 32FC1 image (REP 118)."""
    if msg.encoding not in DEPTH:
        raise InputError(f'encoding of depth image {topic}', expected='16UC1 (mm) or 32FC1 (m)',
                         got=repr(msg.encoding),
                         hint='Use the depth image that is aligned to colour.')
    kind = DEPTH[msg.encoding]
    return pixels(msg, kind, 1, topic)[..., 0].astype(kind)


def metres(depth: NDArray[np.uint16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 m of what `depth_pixels` gives; 0, negative and non-finite values become NaN."""
    out = depth.astype(np.float32)
    if depth.dtype.kind == 'u':
        out /= np.float32(1000.0)
    out[~((out > 0) & np.isfinite(out))] = np.nan
    return out


def camera_info_to_K(msg: Any, height: int, width: int, topic: str = '', *,
                     rectified: bool = False) -> NDArray[np.float64]:
    """K (3, 3) of the camera whose image is (height, width); that of P when it is `rectified`.

    Raises InputError when the info is for another size (K would be wrong) or K is not positive.
    """
    if (msg.height, msg.width) != (height, width):
        raise InputError(f'camera info {topic}', expected=f'the image size {width}x{height}',
                         got=f'{msg.width}x{msg.height}',
                         hint='Calibrate at this resolution, or publish a scaled camera info.')
    name, values = ('P', msg.p) if rectified else ('K', msg.k)
    K = np.array(values, float).reshape(3, -1)[:, :3]
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise InputError(f'camera info {topic}', expected=f'{name} with positive focal lengths',
                         got=str(K.tolist()), hint='The camera is not calibrated.')
    return K


def calibration_doubt(msg: Any, topic: str = '', *, rectified: bool = False) -> str:
    """What in a camera info speaks against K being that of the images, '' where nothing does.

    K is that of a camera without distortion; of `rectified` images, of which P tells, nothing is
    said.
    """
    if rectified:
        return ''
    doubts = []
    if np.any(msg.d):
        doubts.append(f'distortion in info (topic {topic}) is not 0, and K is used as if it were: '
                      'rectify the images (image_proc)')
    K, P = (np.array(values, float).reshape(3, -1) for values in (msg.k, msg.p))
    if P[0, 0] > 0 and not np.allclose(P[[0, 1], [0, 1]], K[[0, 1], [0, 1]], rtol=_SAME_FOCUS):
        doubts.append(f'info (topic {topic}) has fx {K[0, 0]:.1f} in K and {P[0, 0]:.1f} in P, and '
                      'K is used: set `rectified` where the images are rectified (image_rect)')
    return '; '.join(doubts)
