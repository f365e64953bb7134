# SPDX-License-Identifier: Apache-2.0
"""What is drawn of futures, paths and cells: points, colours, lines and the pace of the frames.

Neither ROS nor a viewer: RViz and the browser draw the same. SI units; colours of clouds are uint8,
others 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.types import Future, RgbdView

Array = NDArray[np.float64]
Points = NDArray[np.float32]
Colours = NDArray[np.uint8]

# Told apart also by those who see no red or no green: vermilion, amber, bluish green.
_CONFIDENCE = np.array([[0.84, 0.24, 0.10], [0.96, 0.70, 0.15], [0.10, 0.62, 0.47]])
PLAN_COLOUR = (0.15, 0.45, 0.90)
BOX_COLOUR = (0.55, 0.55, 0.60)
HOLD = 1.0  # s for which the last frame stays before the first comes again
OPEN_SIDE = 1.2  # m; where a side of a box that is open is drawn
_PLANE_TRIALS = 200
_PLANE_POINTS = 2000
_PLANE_THICKNESS = 0.01  # m


def frame_cloud(future: Future, frame: int, T: Array,
                views: Sequence[int] | None = None) -> tuple[Points, Colours]:
    """Organised cloud of one frame: the images of the views below one another.

    T (4, 4) maps from the optical frame of the reference camera; `views` are indices, None all.
    Points (n * H, W, 3), NaN where not valid, and their colours.
    """
    chosen = range(len(future.cameras)) if views is None else views
    points, colours = [], []
    for v in chosen:
        valid = future.valid[v, frame][..., None]
        points.append(np.where(valid, se3.apply(T, future.points[v, frame]), np.float32('nan')))
        colours.append(future.rgb[v, frame])
    return np.concatenate(points), np.concatenate(colours)


def live_cloud(view: RgbdView, T: Array, stride: int) -> tuple[Points, Colours]:
    """Organised cloud of every `stride`-th pixel of a camera image; T (4, 4) maps from its frame.

    Points (h, w, 3), NaN without depth, and their colours.
    """
    K = view.K.copy()
    K[:2] /= stride  # pixel i of the small image is pixel i * stride
    depth = np.ascontiguousarray(view.depth[::stride, ::stride])
    return se3.apply(T, pointmap(depth, K)), view.rgb[::stride, ::stride]


def pixel_size(future: Future) -> float:
    """How wide a pixel of the reference view is where its middle point lies, m: points of that size
    close the surface. 0 for a future without a valid point."""
    depth = future.points[0, 0, ..., 2][future.valid[0, 0]]
    return float(np.median(depth) / future.K[0, 0, 0]) if len(depth) else 0.0


def only_finite(points: Points, colours: Colours) -> tuple[Points, Colours]:
    """Points (n, 3) and colours (n, 3) of an organised cloud without its NaN."""
    finite = np.isfinite(points).all(-1)
    return points[finite], colours[finite]


def confidence_colours(confidence: Array) -> Array:
    """Colours (n, 3), 0..1: vermilion at 0, amber at 0.5, bluish green at 1."""
    at = np.clip(confidence, 0.0, 1.0)
    return np.stack([np.interp(at, (0.0, 0.5, 1.0), channel) for channel in _CONFIDENCE.T], axis=-1)


def box_edges(low: Sequence[float | None], high: Sequence[float | None]) -> Array:
    """(12, 2, 3): the edges of a box from two corners; a side that is None lies at OPEN_SIDE."""
    lo = np.array([-OPEN_SIDE if value is None else value for value in low])
    hi = np.array([OPEN_SIDE if value is None else value for value in high])
    edges = []
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        for corner in np.ndindex(2, 2):
            edge = np.stack([lo, hi])
            for i, side in zip(others, corner, strict=True):
                edge[:, i] = (lo, hi)[side][i]
            edges.append(edge)
    return np.stack(edges)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


@dataclass(frozen=True)
class Playback:
    """The pace of `frames` frames `dt` s apart, again and again, with a rest at the end."""

    frames: int
    dt: float

    def frame(self, elapsed: float) -> int:
        """Return the frame `elapsed` s after the start."""
        rest = max(0.0, HOLD - self.dt)
        # half a nanosecond: a tick that comes exactly on time belongs to the new frame
        return min(int((elapsed % (self.frames * self.dt + rest) + 5e-10) / self.dt),
                   self.frames - 1)


def upright(points: Points, seed: int = 0) -> Array:
    """T (4, 4) from an optical frame to one that stands on the largest plane seen, z up.

    Its origin is where the optical axis meets the plane, x points away from the camera. For clouds
    of which no calibration is known; points (n, 3) m. Without a plane in sight the camera is taken
    to look straight ahead.
    """
    finite = points[np.isfinite(points).all(-1)].astype(float)
    normal, offset = np.array([0.0, -1.0, 0.0]), None
    if len(finite) >= 3:
        rng = np.random.default_rng(seed)
        some = finite[rng.choice(len(finite), min(len(finite), _PLANE_POINTS), replace=False)]
        corners = some[rng.integers(0, len(some), (_PLANE_TRIALS, 3))]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1)
        normals = normals[length > 1e-9] / length[length > 1e-9, None]
        offsets = np.einsum('ni,ni->n', normals, corners[length > 1e-9, 0])
        # A table or a floor: walls, whose normals lie flat in the image, are not stood upon.
        flat = np.abs(normals[:, 1]) > 0.3
        if flat.any():
            distances = np.abs(some @ normals[flat].T - offsets[flat])
            best = int(np.argmax((distances < _PLANE_THICKNESS).sum(0)))
            normal, offset = normals[flat][best], float(offsets[flat][best])
            if normal[1] > 0:  # up is against the image's y
                normal, offset = -normal, -offset
    ahead = np.array([0.0, 0.0, 1.0])
    x = ahead - (ahead @ normal) * normal
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(normal, x), normal])
    middle = float(np.median(finite[:, 2])) if len(finite) else 1.0
    if offset is None:
        origin = middle * ahead
    else:
        down = ahead @ normal
        origin = (offset / down if abs(down) > 1e-3 and offset / down > 0 else middle) * ahead
    return se3.make(R, -R @ origin)
