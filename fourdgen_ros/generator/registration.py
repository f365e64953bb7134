# SPDX-License-Identifier: Apache-2.0
"""Poses of the views, refined on what they measure: both see the same table, arm and objects.

A network that looks at two pictures tells the pose between their cameras to half a centimetre. The
measured pointmaps of frame 0 know it better: generalised ICP (Segal et al. 2009), which the wheel
`small_gicp` brings (0.4 MB), goes from the network's guess to a fraction of a millimetre. Only what
faces both cameras takes part: else the inside of a bowl, which one sees, is laid on its outside.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import small_gicp
from numpy.typing import NDArray

from fourdgen_ros.core import se3

Array = NDArray[np.float64]
log = logging.getLogger(__name__)

GRID = 0.008  # m between the points that are used
# m, at most, between points that count as the same; one run for each. The first finds a guess that
# is a decimetre off, as a network tells of cameras that it was not trained on.
DISTANCES = (0.2, 0.05, 0.02)
FACING = 0.2  # cosine, at least, between a surface's normal and the way to the other camera
SHARED = 0.3  # of a view's points that the reference has to see too
FARTHEST = (0.25, np.radians(25.0))  # m and rad that a guess may be off
# Or farther, where so many points agree: views that are laid on each other wrongly share less.
SURE, FARTHEST_SURE = 0.68, (0.8, np.radians(50.0))
SAME = (0.05, np.radians(5.0))  # m and rad within which two guesses lead to the same
_MIN_POINTS = 200


def register(points: Sequence[NDArray], *guesses: Array) -> Array:
    """Poses (V, 4, 4) of the views in the frame of the first.

    From the points (n, 3), m, that each measures in its own optical frame, and guesses (V, 4, 4),
    each with the identity first. Of what the guesses lead to, that where most points agree is
    taken. A view that shares too little with the first, or would have to move too far from every
    guess, keeps the first of them.
    """
    return np.stack([guesses[0][0], *(
        _best(points[0], p, [guess[v] for guess in guesses])
        for v, p in enumerate(points[1:], start=1))])


def _best(first: NDArray, points: NDArray, guesses: Sequence[Array]) -> Array:
    others = [g for g in guesses[1:] if not _within(se3.distance(guesses[0], g), SAME)]
    found = [_registered(first, points, guess) for guess in (guesses[0], *others)]
    T, shared = max(found, key=lambda one: one[1])
    return T if shared > 0.0 else guesses[0]


def _registered(first: NDArray, points: NDArray, guess: Array) -> tuple[Array, float]:
    """The pose that a guess leads to, and the share of the view's points that agree there: 0 where
    that is no pose to be taken."""
    seen = _facing(first, guess[:3, 3]), _facing(points, se3.inverse(guess)[:3, 3])
    if min(len(p) for p in seen) < _MIN_POINTS:
        return guess, 0.0
    (target, tree), (source, _) = (_prepared(p) for p in seen)
    T, shared = guess, 0.0
    for distance in DISTANCES:
        result = small_gicp.align(target, source, tree, T, max_correspondence_distance=distance,
                                  max_iterations=30, translation_epsilon=1e-4,
                                  rotation_epsilon=1e-4)
        T, shared = result.T_target_source, result.num_inliers / source.size()
    moved = se3.distance(guess, T)
    if shared >= SHARED and _within(moved, FARTHEST_SURE if shared >= SURE else FARTHEST):
        return T, shared
    log.info('a guess of a view leads nowhere: %.0f %% of its points are seen by the reference, '
             '%.3f m and %.1f deg away', 100.0 * shared, moved[0], np.degrees(moved[1]))
    return T, 0.0


def _within(distance: tuple[float, float], limit: tuple[float, float]) -> bool:
    return distance[0] < limit[0] and distance[1] < limit[1]


def _facing(points: NDArray, eye: Array) -> Array:
    """The points (n, 3) of a camera at the origin whose surface another at `eye` (3,) may see."""
    if len(points) < _MIN_POINTS:
        return points
    cloud, _ = _prepared(points)
    p, n = cloud.points()[:, :3], cloud.normals()[:, :3]
    n = np.where(((n * p).sum(1) > 0.0)[:, None], -n, n)
    way = eye - p
    return p[(n * way).sum(1) > FACING * np.linalg.norm(way, axis=1)]


def _prepared(points: NDArray) -> tuple[small_gicp.PointCloud, small_gicp.KdTree]:
    return small_gicp.preprocess_points(points.astype(np.float64), downsampling_resolution=GRID)
