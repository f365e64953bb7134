# SPDX-License-Identifier: Apache-2.0
"""Clips at the size that a model has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fourdgen_ros.core.camera import resize_intrinsics
from fourdgen_ros.generator.svd.sizes import fitted
from fourdgen_ros.training.dataset import ClipBatch


def fit(clips: ClipBatch, height: int, width: int) -> ClipBatch:
    """As `fitted`, with the cameras of what is left."""
    h, w = clips.colour.shape[-2:]
    if (h, w) == (height, width):
        return clips
    K = np.stack([resize_intrinsics(K, (h, w), height, width)
                  for K in clips.K.flatten(0, 1).double().cpu().numpy()])
    return replace(clips, colour=fitted(clips.colour, height, width, smooth=True),
                   depth=fitted(clips.depth, height, width, smooth=False),
                   gripper=fitted(clips.gripper, height, width, smooth=False),
                   K=torch.from_numpy(K).to(clips.K).view_as(clips.K))
