# SPDX-License-Identifier: Apache-2.0
"""Named arrays over a byte stream: the length (8 bytes, little endian), then a NumPy .npz file.

No pickle: the two ends may run different versions of everything, and neither can make the other run
code.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct('<Q')
LIMIT = 2**28  # bytes of a message


def send(stream: BinaryIO, **arrays: NDArray | str | float) -> None:
    """Write one message; text and numbers become arrays without a dimension."""
    body = io.BytesIO()
    np.savez(body, **{name: np.asarray(value) for name, value in arrays.items()})
    stream.write(_LENGTH.pack(len(body.getbuffer())))
    stream.write(body.getbuffer())
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, NDArray] | None:
    """The next message, None at the end of the stream.

    Raises ValueError for what is no message: cut off, too long, or with Python objects in it.
    """
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise ValueError('a message that was cut off')
    length, = _LENGTH.unpack(head)
    if length > LIMIT:
        raise ValueError(f'a message of {length} bytes; at most {LIMIT}')
    body = stream.read(length)
    if len(body) < length:
        raise ValueError('a message that was cut off')
    with np.load(io.BytesIO(body), allow_pickle=False) as file:
        return dict(file)
