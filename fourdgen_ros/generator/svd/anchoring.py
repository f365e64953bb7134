# SPDX-License-Identifier: Apache-2.0
"""Generated pointmaps made to agree with the measured depth of frame 0.

The first generated frame is little later than the observation, so most pixels show the same thing.
On these, the scale of the generated points is fitted to the measured ones, and so is the
pose of a view: the model is not told it, but generates the view's points in the reference frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3

STILL_COLOUR = 12  # of 255, by which a pixel may change that shows the same thing
MIN_PIXELS = 50
MAX_PIXELS = 4000  # that a fit uses
MAX_SCALE = 1.25  # a larger error of scale is not one of scale
_ROUNDS = 6
_KEPT = 0.7  # share of the pixels that the next round of a fit uses: those that fit best


@dataclass(frozen=True)
class Anchor:
    """`scale` by which generated points are multiplied; T_ref_view (4, 4) of the view's camera."""

    scale: float
    T_ref_view: NDArray[np.float64]


def still(rgb0: NDArray[np.uint8], rgb1: NDArray[np.uint8], usable: NDArray[np.bool_]
          ) -> NDArray[np.bool_]:
    """Pixels (H, W) among the `usable` ones that look the same in both pictures (H, W, 3)."""
    change = np.abs(rgb0.astype(np.int16) - rgb1.astype(np.int16)).max(-1)
    same = usable & (change <= STILL_COLOUR)
    return same if same.sum() >= MIN_PIXELS else usable


def anchor_reference(measured: NDArray, generated: NDArray, pixels: NDArray[np.bool_]) -> Anchor:
    """Of the reference view, whose camera is the frame; points (H, W, 3) in m."""
    if pixels.sum() < MIN_PIXELS:
        return Anchor(1.0, np.eye(4))
    ratio = measured[pixels][:, 2] / np.maximum(generated[pixels][:, 2], 1e-3)
    return Anchor(_bounded(float(np.median(ratio))), np.eye(4))


def anchor_view(measured: NDArray, generated: NDArray, pixels: NDArray[np.bool_]) -> Anchor:
    """Of another view: `measured` (H, W, 3) in its own frame, `generated` in the reference's."""
    rows = np.flatnonzero(pixels)
    if len(rows) < MIN_PIXELS:
        return Anchor(1.0, np.eye(4))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_PIXELS)).astype(int)]
    source, target = (p.reshape(-1, 3)[rows].astype(np.float64) for p in (measured, generated))
    kept = np.ones(len(rows), bool)
    for _ in range(_ROUNDS):
        scale = _bounded(_spread(source[kept]) / max(_spread(target[kept]), 1e-6))
        T = se3.align(source[kept], scale * target[kept])
        error = np.linalg.norm(se3.apply(T, source) - scale * target, axis=1)
        kept = error <= np.quantile(error, _KEPT)
    return Anchor(scale, T)


def _spread(points: NDArray) -> float:
    """Root mean square distance of points (n, 3) to their centre."""
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))


def _bounded(scale: float) -> float:
    return float(np.clip(scale, 1.0 / MAX_SCALE, MAX_SCALE))
