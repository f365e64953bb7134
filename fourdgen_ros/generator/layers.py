# SPDX-License-Identifier: Apache-2.0
"""What the codec and the dynamics share: the network input, pixel rays, rotations, and the image
trunk (in kind, not in weights)."""

from __future__ import annotations

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

# Channels of a frame as networks see it: rgb in -1..1; x, y, z of the pointmap in the view's own
# optical frame, less _XYZ_CENTRE (m), in units of _XYZ_SCALE (m); whether depth is valid. No camera
# pose.
FRAME_CHANNELS = 7
_XYZ_CENTRE = (0.0, 0.0, 0.9)
_XYZ_SCALE = (0.6, 0.6, 0.5)
DEPTH_RANGE = (0.15, 2.5)  # m


def frame_tensor(rgb: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    """Network input (N, 7, H, W) from rgb (N, H, W, 3) uint8, depth (N, H, W) m and K (N, 3, 3).

    Depth that is NaN or outside `DEPTH_RANGE` counts as invalid and is zeroed.
    """
    lo, hi = DEPTH_RANGE
    valid = torch.isfinite(depth) & (depth >= lo) & (depth <= hi)
    z = torch.where(valid, depth, torch.zeros_like(depth))
    xyz = torch.stack(rays(K, depth.shape[1], depth.shape[2]), dim=1) * z[:, None]
    centre, scale = (torch.tensor(c, device=z.device)[None, :, None, None]
                     for c in (_XYZ_CENTRE, _XYZ_SCALE))
    xyz = (xyz - centre) / scale * valid[:, None]
    colour = rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return torch.cat([colour, xyz, valid[:, None].float()], dim=1)


def metres(xyz: Tensor) -> Tensor:
    """Points (..., 3) in m from what `frame_tensor` makes of them."""
    centre, scale = (torch.tensor(c, device=xyz.device) for c in (_XYZ_CENTRE, _XYZ_SCALE))
    return centre + scale * xyz


def rays(K: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """x/z, y/z and 1 for each pixel, each (N, H, W), of pinhole cameras K (N, 3, 3)."""
    u = torch.arange(width, device=K.device, dtype=torch.float32)[None, None]
    v = torch.arange(height, device=K.device, dtype=torch.float32)[None, :, None]
    k = K.float()[:, :, :, None, None]
    x = ((u - k[:, 0, 2]) / k[:, 0, 0]).expand(-1, height, -1)
    y = ((v - k[:, 1, 2]) / k[:, 1, 1]).expand(-1, -1, width)
    return x, y, torch.ones_like(x)


def rotation_from_6d(x: Tensor) -> Tensor:
    """Rotation (..., 3, 3) from its first two columns (..., 6), which need not be orthonormal.

    Gram-Schmidt, as in Zhou et al. 2019.
    """
    a, b = x[..., :3], x[..., 3:]
    first = nn.functional.normalize(a, dim=-1)
    second = nn.functional.normalize(b - (first * b).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.cross(first, second, dim=-1)], dim=-1)


def block(c_in: int, c_out: int, temb: int | None = None) -> ResnetBlock2D:
    """Residual block; with `temb` channels it is modulated (scale and shift) by an embedding."""
    return ResnetBlock2D(in_channels=c_in, out_channels=c_out, temb_channels=temb, groups=16,
                         time_embedding_norm='default' if temb is None else 'scale_shift')


class ImageTrunk(nn.Module):
    """(N, 7, H, W) -> features at 1/4, 1/8 and 1/16 with the given widths."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(4),
                                  nn.Conv2d(FRAME_CHANNELS * 16, widths[0], 3, padding=1))
        self.blocks = nn.ModuleList()
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            self.blocks.append(block(width, width))
            if i + 1 < len(widths):
                self.down.append(Downsample2D(width, use_conv=True, name='op',
                                              out_channels=widths[i + 1]))

    def forward(self, frame: Tensor) -> list[Tensor]:
        """The features, finest first."""
        x = self.stem(frame)
        features = []
        for i, layer in enumerate(self.blocks):
            x = layer(x, None)
            features.append(x)
            if i < len(self.down):
                x = self.down[i](x)
        return features
