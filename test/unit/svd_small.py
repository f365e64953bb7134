# SPDX-License-Identifier: Apache-2.0
"""A scaled-down svd-4dgen: all its networks, random weights, 64x64 pixels."""

from __future__ import annotations

import numpy as np
import torch

from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.generator.svd import parts
from fourdgen_ros.generator.svd.conditioning import Condition
from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator
from fourdgen_ros.generator.svd.parts import Architecture, Parts, SvdConfig

TASK = 'PlaceAppleFromBowlIntoBin'
SMALL = Architecture(
    unet=dict(block_out_channels=(32, 64), num_attention_heads=(1, 2), layers_per_block=1,
              down_block_types=('CrossAttnDownBlockSpatioTemporal', 'DownBlockSpatioTemporal'),
              up_block_types=('UpBlockSpatioTemporal', 'CrossAttnUpBlockSpatioTemporal'),
              cross_attention_dim=32, addition_time_embed_dim=8,
              projection_class_embeddings_input_dim=24),
    vae=dict(down_block_types=('DownEncoderBlock2D',) * 3, block_out_channels=(32, 32, 32),
             layers_per_block=2, latent_channels=4),
    image_encoder=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                       num_attention_heads=2, image_size=28, patch_size=14, projection_dim=32,
                       hidden_act='gelu'),
    cross_view=dict(heads=2, head_dim=16),
    gripper=dict(block_out_channels=(16, 32), norm_num_groups=8))
CONFIG = SvdConfig(tasks=(TASK,), height=48, width=64, frames=3, steps=2)


def small_parts(*, cross_view: float = 0.0) -> Parts:
    """Networks with random weights; `cross_view` is how much the views see each other, which is
    nothing at the start of a training."""
    torch.manual_seed(0)
    networks = parts.build(SMALL)
    for layer in networks.cross_view.layers:
        torch.nn.init.normal_(layer.to_out[0].weight, std=cross_view)
    return networks


def small(*, cross_view: float = 0.0, config: SvdConfig = CONFIG) -> Svd4dgenGenerator:
    return Svd4dgenGenerator(small_parts(cross_view=cross_view), config)


def random_condition(size: int, views: int) -> Condition:
    """For latents of 12x16 cells."""
    return Condition(torch.randn(size, views, 2, 4, 12, 16), torch.randn(size, views, 2, 1, 32),
                     torch.tensor([6.0, 127.0, 0.02]))


def observation(views: int = 2, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    K = np.array([[80.0, 0.0, 39.5], [0.0, 80.0, 29.5], [0.0, 0.0, 1.0]])
    return Observation(tuple(
        RgbdView(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8),
                 rng.uniform(0.6, 1.2, (60, 80)).astype(np.float32), K, 5, f'cam_{i}', 'optical')
        for i in range(views)))
