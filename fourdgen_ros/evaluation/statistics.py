# SPDX-License-Identifier: Apache-2.0
"""Intervals of success rates and summaries of samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_Z95 = 1.959963984540054


def wilson(successes: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson score interval of a success rate (Wilson 1927); (0, 1) for n = 0.

    Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f'{successes} successes of {n}')
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # rounding must not put the bound on the wrong side of the rate
    return min(max(0.0, middle - half), p), max(min(1.0, middle + half), p)


@dataclass(frozen=True)
class Paired:
    """Two methods on the same n trials: how much higher the success rate of the first is, with its
    95 % interval, and the p-value of McNemar's exact test that they are equally good."""

    n: int
    difference: float
    interval: tuple[float, float]
    p: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Compare successes trial by trial; the interval is Newcombe's (1998, method 10), which holds
    for rates near 0 and 1 and for few trials.

    Raises ValueError for no trials or different numbers of them.
    """
    if not first or len(first) != len(second):
        raise ValueError(f'{len(first)} and {len(second)} trials')
    n = len(first)
    pairs = Counter(zip(map(bool, first), map(bool, second), strict=True))
    both, neither = pairs[True, True], pairs[False, False]
    ours, theirs = pairs[True, False], pairs[False, True]
    p1, p2 = (both + ours) / n, (both + theirs) / n
    (l1, u1), (l2, u2) = wilson(both + ours, n), wilson(both + theirs, n)
    spread = (both + ours) * (theirs + neither) * (both + theirs) * (ours + neither)
    agreement = both * neither - ours * theirs
    if agreement > 0:
        agreement = max(agreement - n / 2, 0.0)
    phi = agreement / math.sqrt(spread) if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2.0 * phi * a * b + b * b, 0.0))

    low = p1 - p2 - reach(p1 - l1, u2 - p2)
    high = p1 - p2 + reach(u1 - p1, p2 - l2)
    discordant, fewer = ours + theirs, min(ours, theirs)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant
    return Paired(n, p1 - p2, (low, high), min(1.0, 2.0 * tail))


def summary(values: Iterable[float], *quantiles: int) -> dict[str, float | int]:
    """{'n': ..., 'p50': ..., 'p95': ...} of the finite values; only {'n': 0} when there is none."""
    finite = np.array([v for v in values if math.isfinite(v)], float)
    if not len(finite):
        return {'n': 0}
    return {'n': len(finite)} | {f'p{q}': float(np.percentile(finite, q)) for q in quantiles}


def by_frame(rows: Sequence[Sequence[float]], *percentiles: float) -> list[list[float]]:
    """Percentiles over rows at each of their places, a list each; rows may be of different lengths,
    and a place that only some have is told by those."""
    places = [[row[i] for row in rows if i < len(row)]
              for i in range(max(map(len, rows), default=0))]
    return [[float(np.percentile(values, q)) for values in places] for q in percentiles]
