# SPDX-License-Identifier: Apache-2.0
"""SVD's U-Net over the colour and pointmap latents of several views."""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from fourdgen_ros.generator.svd.conditioning import Condition
from fourdgen_ros.generator.svd.cross_view import CrossViewAttention
from fourdgen_ros.generator.svd.latents import POINTS


class MultiViewDenoiser(nn.Module):
    """One U-Net for every view and both modalities, and attention of the views to the reference.

    The reference view (0) is denoised alone. In the decoder, both modalities of every other view
    attend to the features of the reference's pointmap, frame by frame, as in the released code.
    It computes in bf16 on a GPU and in float32 on a CPU, where the gradients of 3-D convolutions
    are not finite in bf16 (torch 2.13).
    """

    def __init__(self, unet: UNetSpatioTemporalConditionModel,
                 cross_view: CrossViewAttention) -> None:
        super().__init__()
        self.unet = unet
        self.cross_view = cross_view

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The v (B, V, 2, T, 4, h, w) of latents of that shape, which are scaled to unit variance.

        `time` (B,) is what SVD calls its continuous time step, a quarter of the logarithm of sigma.
        """
        with torch.autocast('cuda' if noisy.is_cuda else 'cpu', torch.bfloat16,
                            enabled=noisy.is_cuda):
            return self._denoise(noisy, time, condition).float()

    def _denoise(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        still = condition.latents[:, :, :, None].expand(-1, -1, -1, noisy.shape[3], -1, -1, -1)
        x = torch.cat([noisy, still.to(noisy.dtype)], dim=4)
        reference, seen = self._run(x[:, :1], time, condition.image[:, :1], condition.ids, None)
        if x.shape[1] == 1:
            return reference
        b, others, frames = x.shape[0], x.shape[1] - 1, x.shape[3]
        shown = []
        for features in seen:
            points = features.unflatten(0, (b, 1, 2, frames))[:, :, POINTS:POINTS + 1]
            shown.append(points.expand(-1, others, 2, *points.shape[3:]).flatten(0, 3))
        rest, _ = self._run(x[:, 1:], time, condition.image[:, 1:], condition.ids, shown)
        return torch.cat([reference, rest], dim=1)

    def _run(self, x: Tensor, time: Tensor, image: Tensor, ids: Tensor,
             shown: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """The output for x (B, V, 2, T, 8, h, w), and the features (B * V * 2 * T, C, h', w') after
        every layer of the decoder; `shown` are the features that they attend to, if any."""
        unet = self.unet
        lead = x.shape[:3]
        frames, videos = x.shape[3], lead.numel()
        embedding = self._embedding(time, ids, x.dtype)
        embedding = embedding.repeat_interleave(videos * frames // len(time), 0)
        image = image.flatten(0, 2).repeat_interleave(frames, 0).to(x.dtype)
        video = torch.zeros(videos, frames, dtype=x.dtype, device=x.device)
        x = unet.conv_in(x.flatten(0, 3))
        skips = [x]
        for block in unet.down_blocks:
            extra = {'encoder_hidden_states': image} if hasattr(block, 'attentions') else {}
            x, more = block(hidden_states=x, temb=embedding, image_only_indicator=video, **extra)
            skips.extend(more)
        x = unet.mid_block(hidden_states=x, temb=embedding, encoder_hidden_states=image,
                           image_only_indicator=video)
        seen: list[Tensor] = []
        for block in unet.up_blocks:
            for i in range(len(block.resnets)):
                x = self._up(block, i, torch.cat([x, skips.pop()], dim=1), embedding, image, video)
                if i + 1 == len(block.resnets) and block.upsamplers is not None:
                    x = block.upsamplers[0](x, output_size=skips[-1].shape[-2:])
                if shown is not None:
                    x = self.cross_view(len(seen), x, shown[len(seen)])
                seen.append(x)
        x = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
        return x.unflatten(0, (*lead, frames)), seen

    def _embedding(self, time: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, E) of the noise level and of SVD's micro-conditioning `ids` (3,)."""
        unet = self.unet
        level = unet.time_embedding(unet.time_proj(time).to(dtype))
        micro = unet.add_embedding(unet.add_time_proj(ids).flatten()[None].to(dtype))
        return level + micro

    @staticmethod
    def _up(block: nn.Module, index: int, x: Tensor, embedding: Tensor, image: Tensor,
            video: Tensor) -> Tensor:
        """One layer of a decoder block: residual block and, where there is one, transformer."""
        resnet = block.resnets[index]
        if block.gradient_checkpointing and torch.is_grad_enabled():
            x = block._gradient_checkpointing_func(resnet, x, embedding, video)
        else:
            x = resnet(x, embedding, image_only_indicator=video)
        if hasattr(block, 'attentions'):
            x = block.attentions[index](x, encoder_hidden_states=image, image_only_indicator=video,
                                        return_dict=False)[0]
        return x
