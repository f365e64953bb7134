# SPDX-License-Identifier: Apache-2.0
"""Attention of one view's tokens to another's, one layer for every layer of the U-Net's decoder."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


class CrossViewAttention(ModelMixin, ConfigMixin):
    """Layers that add to a view what it sees in the reference view.

    `widths` are the channels after each layer of the decoder. The last projection of every layer
    starts at zero, so that a new model computes what its U-Net alone does. Heads, no normalisation
    before the layer and no code of the cameras are as released with 4DGen.
    """

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (1280,) * 6 + (640,) * 3 + (320,) * 3,
                 heads: int = 8, head_dim: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Attention(query_dim=width, cross_attention_dim=width, heads=heads, dim_head=head_dim)
            for width in widths)
        for layer in self.layers:
            nn.init.zeros_(layer.to_out[0].weight)
            nn.init.zeros_(layer.to_out[0].bias)

    def forward(self, index: int, view: Tensor, reference: Tensor) -> Tensor:
        """Features of a view (N, C, H, W) with what layer `index` finds in the reference's, which
        are of the same shape; item i of N attends to item i, which is the same frame."""
        tokens, others = (x.flatten(2).transpose(1, 2) for x in (view, reference))
        found = self.layers[index](tokens, encoder_hidden_states=others)
        return view + found.transpose(1, 2).reshape(view.shape)
