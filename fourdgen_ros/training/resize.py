# SPDX-License-Identifier: Apache-2.0
"""Clips at the size that a model has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fourdgen_ros.training.dataset import ClipBatch


def fit(clips: ClipBatch, height: int, width: int) -> ClipBatch:
    """Cut around the centre to the aspect ratio of height x width px, then resized to it.

    Colours are interpolated; depth and masks take the nearest pixel, for between two surfaces there
    is none.
    """
    h, w = clips.colour.shape[-2:]
    if (h, w) == (height, width):
        return clips
    cut_h, cut_w = min(h, round(w * height / width)), min(w, round(h * width / height))
    top, left = (h - cut_h) // 2, (w - cut_w) // 2

    def resized(images: Tensor, mode: str) -> Tensor:
        cut = images[..., top:top + cut_h, left:left + cut_w]
        flat = cut.reshape(-1, 1, cut_h, cut_w)
        smooth = {'antialias': True, 'align_corners': False} if mode == 'bilinear' else {}
        out = F.interpolate(flat, (height, width), mode=mode, **smooth)
        return out.reshape(*images.shape[:-2], height, width)

    K = clips.K.clone()
    scale = torch.tensor([width / cut_w, height / cut_h], device=K.device)
    offset = torch.tensor([left, top], device=K.device)
    K[..., :2, 2] = (K[..., :2, 2] - offset + 0.5) * scale - 0.5
    K[..., 0, 0] *= scale[0]
    K[..., 1, 1] *= scale[1]
    return replace(clips, colour=resized(clips.colour, 'bilinear'),
                   depth=resized(clips.depth, 'nearest-exact'),
                   gripper=resized(clips.gripper, 'nearest-exact'), K=K)
