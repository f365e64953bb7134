# SPDX-License-Identifier: Apache-2.0
"""What a network tells of poses, refined on what is measured: of the views, which see the same
table, arm and objects, and of the hand in a view.

A network that looks at two pictures tells the pose between their cameras to half a centimetre. The
measured pointmaps of frame 0 know it better: generalised ICP (Segal et al. 2009), which the wheel
`small_gicp` brings (0.4 MB), goes from the network's guess to a fraction of a millimetre. Only what
faces both cameras takes part: else the inside of a bowl, which one sees, is laid on its outside.

Where the hand is at frame 0 a network tells to some centimetres, most off where the arm seldom was.
It draws the hand alike wherever that is, so that the drawn one can be laid on the measured one.
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

HAND_GRID = 0.004  # m between the points of a hand that are used
HAND_DISTANCES = (0.1, 0.05, 0.02)  # as `DISTANCES`
HAND_NEAR = 0.2  # m from the middle of the drawn hand to what may be the measured one
HAND_SHARED = 0.5  # of the points of the drawn hand that have to be measured
HAND_FARTHEST = (0.15, np.radians(30.0))  # m and rad that the hand may be off
_MIN_HAND_POINTS = 30


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


def lay(drawn: NDArray, measured: NDArray) -> Array:
    """Motion (4, 4) that lays a hand, drawn as points (n, 3), on the measured points (m, 3) of its
    view; m, both in the view's optical frame. The identity where too few of them agree."""
    if len(drawn) < _MIN_HAND_POINTS:
        return np.eye(4)
    middle = np.median(drawn, axis=0)
    near = measured[np.linalg.norm(measured - middle, axis=1) < HAND_NEAR]
    if len(near) < _MIN_HAND_POINTS:
        return np.eye(4)
    (target, tree), (source, _) = (_prepared(p, HAND_GRID) for p in (near, drawn))
    T, shared = _aligned(target, tree, source, np.eye(4), HAND_DISTANCES)
    moved = float(np.linalg.norm(se3.apply(T, middle) - middle)), se3.distance(np.eye(4), T)[1]
    return T if shared >= HAND_SHARED and _within(moved, HAND_FARTHEST) else np.eye(4)


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
    T, shared = _aligned(target, tree, source, guess, DISTANCES)
    moved = se3.distance(guess, T)
    if shared >= SHARED and _within(moved, FARTHEST_SURE if shared >= SURE else FARTHEST):
        return T, shared
    log.info('a guess of a view leads nowhere: %.0f %% of its points are seen by the reference, '
             '%.3f m and %.1f deg away', 100.0 * shared, moved[0], np.degrees(moved[1]))
    return T, 0.0


def _aligned(target: small_gicp.PointCloud, tree: small_gicp.KdTree, source: small_gicp.PointCloud,
             guess: Array, distances: Sequence[float]) -> tuple[Array, float]:
    """Pose of `source` in the frame of `target`, and the share of its points that agree there; one
    run for each of `distances`."""
    T, shared = guess, 0.0
    for distance in distances:
        result = small_gicp.align(target, source, tree, T, max_correspondence_distance=distance,
                                  max_iterations=30, translation_epsilon=1e-4,
                                  rotation_epsilon=1e-4)
        T, shared = result.T_target_source, result.num_inliers / source.size()
    return T, shared


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


def _prepared(points: NDArray,
              grid: float = GRID) -> tuple[small_gicp.PointCloud, small_gicp.KdTree]:
    return small_gicp.preprocess_points(points.astype(np.float64), downsampling_resolution=grid)
