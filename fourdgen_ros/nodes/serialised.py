# SPDX-License-Identifier: Apache-2.0
"""Camera messages as they came over the network, looked into only when they are used.

Making a Python message of an image copies it again. Of the images that cameras send between two
generations only one set is used, so the rest stay as they came: bytes in CDR, of which the stamp is
read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

from rclpy.serialization import deserialize_message

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.synchroniser import SyncedSet

_ENCAPSULATION = 4  # bytes before the CDR stream; the second one's lowest bit: little endian
_STAMP = {0: struct.Struct('>iI'), 1: struct.Struct('<iI')}


def serialised_stamp(data: bytes, topic: str = '') -> int:
    """Stamp in ns of a serialised message whose first field is a std_msgs/Header.

    Raises InputError where there are too few bytes for one.
    """
    if len(data) < _ENCAPSULATION + 8:
        raise InputError(f'message {topic}', expected='a serialised message with a header',
                         got=f'{len(data)} bytes')
    sec, nanosec = _STAMP[data[1] & 1].unpack_from(data, _ENCAPSULATION)
    return sec * 10**9 + nanosec


def deserialised(synced: SyncedSet, types: Mapping[str, type]) -> SyncedSet:
    """The same set with messages instead of bytes; `types` by kind: color, depth, info."""
    return replace(synced, frames={
        camera: replace(frames, **{
            kind: deserialize_message(getattr(frames, kind), types[kind]) for kind in types})
        for camera, frames in synced.frames.items()})
