# SPDX-License-Identifier: Apache-2.0
"""Intervals of success rates and summaries of samples."""

from __future__ import annotations

import math
from collections.abc import Iterable

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


def summary(values: Iterable[float], *quantiles: int) -> dict[str, float | int]:
    """{'n': ..., 'p50': ..., 'p95': ...} of the finite values; only {'n': 0} when there is none."""
    finite = np.array([v for v in values if math.isfinite(v)], float)
    if not len(finite):
        return {'n': 0}
    return {'n': len(finite)} | {f'p{q}': float(np.percentile(finite, q)) for q in quantiles}
