# SPDX-License-Identifier: Apache-2.0
"""An RVL encoder for tests, number by number as the paper describes it."""

from __future__ import annotations

import numpy as np


def encode(depth: np.ndarray) -> bytes:
    """RVL stream of 16 bit values, little-endian words."""
    nibbles: list[int] = []

    def write(value: int) -> None:
        while True:
            nibble, value = value & 7, value >> 3
            nibbles.append(nibble | 8 if value else nibble)
            if not value:
                return

    values, i, previous = depth.ravel().astype(int).tolist(), 0, 0
    while i < len(values):
        start = i
        while i < len(values) and values[i] == 0:
            i += 1
        write(i - start)
        start = i
        while i < len(values) and values[i] != 0:
            i += 1
        write(i - start)
        for value in values[start:i]:
            delta = value - previous
            write(2 * delta if delta >= 0 else -2 * delta - 1)
            previous = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [sum(n << (28 - 4 * k) for k, n in enumerate(nibbles[w:w + 8]))
             for w in range(0, len(nibbles), 8)]
    return np.array(words, '<u4').tobytes()
