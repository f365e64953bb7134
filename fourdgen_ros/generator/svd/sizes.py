# SPDX-License-Identifier: Apache-2.0
"""Images of the data's size brought to that of the model, in training as when it generates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fourdgen_ros.core.camera import resize_intrinsics, resize_view
from fourdgen_ros.core.types import RgbdView


def fitted(images: Tensor, height: int, width: int, *, smooth: bool) -> Tensor:
    """Images (..., h, w) cut around the centre to the aspect ratio of height x width px, then
    resized to it: interpolated where `smooth`; depth and masks take the nearest pixel, for between
    two surfaces there is none."""
    h, w = images.shape[-2:]
    cut_h, cut_w = min(h, round(w * height / width)), min(w, round(h * width / height))
    top, left = (h - cut_h) // 2, (w - cut_w) // 2
    flat = images[..., top:top + cut_h, left:left + cut_w].reshape(-1, 1, cut_h, cut_w)
    out = (F.interpolate(flat, (height, width), mode='bilinear', antialias=True,
                         align_corners=False) if smooth
           else F.interpolate(flat, (height, width), mode='nearest-exact'))
    return out.reshape(*images.shape[:-2], height, width)


def fitted_colours(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The same of colours (..., h, w, 3)."""
    channels = torch.from_numpy(rgb.copy()).movedim(-1, -3).float()
    out = fitted(channels, height, width, smooth=True).movedim(-3, -1)
    return np.ascontiguousarray(out.round().clamp(0, 255).to(torch.uint8).numpy())


def view_as_trained(view: RgbdView, seen: tuple[int, int] | None, height: int,
                    width: int) -> RgbdView:
    """The view at height x width px, as sharp as in training on images of `seen` (height, width)
    px, which were enlarged where they were smaller. Raises InputError as `resize_view`."""
    if seen is None or (seen[0] >= height and seen[1] >= width):
        return resize_view(view, height, width)
    small = resize_view(view, *seen)
    depth = fitted(torch.from_numpy(small.depth.copy()), height, width, smooth=False).numpy()
    return replace(small, rgb=fitted_colours(small.rgb, height, width), depth=depth,
                   K=resize_intrinsics(small.K, small.size, height, width))
