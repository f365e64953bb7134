# SPDX-License-Identifier: Apache-2.0
"""Drawing on pictures: labels, projected gripper paths, depth as colour."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import project, scale_intrinsics

Array = NDArray[np.float64]
Colour = tuple[int, int, int]
INK: Colour = (20, 20, 24)
PAPER: Colour = (250, 250, 250)
IMAGINED: Colour = (255, 176, 0)
REAL: Colour = (0, 200, 120)
# near, ..., far
_DEPTH_COLOURS = np.array([[255, 245, 160], [250, 170, 60], [215, 70, 80], [120, 30, 120],
                           [35, 15, 75]], float)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable font: no file of the system is needed."""
    return ImageFont.load_default(size=size)


def label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, size: int = 15,
          colour: Colour = PAPER, anchor: str = 'la') -> None:
    """Text with a dark rim, readable on any picture."""
    draw.text(at, text, fill=colour, font=font(size), anchor=anchor, stroke_width=2,
              stroke_fill=INK)


def enlarged(rgb: NDArray[np.uint8], height: int, width: int) -> Image.Image:
    """A picture (H, W, 3) at another size."""
    return Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)


def draw_gripper_path(draw: ImageDraw.ImageDraw, poses: Array, K: Array, T_base_camera: Array,
                      colour: Colour, *, width: int = 3) -> None:
    """Polyline of TCP positions of (n, 4, 4) base-frame poses, in a picture with intrinsics K."""
    u, v, z = project(se3.apply(se3.inverse(T_base_camera), poses[:, :3, 3]), K)
    dots = [(a, b) for a, b, depth in zip(u, v, z, strict=True) if depth > 0.05]
    if len(dots) > 1:
        draw.line(dots, fill=INK, width=width + 2, joint='curve')
        draw.line(dots, fill=colour, width=width, joint='curve')


def draw_gripper(draw: ImageDraw.ImageDraw, pose: Array, opening: float, K: Array,
                 T_base_camera: Array, colour: Colour) -> None:
    """A parallel gripper as a fork: two fingers `opening` m apart, 6 cm long, and a handle."""
    half = opening / 2.0
    fork = np.array([[0, -half, 0.0], [0, -half, -0.06], [0, half, -0.06], [0, half, 0.0]])
    handle = np.array([[0, 0, -0.06], [0, 0, -0.12]])
    for part in (fork, handle):
        points = se3.apply(se3.inverse(T_base_camera) @ pose, part)
        if (points[:, 2] < 0.05).any():
            return
        u, v, _ = project(points, K)
        dots = list(zip(u, v, strict=True))
        draw.line(dots, fill=INK, width=5, joint='curve')
        draw.line(dots, fill=colour, width=3, joint='curve')


def shown_intrinsics(K: Array, size: tuple[int, int], shown: tuple[int, int]) -> Array:
    """K of a picture of `size` (height, width) after it was resized to `shown`."""
    return scale_intrinsics(K, shown[1] / size[1], shown[0] / size[0])


def depth_colours(depth: NDArray, near: float, far: float) -> NDArray[np.uint8]:
    """(H, W, 3) colours of depth (H, W) m from `near` (bright) to `far` (dark), grey if unknown.

    Linear in 1 / depth: what is near, and matters, gets most of the colours.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = 1.0 / np.where(known, depth, far)
    share = np.clip((1.0 / near - inverse) / max(1.0 / near - 1.0 / far, 1e-6), 0.0, 1.0)
    at = np.where(known, share, 0.0) * (len(_DEPTH_COLOURS) - 1)
    lower = np.minimum(at.astype(int), len(_DEPTH_COLOURS) - 2)
    blend = (at - lower)[..., None]
    colours = (1.0 - blend) * _DEPTH_COLOURS[lower] + blend * _DEPTH_COLOURS[lower + 1]
    colours[~known] = 128.0
    return np.rint(colours).astype(np.uint8)
