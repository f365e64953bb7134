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

    They always compute in float32: in bf16 a point would be off by millimetres.

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
        return torch.stack([torch.stack([
            self._decoded(vae, video / vae.config.scaling_factor)
            for video in latents[:, modality]])
            for modality, vae in enumerate(self.vaes)], dim=1)

    def reconstruct_points(self, images: Tensor) -> Tensor:
        """What is left of pointmap images (T, 3, H, W) of one video after encoding and decoding."""
        vae = self.vaes[POINTS]
        return self._decoded(vae, self._mean(vae, images, self.quantised_targets))

    def _encode(self, images: Tensor, quantise: bool) -> Tensor:
        encoded = []
        for modality, vae in enumerate(self.vaes):
            x = images.select(-4, modality)
            encoded.append(self._mean(vae, x.flatten(0, -4), quantise).unflatten(0, x.shape[:-3]))
        return torch.stack(encoded, dim=-4)

    @staticmethod
    def _mean(vae: AutoencoderKLTemporalDecoder, images: Tensor, quantise: bool) -> Tensor:
        """Mean (N, 4, h, w) of the latents of images (N, 3, H, W)."""
        with torch.autocast(images.device.type, enabled=False):
            moments = torch.cat([vae.encoder(part) for part in images.float().split(_CHUNK)])
            if quantise:
                moments = vae.quant_conv(moments)
        return moments[:, :moments.shape[1] // 2]

    @staticmethod
    def _decoded(vae: AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
        """Images (T, 3, H, W) of one video's latents (T, 4, h, w)."""
        with torch.autocast(latents.device.type, enabled=False):
            return vae.decode(latents.float(), num_frames=len(latents)).sample
