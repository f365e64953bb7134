# SPDX-License-Identifier: Apache-2.0
"""From streams that each have stamps of their own to records at a constant rate.

Records lie on a grid, 1 / fps apart. Each takes from every camera the newest image that is not
after it; an image older than `max_age` refuses the episode: nothing is repeated to fill a gap. The
grid starts half an image interval of the reference camera after the first time at which all
streams are there, so that the jitter of a camera as fast as the grid does not make it repeat and
skip.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]


def interval(stamps: Stamps) -> int:
    """Median ns between stamps; 0 for fewer than two."""
    return int(np.median(np.diff(stamps))) if len(stamps) > 1 else 0


def grid(streams: list[Stamps], fps: int, phase: int) -> Stamps:
    """Times of the records in ns: as many as the part that all streams share has room for.

    `phase` ns pass between the start of that part and the first record. Every time is rounded on
    its own, so that nothing adds up.
    """
    first = max(int(s[0]) for s in streams) + phase
    last = min(int(s[-1]) + max(interval(s), 0) for s in streams)
    count = max(0, (last - first) * fps // 10**9 + 1)
    return first + np.array([round(k * 10**9 / fps) for k in range(count)], np.int64)


def newest(stamps: Stamps, times: Stamps) -> NDArray[np.int64]:
    """Index of the newest stamp not after each time, -1 where there is none; stamps ascend."""
    return np.searchsorted(stamps, times, side='right') - 1


def nearest(stamps: Stamps, times: Stamps) -> NDArray[np.int64]:
    """Index of the stamp nearest to each time; stamps ascend."""
    right = np.clip(np.searchsorted(stamps, times), 1, max(len(stamps) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(stamps) - 1)
    closer = np.abs(stamps[right] - times) < np.abs(times - stamps[left])
    return np.where(closer, right, left)


def interpolate(stamps: Stamps, values: NDArray[np.float64], times: Stamps) -> NDArray[np.float64]:
    """Linear between neighbours: values (n, ...) at `stamps` -> (T, ...) at `times`.

    The ends are held. Exact in time: stamps are not turned into floats before they are subtracted.
    """
    at = np.clip(np.searchsorted(stamps, times, side='right') - 1, 0, max(len(stamps) - 2, 0))
    after = np.minimum(at + 1, len(stamps) - 1)
    width = np.maximum(stamps[after] - stamps[at], 1)
    share = np.clip((times - stamps[at]) / width, 0.0, 1.0)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return (1.0 - share) * values[at] + share * values[after]
