# SPDX-License-Identifier: Apache-2.0
"""Sub-pixel distance to the outline of a soft mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

MARGIN = 10
MAX_CELLS = 140
MAX_BLUR = 3.0
EDGE = 0.4


@dataclass(frozen=True, eq=False)
class SignedDistance:
    """Signed distance in px to the 0.5 level of a mask, positive outside, on a fine grid.

    values, gradient_u, gradient_v (h, w); grid cell (r, c) lies at the pixel
    (left + c / cells, top + r / cells).
    """

    values: Array
    gradient_u: Array
    gradient_v: Array
    left: float
    top: float
    cells: float

    def __call__(self, uv: Array) -> tuple[Array, Array]:
        """Distance (n,) px, inf beyond the grid, and its gradient (n, 2) at pixels uv (n, 2)."""
        c = (uv[:, 0] - self.left) * self.cells
        r = (uv[:, 1] - self.top) * self.cells
        h, w = self.values.shape
        inside = (c >= 0) & (c < w - 1) & (r >= 0) & (r < h - 1)
        c, r = np.where(inside, c, 0.0), np.where(inside, r, 0.0)
        c0, r0 = c.astype(int), r.astype(int)
        fc, fr = c - c0, r - r0

        def sample(grid: Array) -> Array:
            upper = (1 - fc) * grid[r0, c0] + fc * grid[r0, c0 + 1]
            lower = (1 - fc) * grid[r0 + 1, c0] + fc * grid[r0 + 1, c0 + 1]
            return (1 - fr) * upper + fr * lower

        distance = np.where(inside, sample(self.values), np.inf)
        return distance, np.stack([sample(self.gradient_u), sample(self.gradient_v)], axis=1)


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of a soft mask, and outlines of models drawn as softly.

    `observed` is the distance to the mask's 0.5 level; `blur` px (1 sigma) is how soft the mask is.
    """

    observed: SignedDistance
    blur: float

    def covers(self, uv: Array, spacing: float, at: Array,
               clearance: float) -> NDArray[np.bool_]:
        """Whether a model with surface points uv (n, 2) px, `spacing` px apart, comes within
        `clearance` px of pixels at (m, 2)."""
        grid, fine = self.observed, self._draw(uv, spacing)
        fine = ndimage.maximum_filter(fine, 2 * int(clearance * grid.cells) + 1)
        col = np.rint((at[:, 0] - grid.left) * grid.cells).astype(int)
        row = np.rint((at[:, 1] - grid.top) * grid.cells).astype(int)
        h, w = fine.shape
        ok = (col >= 0) & (col < w) & (row >= 0) & (row < h)
        return ok & (fine[np.where(ok, row, 0), np.where(ok, col, 0)] > 0)

    def drawn(self, uv: Array, spacing: float) -> SignedDistance | None:
        """Distance to the outline of a model with surface points uv (n, 2) px, `spacing` px apart,
        after the same blur; None when nothing of it is left.

        Blurring moves the outline: thin parts such as fingertips recede. What is drawn equally
        soft recedes equally.
        """
        grid = self.observed
        cells = int(grid.cells)
        fine = ndimage.gaussian_filter(self._draw(uv, spacing), self.blur * cells, truncate=2.5)
        # Sampled and interpolated as the mask is, for that moves outlines as well.
        inside = _finer(fine[::cells, ::cells], cells) > 0.5
        if not inside.any():
            return None
        return _field(inside, grid.left, grid.top, grid.cells)

    def _draw(self, uv: Array, spacing: float) -> NDArray[np.float32]:
        grid = self.observed
        return draw(uv[None], grid.values.shape, grid.left, grid.top, grid.cells, spacing)[0]


def draw(uv: Array, shape: tuple[int, int], left: float, top: float, cells: float,
         spacing: float) -> NDArray[np.float32]:
    """Coverage (B, h, w) 0..1 of B sets of points uv (B, n, 2) px on a fine grid."""
    h, w = shape
    col = np.rint((uv[..., 0] - left) * cells)
    row = np.rint((uv[..., 1] - top) * cells)
    ok = (col >= 0) & (col < w) & (row >= 0) & (row < h)
    batch = np.broadcast_to(np.arange(len(uv))[:, None], ok.shape)
    # A margin, so that closing does not eat into parts that leave the grid.
    radius = max(1, int(np.ceil(0.75 * spacing * cells)))
    out = np.zeros((len(uv), h + 2 * radius, w + 2 * radius), np.uint8)
    out[batch[ok], row[ok].astype(int) + radius, col[ok].astype(int) + radius] = 1
    size = (1, 2 * radius + 1, 2 * radius + 1)
    out = ndimage.minimum_filter(ndimage.maximum_filter(out, size), size)
    # A cell counts as soon as one point falls into it, so edges lie a bit too far out.
    core = ndimage.minimum_filter(out, (1, 3, 3))
    drawn = (1.0 - EDGE) * out + EDGE * core
    return drawn[:, radius:-radius, radius:-radius].astype(np.float32)


def outline(mask: Array) -> Outline | None:
    """Outline of the part of mask (H, W) 0..1 above 0.5; None if that is nothing or everything."""
    rows, cols = np.nonzero(mask > 0.5)
    if len(rows) in (0, mask.size):
        return None
    top, left = max(rows.min() - MARGIN, 0), max(cols.min() - MARGIN, 0)
    crop = mask[top:rows.max() + MARGIN + 1, left:cols.max() + MARGIN + 1]
    cells = int(np.clip(MAX_CELLS // max(crop.shape), 1, 3))
    observed = _field(_finer(crop, cells) > 0.5, float(left), float(top), float(cells))
    # Across a straight edge blurred by sigma, m (1 - m) adds up to sigma / sqrt(pi).
    length = float(np.sum(np.clip(1.0 - np.abs(observed.values), 0.0, None))) / cells**2
    soft = np.clip(crop, 0.0, 1.0)
    blur = np.sqrt(np.pi) * float(np.sum(soft * (1.0 - soft))) / max(length, 1.0)
    return Outline(observed, min(blur, MAX_BLUR))


def _field(inside: NDArray[np.bool_], left: float, top: float, cells: float) -> SignedDistance:
    # Cell centres are half a cell away from the boundary that runs between them.
    values = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    values = (values - 0.5 * np.sign(values)) / cells
    gv, gu = np.gradient(values, 1.0 / cells)
    return SignedDistance(values, gu, gv, left, top, cells)


def _finer(image: Array, cells: int) -> Array:
    """Linear interpolation to `cells` cells per pixel."""
    h, w = image.shape
    return _stretch(_stretch(image, (h - 1) * cells + 1).T, (w - 1) * cells + 1).T


def _stretch(image: Array, count: int) -> Array:
    """Linear interpolation to `count` rows, first and last kept."""
    at = np.linspace(0.0, image.shape[0] - 1.0, count)
    low = np.minimum(at.astype(int), max(image.shape[0] - 2, 0))
    u = (at - low)[:, None]
    return (1.0 - u) * image[low] + u * image[np.minimum(low + 1, image.shape[0] - 1)]
