# SPDX-License-Identifier: Apache-2.0
"""RVL decoding against an encoder that works number by number."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.rvl import decode

sys.path.insert(0, str(Path(__file__).parents[1] / 'nodes'))

from rvl_encoder import encode


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    holes = rng.integers(0, 65536, 5000)
    holes[rng.random(5000) < 0.4] = 0
    return [np.zeros(307200), np.full(100, 65535), np.array([0, 0, 5]), np.array([5, 0, 0]),
            np.array([7]), np.tile([1, 65535], 50), 800 + rng.integers(-3, 4, 5000), holes]


@pytest.mark.parametrize('index', range(len(images())))
def test_round_trip(index: int) -> None:
    image = images()[index].astype(np.uint16)
    np.testing.assert_array_equal(decode(encode(image), image.size), image)


def test_a_stream_by_hand() -> None:
    """Two zeros, then two values, 3 and 2: numbers 2, 2, 6, 1."""
    np.testing.assert_array_equal(decode(bytes([0, 0, 0x61, 0x22]), 4), [0, 0, 3, 2])


@pytest.mark.parametrize('data', [b'', bytes(4), b'\xff' * 40, bytes([0, 0, 0, 0x79]),
                                  encode(np.full(100, 700))[:8]])
def test_a_torn_stream_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match='RVL stream'):
        decode(data, 100)
