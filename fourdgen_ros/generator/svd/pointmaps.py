# SPDX-License-Identifier: Apache-2.0
"""Metric points <-> images in -1..1 for a VAE.

-1..2 m of every coordinate become -1..1, as released with 4DGen. A pixel without a point gets the
origin of the frame that points are given in, which is the centre of a camera: nothing solid is
there, so the decoder of a generated pointmap can tell. The released code moves these pixels
with the camera instead: in its checkpoints they are at the centre of the pixel's own camera.
"""

from __future__ import annotations

import torch
from torch import Tensor

RANGE = (-1.0, 2.0)  # m
MAX_DEPTH = 2.0  # m along the pixel's own optical axis
CLEARANCE = 0.15  # m around the centre of a camera in which nothing is
EDGE = 0.005  # m to the end of RANGE within which a generated point counts as outside


def encode(points: Tensor, valid: Tensor) -> Tensor:
    """Images (..., 3, H, W) of points (..., H, W, 3) in m, of which only the `valid` (..., H, W)
    and those within `RANGE` are read."""
    lo, hi = RANGE
    inside = valid & (points >= lo).all(-1) & (points <= hi).all(-1)
    metres = torch.where(inside[..., None], points, torch.zeros_like(points))
    return ((metres - lo) / (hi - lo) * 2.0 - 1.0).movedim(-1, -3)


def decode(images: Tensor) -> Tensor:
    """Points (..., H, W, 3) in m of images (..., 3, H, W); what is outside -1..1 is cut."""
    lo, hi = RANGE
    return (images.clamp(-1.0, 1.0).movedim(-3, -1) + 1.0) / 2.0 * (hi - lo) + lo


def outside(points: Tensor) -> Tensor:
    """Which decoded points (..., H, W, 3) are at the end of `RANGE`: (..., H, W)."""
    lo, hi = RANGE
    return ((points < lo + EDGE) | (points > hi - EDGE)).any(-1)


def solid(points: Tensor, centres: Tensor) -> Tensor:
    """Which points (..., H, W, 3) are not at one of the cameras' centres (n, 3): (..., H, W)."""
    near = [(points - centre).norm(dim=-1) < CLEARANCE for centre in centres]
    return ~torch.stack(near).any(0)


def from_depth(depth: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., H, W, 3) and which of them are valid (..., H, W), from depth (..., H, W) in m
    along z and rays (..., H, W, 3) with z = 1. Depth over `MAX_DEPTH` is not valid."""
    valid = torch.isfinite(depth) & (depth > CLEARANCE) & (depth <= MAX_DEPTH)
    z = torch.where(valid, depth, torch.zeros_like(depth))
    return rays * z[..., None], valid
