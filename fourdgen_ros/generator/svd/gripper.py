# SPDX-License-Identifier: Apache-2.0
"""The gripper in generated frames, which SVD's latents do not tell: a small network of its own.

The paper runs a segmentation model on the generated pictures for this; ours is part of the preset.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray
from torch import Tensor

from fourdgen_ros.core.types import Future
from fourdgen_ros.generator.svd import pointmaps


def gripper_logits(network: UNet2DModel, colour: Tensor, points: Tensor, valid: Tensor) -> Tensor:
    """Logits (N, H, W) of colour (N, 3, H, W) in -1..1, points (N, H, W, 3) in m in the reference
    frame, and which of them are valid (N, H, W)."""
    x = torch.cat([colour, pointmaps.encode(points, valid), valid[:, None].to(colour.dtype)], dim=1)
    return network(x, torch.zeros(len(x), device=x.device)).sample[:, 0]


def gripper_masks(network: UNet2DModel, future: Future) -> NDArray[np.float32]:
    """Mask (V, T, H, W) in 0..1 of every frame of a future."""
    views, frames = future.valid.shape[:2]
    rgb, points, valid = (torch.from_numpy(x).to(network.device).flatten(0, 1)
                          for x in (future.rgb, future.points.copy(), future.valid))
    colour = rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    points = torch.where(valid[..., None], points, torch.zeros_like(points))
    logits = gripper_logits(network, colour, points, valid)
    return torch.sigmoid(logits).unflatten(0, (views, frames)).float().cpu().numpy()
