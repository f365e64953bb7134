# SPDX-License-Identifier: Apache-2.0
"""Where the gripper is in an image, without labels: its mesh at the recorded pose, seen by rays and
compared with the measured depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import project

Array = NDArray[np.float64]
_NEAR = 0.02  # m: what is nearer is taken to be anywhere in the image


class GripperShape:
    """Parts of a gripper in its TCP frame.

    Each part is a mesh and the (3,) by which it moves per metre of opening.
    """

    def __init__(self, parts: Sequence[tuple[trimesh.Trimesh, Array]]) -> None:
        self._parts = [(mesh, np.asarray(direction, float)) for mesh, direction in parts]

    def depth(self, T_camera_tcp: Array, opening: float, K: Array, height: int,
              width: int) -> NDArray[np.float32]:
        """(H, W) m along z of the nearest surface on each pixel's ray, infinite where none is."""
        out = np.full((height, width), np.inf, np.float32)
        for mesh, direction in self._parts:
            T = T_camera_tcp @ se3.make(translation=opening * direction)
            rows, cols = _seen(se3.apply(T, np.asarray(mesh.vertices)), K, height, width)
            if not rows.size:
                continue
            rays = np.stack([(cols - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1],
                             np.ones(rows.size)], axis=-1)
            local = rays @ T[:3, :3]
            origin = -T[:3, :3].T @ T[:3, 3]
            _, hit, where = mesh.ray.intersects_id(
                np.tile(origin, (len(local), 1)), local, multiple_hits=False,
                return_locations=True)
            z = np.einsum('ni,ni->n', where - origin, local[hit]) / np.einsum(
                'ni,ni->n', local[hit], local[hit])
            at = rows[hit], cols[hit]
            out[at] = np.minimum(out[at], z)
        return out


Outline = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.bool_] | None]


@dataclass(frozen=True)
class GripperMasks:
    """How masks that were not recorded are made: from the mesh alone, or with an `outline` that
    finds its edge in the picture, see `Sam2Outlines`, where it does."""

    shape: GripperShape
    outline: Outline | None = None


def visible(rendered: NDArray[np.float32], measured: NDArray[np.float32],
            tolerance: float = 0.015) -> NDArray[np.bool_]:
    """(H, W): the gripper is rendered there, and no measurement contradicts.

    measured (H, W) m, NaN where nothing was measured: black fingers leave holes, so the mesh is
    believed there. `tolerance` m covers calibration and noise of depth.
    """
    with np.errstate(invalid='ignore'):
        contradicted = np.abs(measured - rendered) > tolerance
    return np.isfinite(rendered) & ~(contradicted & np.isfinite(measured))


def _seen(vertices: Array, K: Array, height: int,
          width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels in the box around the projected vertices; none beside the
    image."""
    if (vertices[:, 2] < _NEAR).all():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low, high = [0, 0], [width - 1, height - 1]
    if (vertices[:, 2] >= _NEAR).all():
        u, v, _ = project(vertices, K)
        sides = (u, width), (v, height)  # a box beside the image is empty, not turned around
        low = [int(np.clip(np.floor(at.min()), 0, size)) for at, size in sides]
        high = [int(np.clip(np.ceil(at.max()), -1, size - 1)) for at, size in sides]
    rows, cols = np.mgrid[low[1]:high[1] + 1, low[0]:high[0] + 1]
    return rows.ravel(), cols.ravel()
