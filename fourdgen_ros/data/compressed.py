# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CompressedImage of image_transport's plugins -> arrays.

`format` is '<encoding>; <codec> compressed <channels>' for colour and '<encoding>; compressedDepth
<codec>' for depth; old publishers leave out the encoding or the codec. Data of compressedDepth
begins with 12 bytes: an int32 and two float32, the parameters of the inverse depth in which 32FC1
is coded. `topic` arguments only serve error texts. Messages may be those of ROS or of a reader of
bags: only `format` and `data` are used.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from fourdgen_ros.core import images, rvl
from fourdgen_ros.core.errors import InputError

PNG = b'\x89PNG\r\n\x1a\n'
_HEADER = np.dtype([('format', '<i4'), ('a', '<f4'), ('b', '<f4')])
_SIZE = np.dtype([('width', '<u4'), ('height', '<u4')])
_MAX_PIXELS = 2**26  # more than any depth camera has: a larger image is a damaged header


def compressed_to_rgb(msg: Any, topic: str = '') -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG or PNG image of 8 bits per channel."""
    if 'compressedDepth' in msg.format:
        raise InputError(f'compressed image {topic}', expected='colour', got=repr(msg.format),
                         hint='Set color_transport and depth_transport, or swap the topics.')
    image = _open(bytes(msg.data), msg.format, topic)
    if image.mode.startswith(('I', 'F')):
        raise InputError(f'compressed image {topic}', expected='8 bits per channel',
                         got=f'{msg.format!r}, mode {image.mode}', hint='Is it a depth image?')
    rgb = np.asarray(image.convert('RGB'))
    # The codecs of OpenCV take channels as BGR; who gave them RGB has swapped them in the file.
    return np.ascontiguousarray(rgb[..., ::-1] if 'compressed rgb' in msg.format else rgb)


def compressed_to_depth(msg: Any, topic: str = '') -> NDArray[np.float32]:
    """(H, W) float32 m along z; invalid is NaN. See `compressed_depth_pixels`."""
    return images.metres(compressed_depth_pixels(msg, topic))


def compressed_depth_pixels(
        msg: Any, topic: str = '') -> NDArray[np.uint16] | NDArray[np.float32]:
    """(H, W) uint16 mm of lossless 16UC1, or float32 m of 32FC1, which is sent as inverse depth.

    PNG and RVL, with the header of compressedDepth or, for 16UC1 in PNG, without. cv_bridge calls
    the last only 'png'. Raises InputError for what is not lossless depth or is damaged.
    """
    encoding, _, rest = (part.strip() for part in msg.format.partition(';'))
    data = bytes(msg.data)
    if encoding == 'png' and data.startswith(PNG):
        encoding = '16UC1'
    if encoding not in ('16UC1', 'mono16', '32FC1') or 'jpeg' in rest:
        raise InputError(
            f'compressed depth image {topic}', expected='16UC1 or 32FC1, lossless',
            got=repr(msg.format), hint='Set depth_transport to compressedDepth (or raw): JPEG '
                                       'destroys depth.')
    if data.startswith(PNG):
        header, body = None, data
    else:
        header, body = _unpack(_HEADER, data, msg.format, topic)
    raw = _rvl(body, msg.format, topic) if 'rvl' in rest else _png(body, msg.format, topic)
    if encoding != '32FC1':
        return raw
    if header is None:
        raise InputError(f'compressed depth image {topic}', expected='12 bytes before the PNG',
                         got='none', hint='32FC1 is coded with parameters that stand there.')
    with np.errstate(divide='ignore'):
        depth = header['a'] / (raw.astype(np.float32) - header['b'])
    depth[raw == 0] = np.nan
    return depth


def _open(data: bytes, form: str, topic: str) -> PILImage.Image:
    try:
        image = PILImage.open(io.BytesIO(data), formats=('JPEG', 'PNG'))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f'compressed image {topic}', expected='a whole JPEG or PNG file',
                         got=f'{len(data)} bytes with format {form!r}: {error}') from error
    return image


def _png(data: bytes, form: str, topic: str) -> NDArray[np.uint16]:
    image = _open(data, form, topic)
    if not image.mode.startswith('I'):
        raise InputError(f'compressed depth image {topic}', expected='16 bits in one channel',
                         got=f'mode {image.mode} with format {form!r}')
    return np.asarray(image).astype(np.uint16)


def _rvl(data: bytes, form: str, topic: str) -> NDArray[np.uint16]:
    size, body = _unpack(_SIZE, data, form, topic)
    pixels = int(size['width']) * int(size['height'])
    if not 0 < pixels <= _MAX_PIXELS:
        raise InputError(f'compressed depth image {topic}', expected='a size',
                         got=f'{size["width"]}x{size["height"]} with format {form!r}')
    return rvl.decode(body, pixels).reshape(int(size['height']), int(size['width']))


def _unpack(dtype: np.dtype, data: bytes, form: str, topic: str) -> tuple[np.void, bytes]:
    if len(data) <= dtype.itemsize:
        raise InputError(f'compressed depth image {topic}',
                         expected=f'more than {dtype.itemsize} bytes for {form!r}',
                         got=f'{len(data)}')
    return np.frombuffer(data, dtype, 1)[0], data[dtype.itemsize:]
