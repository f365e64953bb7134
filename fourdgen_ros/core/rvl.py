# SPDX-License-Identifier: Apache-2.0
"""RVL, a lossless code for 16 bit depth images (Wilson, "Fast Lossless Depth Image Compression").

A stream of numbers: of zeros, of values that follow, these values as differences to the value
before; and again. A number is written in groups of three bits, the low ones first, each in half a
byte whose highest bit says that more follow. Half bytes fill 32 bit words from the top.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError

GROUPS = 10  # of three bits: more than any number in an image needs


def decode(data: bytes | memoryview, pixels: int) -> NDArray[np.uint16]:
    """Values (pixels,) of an RVL stream of little-endian words; raises InputError when torn."""
    numbers = _numbers(data)
    deltas = (numbers >> 1) ^ -(numbers & 1)
    out = np.zeros(pixels, np.uint16)
    at = pixel = value = 0
    while pixel < pixels:
        if at + 2 > len(numbers):
            raise InputError('RVL stream', expected=f'{pixels} pixels', got=f'{pixel}')
        zeros, count = int(numbers[at]), int(numbers[at + 1])
        at, pixel = at + 2, pixel + zeros
        run = deltas[at:at + count]
        if pixel + count > pixels or len(run) < count or zeros + count == 0:
            raise InputError('RVL stream', expected=f'{pixels} pixels',
                             got=f'a run of {count} at {pixel}, {len(run)} numbers left')
        values = value + np.cumsum(run)
        out[pixel:pixel + count] = values
        at, pixel = at + count, pixel + count
        if count:
            value = int(values[-1])
    return out


def _numbers(data: bytes | memoryview) -> NDArray[np.int64]:
    """All numbers of a stream; what pads the last word reads as zeros."""
    words = np.frombuffer(data[:len(data) // 4 * 4], '<u4')
    shifts = np.arange(28, -1, -4, dtype=np.uint32)
    nibbles = ((words[:, None] >> shifts) & 0xF).ravel().astype(np.int64)
    last = np.flatnonzero(nibbles < 8)  # the last group of each number
    nibbles = nibbles[:last[-1] + 1] if len(last) else nibbles[:0]
    first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    if len(last) and (last - first).max() >= GROUPS:
        raise InputError('RVL stream', expected=f'numbers of at most {3 * GROUPS} bits',
                         got=f'one of {3 * int((last - first).max() + 1)} bits')
    place = np.arange(len(nibbles)) - np.repeat(first, last - first + 1)
    parts = (nibbles & 7) << (3 * place)
    return np.add.reduceat(parts, first) if len(first) else parts
