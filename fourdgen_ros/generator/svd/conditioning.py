# SPDX-License-Identifier: Apache-2.0
"""What the U-Net is told about the present."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of the pictures that CLIP was trained on (OpenAI CLIP, `clip.load`'s transform).
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class Condition:
    """latents (B, V, 2, 4, h, w) of frame 0, not scaled, as SVD's; image (B, V, 2, 1, D), CLIP's
    embedding that each pass of the U-Net sees; ids (3,): SVD's frames per second, motion bucket
    and noise augmentation."""

    latents: Tensor
    image: Tensor
    ids: Tensor

    def masked(self, keep: Tensor) -> Condition:
        """Only the samples with `keep` (B,) keep their latents and embedding; others get zeros."""
        return replace(
            self, latents=self.latents * keep[:, None, None, None, None, None],
            image=self.image * keep[:, None, None, None, None])

    def dropped(self) -> Condition:
        """The condition of the unconditional pass."""
        return self.masked(torch.zeros(len(self.latents), device=self.latents.device))


def embed_images(encoder: nn.Module, rgb: Tensor) -> Tensor:
    """CLIP's embeddings (N, D) of rgb (N, 3, H, W) in -1..1."""
    size = encoder.config.image_size
    small = F.interpolate(rgb, (size, size), mode='bicubic', antialias=True, align_corners=False)
    mean, std = (rgb.new_tensor(c)[:, None, None] for c in (_CLIP_MEAN, _CLIP_STD))
    return encoder(((small.clamp(-1.0, 1.0) + 1.0) / 2.0 - mean) / std).image_embeds


def image_tokens(embeddings: Tensor, clip_by: str) -> Tensor:
    """(B, V, 2, 1, D) for `Condition.image` from embeddings (B, V, D) of the views.

    `clip_by` view: every pass sees its own view. modality: pointmap passes see the reference view,
    colour passes the second one. The released 4DGen code does the latter (its wrapper picks by
    pass from embeddings that are ordered by view), so its checkpoints know nothing else.
    """
    if clip_by == 'view':
        pairs = torch.stack([embeddings, embeddings], dim=2)
    else:
        colour = embeddings[:, min(1, embeddings.shape[1] - 1)]
        pairs = torch.stack([colour, embeddings[:, 0]], dim=1)[:, None]
        pairs = pairs.expand(-1, embeddings.shape[1], -1, -1)
    return pairs[:, :, :, None]
