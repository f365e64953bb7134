# SPDX-License-Identifier: Apache-2.0
"""Losses and measures of the `tiny` preset."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fourdgen_ros.generator.codec import GRIPPER_WEIGHT, DecodedFrame
from fourdgen_ros.generator.layers import DEPTH_RANGE, rays
from fourdgen_ros.training.dataset import CodecBatch

# A pixel counts as changed when its depth moved by 8 mm or its colour by 12/255.
CHANGED_DEPTH = 0.008
CHANGED_COLOUR = 24.0 / 255.0
NEAR_PIXELS = 13  # side of the square around a gripper pixel in which errors weigh more
OPENING_WEIGHT = 20.0


def codec_loss(out: DecodedFrame, tcp: Tensor, batch: CodecBatch, *,
               anchored: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a decoded batch with the TCP (N, 10) read from its latents, and the loss's parts.

    Colour and depth count where the frame changed, most around the gripper; the rest of the frame
    is frame 0 and needs only the gate. Depth errors are in units of 5 cm; their logarithm counts,
    so that what an arm uncovers behind itself does not outweigh the gripper, on which they count
    once more in full. For a codec that is not `anchored` all of a frame counts as changed. What is
    too far or has no depth is taught as the far end of `DEPTH_RANGE`, which the generator reports
    as invalid.
    """
    rgb0 = batch.frame0[:, :3]
    target, target0 = within_range(batch.depth), within_range(batch.depth0)
    moved = (target - target0).abs() > CHANGED_DEPTH
    changed = (moved | ((batch.rgb - rgb0).abs().amax(1) > CHANGED_COLOUR)).float()
    if not anchored:
        changed = torch.ones_like(changed)
    error = (out.depth - target).abs() / 0.05
    # what the gripper holds or is about to reach is small, and matters
    near = F.max_pool2d(batch.gripper[:, None], NEAR_PIXELS, 1, NEAR_PIXELS // 2)[:, 0]
    weight = changed * (1.0 + 4.0 * near)
    total = weight.sum().clamp_min(1.0)
    background = ((error + 1.0).log() * weight).sum() / total
    gripper = (error * batch.gripper).sum() / batch.gripper.sum().clamp_min(1.0)
    colour = ((out.rgb - batch.rgb).abs().mean(1) * weight).sum() / total
    edge = 1.0 + (GRIPPER_WEIGHT - 1.0) * batch.gripper
    gate = (F.binary_cross_entropy_with_logits(out.gate, changed, reduction='none') * edge).mean()
    weighted = out.gripper + math.log(GRIPPER_WEIGHT)  # the odds where gripper counts more
    mask = (F.binary_cross_entropy_with_logits(weighted, batch.gripper, reduction='none')
            * edge).mean()
    position = (tcp[:, :3] - batch.tcp[:, :3]).norm(dim=1).mean() / 0.1
    rotation = F.l1_loss(tcp[:, 3:9], batch.tcp[:, 3:9])
    # The fingers are few pixels, and where the tool is nearly tells whether they are closed: a
    # small weight lets the encoder guess the opening instead of looking.
    opening = F.l1_loss(tcp[:, 9], batch.tcp[:, 9])
    loss = (gripper + background + 6.0 * colour + 8.0 * gate + 20.0 * mask + 2.0 * position
            + 2.0 * rotation + OPENING_WEIGHT * opening)
    return loss, {k: v.detach() for k, v in dict(
        loss=loss, gripper=gripper, background=background, colour=colour, gate=gate, mask=mask,
        tcp=position, rotation=rotation, opening=opening).items()}


def within_range(depth: Tensor) -> Tensor:
    """Depth cut to the far end of `DEPTH_RANGE`, which also stands for no depth at all."""
    return torch.nan_to_num(depth, nan=DEPTH_RANGE[1]).clamp_max(DEPTH_RANGE[1])


def gripper_measures(out: DecodedFrame, batch: CodecBatch) -> dict[str, Tensor]:
    """Per sample (N,): mask IoU, depth error (mm) on true gripper pixels, error (mm) of the median
    of the gripper points by the decoded mask and depth. NaN where a frame shows fewer than 20
    pixels of the gripper."""
    _, depth = out.compose(batch.frame0[:, :3], batch.depth0)
    mask, true = out.gripper > 0, batch.gripper > 0.5
    seen = true.flatten(1).sum(1) >= 20
    iou = (mask & true).flatten(1).sum(1) / (mask | true).flatten(1).sum(1).clamp_min(1)
    error = ((depth - batch.depth).abs() * true).nan_to_num().flatten(1).sum(1) \
        / true.flatten(1).sum(1).clamp_min(1)
    centroid = (_centroid(depth, mask, batch.K) - _centroid(batch.depth, true, batch.K)).norm(dim=1)
    nan = torch.full_like(iou, float('nan'))
    return {'iou': torch.where(seen, iou, nan), 'depth_mm': torch.where(seen, 1e3 * error, nan),
            'centroid_mm': torch.where(seen, 1e3 * centroid, nan)}


def _centroid(depth: Tensor, mask: Tensor, K: Tensor) -> Tensor:
    """Median point (N, 3) of the masked pixels."""
    points = torch.stack(rays(K, depth.shape[1], depth.shape[2]), dim=-1) * depth[..., None]
    points = torch.where((mask & torch.isfinite(depth))[..., None], points,
                         torch.full_like(points, float('nan')))
    return points.flatten(1, 2).nanmedian(dim=1).values


def flow_weight(t: Tensor) -> Tensor:
    """Weight of the x0 error at noise level t (1 is pure noise); bounded near t = 0."""
    return 1.0 / t.clamp_min(0.3) ** 2
