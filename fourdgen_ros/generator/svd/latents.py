# SPDX-License-Identifier: Apache-2.0
"""Pictures and pointmaps <-> latents, each with a VAE of its own."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn

# Index of the modality axis of latents.
COLOUR, POINTS = 0, 1
_CHUNK = 8  # images encoded at a time, for memory


class LatentCodec(nn.Module):
    """SVD's VAE for colours and a second one for pointmaps, both of images (N, 3, H, W) in -1..1.

    `quantised_targets`: the latents that are generated passed `quant_conv`, as in diffusers' SVD.
    In the released 4DGen code only those of the condition did.
    """

    def __init__(self, colour: AutoencoderKLTemporalDecoder, points: AutoencoderKLTemporalDecoder,
                 quantised_targets: bool = True) -> None:
        super().__init__()
        self.vaes = nn.ModuleList([colour, points])
        self.quantised_targets = quantised_targets

    @property
    def cell(self) -> int:
        """Pixels a latent cell is wide and high."""
        return 2 ** (len(self.vaes[0].config.block_out_channels) - 1)

    def condition(self, images: Tensor) -> Tensor:
        """Latents (..., 2, 4, h, w), not scaled, of images (..., 2, 3, H, W)."""
        return self._encode(images, True)

    def targets(self, images: Tensor) -> Tensor:
        """Latents (..., 2, 4, h, w) of about unit variance of images (..., 2, 3, H, W)."""
        factors = images.new_tensor([vae.config.scaling_factor for vae in self.vaes])
        return self._encode(images, self.quantised_targets) * factors[:, None, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Images (N, 2, T, 3, H, W) of N videos' latents (N, 2, T, 4, h, w) of `targets`."""
        decoded = []
        for modality, vae in enumerate(self.vaes):
            z = latents[:, modality] / vae.config.scaling_factor
            decoded.append(torch.stack([vae.decode(video, num_frames=len(video)).sample
                                        for video in z]))
        return torch.stack(decoded, dim=1)

    def _encode(self, images: Tensor, quantise: bool) -> Tensor:
        encoded = []
        for modality, vae in enumerate(self.vaes):
            x = images.select(-4, modality)
            moments = torch.cat([vae.encoder(part) for part in x.flatten(0, -4).split(_CHUNK)])
            if quantise:
                moments = vae.quant_conv(moments)
            mean = moments[:, :moments.shape[1] // 2]
            encoded.append(mean.unflatten(0, x.shape[:-3]))
        return torch.stack(encoded, dim=-4)
