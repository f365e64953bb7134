# SPDX-License-Identifier: Apache-2.0
"""Statistics that LeRobot keeps of every feature, per episode and of all.

As its compute_stats.py: min, max, mean, std, count, quantiles; of images per channel in 0..1,
shaped (C, 1, 1), of depth in its unit, from a sample of images and pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

QUANTILES = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}
Stats = dict[str, NDArray[np.float64]]
_IMAGES = 25  # per episode that are looked at
_PIXELS = 100  # a side


def of_vectors(values: NDArray) -> Stats:
    """Of (T, ...) numbers, over T."""
    v = values.reshape(len(values), -1).astype(np.float64)
    out = _over_rows(v, len(values))
    return {k: s if k == 'count' else s.reshape(values.shape[1:] or (1,)) for k, s in out.items()}


class ImageSample:
    """Some pixels of some of `total` images (H, W) or (H, W, C)."""

    def __init__(self, total: int) -> None:
        self._every, self._seen = max(1, total // _IMAGES), 0
        self._pixels: list[NDArray] = []

    def add(self, image: NDArray) -> None:
        """Look at an image, or pass over it."""
        if self._seen % self._every == 0:
            step = max(1, max(image.shape[:2]) // _PIXELS)
            part = image[::step, ::step]
            self._pixels.append(part.reshape(-1, 1 if part.ndim == 2 else part.shape[2]))
        self._seen += 1

    def stats(self, scale: float) -> Stats:
        """Of the pixels divided by `scale`; those that are not finite count as 0."""
        pixels = np.nan_to_num(np.concatenate(self._pixels).astype(np.float64), posinf=0.0,
                               neginf=0.0) / scale
        out = _over_rows(pixels, len(self._pixels))
        return {k: s if k == 'count' else s.reshape(-1, 1, 1) for k, s in out.items()}


def _over_rows(rows: NDArray[np.float64], count: int) -> Stats:
    out = {'min': rows.min(0), 'max': rows.max(0), 'mean': rows.mean(0), 'std': rows.std(0),
           'count': np.array([count])}
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return out | dict(zip(QUANTILES, quantiles, strict=True))


def merged(parts: Sequence[Stats]) -> Stats:
    """Of several episodes together; quantiles are means, weighted by counts, as upstream's."""
    n = np.array([int(p['count'][0]) for p in parts], np.float64)
    weights = n / n.sum()

    def mean(key: str) -> NDArray[np.float64]:
        return np.tensordot(weights, np.stack([p[key] for p in parts]), axes=1)

    average = mean('mean')
    spread = np.stack([p['std'] ** 2 + (p['mean'] - average) ** 2 for p in parts])
    return {'min': np.min([p['min'] for p in parts], axis=0),
            'max': np.max([p['max'] for p in parts], axis=0), 'mean': average,
            'std': np.sqrt(np.tensordot(weights, spread, axes=1)),
            'count': np.array([int(n.sum())]), **{q: mean(q) for q in QUANTILES}}
