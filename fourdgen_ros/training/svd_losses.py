# SPDX-License-Identifier: Apache-2.0
"""Losses and measures of the `svd-4dgen` preset."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fourdgen_ros.generator.svd.latents import COLOUR, POINTS
from fourdgen_ros.generator.svd.sampling import clean_of

# Of the logarithm of sigma, as 4DGen and SVD are trained.
SIGMA_MEAN, SIGMA_STD = 1.0, 1.6
POINTS_WEIGHT = 1.0  # the paper's lambda
GRIPPER_WEIGHT = 1.0  # on cells that the gripper covers, besides the weight of the noise level
DROPPED = 0.1  # share of the samples that learn without their condition


def draw_sigma(size: int) -> Tensor:
    """Noise levels (B,): one for a sample, all its views, modalities and frames, which are denoised
    together."""
    return (SIGMA_MEAN + SIGMA_STD * torch.randn(size)).exp()


def diffusion_loss(v: Tensor, network_input: Tensor, clean: Tensor, sigma: Tensor,
                   gripper: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of both modalities, summed over the views, and its parts.

    v, network_input and clean (B, V, 2, T, 4, h, w); sigma (B,); gripper (B, V, T, h, w) from
    `gripper_cells`. The weight (sigma^2 + 1) / sigma^2 makes the error of the clean latents that of
    v (EDM with sigma_data 1).
    """
    level = sigma[:, None, None, None, None, None, None]
    error = (clean_of(v, network_input, level) - clean).square()
    weight = (level**2 + 1.0) / level**2 + GRIPPER_WEIGHT * gripper[:, :, None, :, None]
    parts = (error * weight).mean((0, 3, 4, 5, 6)).sum(0)
    loss = parts[COLOUR] + POINTS_WEIGHT * parts[POINTS]
    return loss, {'loss': float(loss.detach()), 'colour': float(parts[COLOUR].detach()),
                  'points': float(parts[POINTS].detach())}


def gripper_cells(gripper: Tensor, cell: int) -> Tensor:
    """Which latent cells (..., h, w) a mask (..., H, W) touches or nearly does."""
    flat = F.max_pool2d(gripper.flatten(0, -3)[:, None], cell)
    near = F.max_pool2d(flat, 3, stride=1, padding=1)[:, 0]
    return near.unflatten(0, gripper.shape[:-2])


def reconstruction_loss(decoded: Tensor, images: Tensor, valid: Tensor
                        ) -> tuple[Tensor, dict[str, float]]:
    """Absolute error of pointmap images (T, 3, H, W): that of valid pixels (T, H, W), which is
    logged in mm of the range -1..2 m, and a tenth of the others', which only must be told apart."""
    error = (decoded - images).abs().mean(1)
    inside = (error * valid).sum() / valid.sum().clamp_min(1)
    outside = (error * ~valid).sum() / (~valid).sum().clamp_min(1)
    loss = inside + 0.1 * outside
    return loss, {'loss': float(loss.detach()), 'mm': 1500.0 * float(inside.detach())}


def point_errors(points: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    """Distances (n,) in mm between points (..., 3) and the true ones where `valid` (...)."""
    return 1e3 * (points - true).norm(dim=-1)[valid]
