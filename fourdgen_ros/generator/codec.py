# SPDX-License-Identifier: Apache-2.0
"""The frame codec of the `tiny` preset: one RGB-D frame <-> one small latent vector.

A scripted cell has about 15 degrees of freedom, so a frame is compressed to a single vector. What
does not change is not generated: the decoder sees the observed frame 0 of the same view and
predicts where the frame differs from it (gate), the new colour and depth there, and the gripper
mask. Points follow from depth and K, so a generated pixel always projects onto itself; and the
background keeps the measured depth exactly.

Sharpness where it counts: the latent also tells the pose of the TCP in the view's own optical frame
(`tcp_head`), and the decoder gets, for every pixel, the coordinates of the pixel's ray in the
tool's frame. Drawing the gripper is then a local question with the same answer wherever it is.

The RGB-only ablation (`depth=False`) is the same network on the same pictures with a plane for
their depth, which tells nothing. In the ablation without the anchor (`anchored=False`) every pixel
of a frame is new.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from fourdgen_ros.generator.layers import ImageTrunk, block, rays, rotation_from_6d

# Decoded depth is centred here: metres = DEPTH_CENTRE + DEPTH_SCALE * network output.
DEPTH_CENTRE = 0.9
DEPTH_SCALE = 0.5
PLANE = DEPTH_CENTRE  # m, the depth of every pixel where there is no depth
# How much more a gripper pixel counts in the loss of the mask than another. Left in, it would make
# masks too large: what is gripper with a chance of 1/6 would be drawn as such.
GRIPPER_WEIGHT = 5.0
# Wavelengths in m of the tool coordinates' sines: the size of the hand, of a finger.
_WAVELENGTHS = (0.4, 0.16, 0.064)
_ALL_NEW = 20.0  # logit of a gate that keeps nothing of frame 0
TOOL_CHANNELS = 3 + 6 * len(_WAVELENGTHS) + 1


@dataclass
class DecodedFrame:
    """rgb (N, 3, H, W) in -1..1 and depth (N, H, W) m where the frame is new; gate and gripper
    (N, H, W) logits: whether a pixel differs from frame 0, whether it shows the gripper."""

    rgb: Tensor
    depth: Tensor
    gate: Tensor
    gripper: Tensor

    def compose(self, rgb0: Tensor, depth0: Tensor) -> tuple[Tensor, Tensor]:
        """Blend with frame 0: rgb (N, 3, H, W) softly, depth (N, H, W) by a hard choice, because a
        blend of two depths is a point that floats between surfaces. NaN in depth0 (N, H, W) stays
        where the frame is not new."""
        gate = torch.sigmoid(self.gate)
        rgb = rgb0 + gate[:, None] * (self.rgb - rgb0)
        depth = torch.where((gate > 0.5) | (self.gripper > 0), self.depth, depth0)
        return rgb, depth


class FrameCodec(ModelMixin, ConfigMixin):
    """Encoder to (N, latent_dim), decoder given the features of frame 0, TCP read-out.

    `height` and `width` are multiples of 16. Without `depth` it is trained with `PLANE` for the
    depth of all pixels, needs it in its frames, and the depth that it decodes means nothing. If not
    `anchored`, nothing is kept from frame 0, which the decoder sees all the same.
    """

    @register_to_config
    def __init__(self, height: int = 96, width: int = 128, latent_dim: int = 64,
                 widths: tuple[int, int, int] = (64, 128, 192), fine_width: int = 48,
                 depth: bool = True, anchored: bool = True) -> None:
        super().__init__()
        w0, w1, w2 = widths
        cells = (height // 16) * (width // 16)
        self.encoder = ImageTrunk((w0, w1, w2))
        self.to_latent = nn.Sequential(
            nn.Conv2d(w2, 24, 1), nn.SiLU(), nn.Flatten(), nn.Linear(24 * cells, 256), nn.SiLU(),
            nn.Linear(256, latent_dim), nn.LayerNorm(latent_dim, elementwise_affine=False))
        self.context = ImageTrunk((w0, w1, w2))
        temb = 256
        self.embed = nn.Sequential(
            nn.Linear(latent_dim + 10, temb), nn.SiLU(), nn.Linear(temb, temb))
        self.from_latent = nn.Linear(latent_dim, 64 * cells)
        self.up2 = nn.ModuleList([block(w2 + 64, w2, temb), block(w2, w2, temb)])
        self.up1 = nn.ModuleList([block(w2 + w1, w1, temb), block(w1, w1, temb)])
        self.up0 = nn.ModuleList([block(w1 + w0, w0, temb), block(w0, w0, temb)])
        self.grow = nn.ModuleList([Upsample2D(w2, use_conv=True, out_channels=w2),
                                   Upsample2D(w1, use_conv=True, out_channels=w1),
                                   Upsample2D(w0, use_conv=True, out_channels=fine_width)])
        self.fine = block(fine_width, fine_width, temb)
        # added behind the group norms, which would wash out where zero is
        self.tool = nn.ModuleList([
            nn.Sequential(nn.Conv2d(TOOL_CHANNELS, 64, 1), nn.SiLU(), nn.Conv2d(64, w, 1))
            for w in (w1, w0, fine_width)])
        self.head = nn.Sequential(nn.Conv2d(fine_width, 6 * 4, 3, padding=1), nn.PixelShuffle(2))
        # TCP in the view's own optical frame, see `tcp`
        self.tcp_head = nn.Sequential(nn.Linear(latent_dim, 256), nn.SiLU(), nn.Linear(256, 10))

    def encode(self, frame: Tensor) -> Tensor:
        """Latents (N, latent_dim), each of zero mean and unit variance, of frames (N, 7, H, W)."""
        return self.to_latent(self.encoder(frame)[-1])

    def decode(self, latent: Tensor, tcp: Tensor, context: list[Tensor], K: Tensor) -> DecodedFrame:
        """Frames of latents (N, latent_dim) with the tool at `tcp` (N, 10), as `self.tcp` gives it,
        `context` = `self.context(frame 0)` and intrinsics K (N, 3, 3) of the frames."""
        temb = self.embed(torch.cat([latent, tcp.to(latent.dtype)], dim=1))
        f0, f1, f2 = context
        x = self.from_latent(latent).view(latent.shape[0], 64, f2.shape[2], f2.shape[3])
        x = self.up2[1](self.up2[0](torch.cat([x, f2], dim=1), temb), temb)
        x = self.grow[0](x)
        for i, (layers, skip) in enumerate(((self.up1, f1), (self.up0, f0))):
            x = layers[0](torch.cat([x, skip], dim=1), temb)
            x = layers[1](x + self._tool(i, tcp, K, x), temb)
            x = self.grow[i + 1](x)
        out = self.head(self.fine(x + self._tool(2, tcp, K, x), temb)).float()
        depth = DEPTH_CENTRE + DEPTH_SCALE * out[:, 3]
        gripper = out[:, 5] - math.log(GRIPPER_WEIGHT)
        gate = out[:, 4] if self.config.anchored else torch.full_like(out[:, 4], _ALL_NEW)
        return DecodedFrame(out[:, :3], depth, gate, gripper)

    def _tool(self, level: int, tcp: Tensor, K: Tensor, like: Tensor) -> Tensor:
        height, width = self.config.height, self.config.width
        coordinates = tool_coordinates(tcp, K, height, width, height // like.shape[2])
        return self.tool[level](coordinates.to(like.dtype))

    def tcp(self, latent: Tensor) -> Tensor:
        """TCP (N, 10) in the view's own optical frame: position (m), first two columns of the
        rotation, opening (in units of 0.1 m)."""
        with torch.autocast(latent.device.type, enabled=False):  # bf16 rounds a metre to 8 mm
            return self.tcp_head(latent.float())


def tool_coordinates(tcp: Tensor, K: Tensor, height: int, width: int, stride: int) -> Tensor:
    """(N, TOOL_CHANNELS, height / stride, width / stride): where each pixel's ray passes the tool.

    The ray is cut with the plane of the TCP's depth. The point is given in the tool's frame: as
    tanh of its coordinates in units of 30 cm, as sines and cosines at `_WAVELENGTHS` that fade out
    with the distance from the TCP; the TCP's normalised depth comes last.
    """
    position, rotation = tcp[:, :3].float(), rotation_from_6d(tcp[:, 3:9].float())
    k = K.float().clone()
    k[:, :2] /= stride
    k[:, :2, 2] += 0.5 / stride - 0.5
    h, w = height // stride, width // stride
    ray = torch.stack(rays(k, h, w), dim=1)
    offset = ray * position[:, 2, None, None, None] - position[:, :, None, None]
    local = torch.einsum('nij,nihw->njhw', rotation, offset)
    waves = torch.cat([local * (2.0 * torch.pi / length) for length in _WAVELENGTHS], dim=1)
    near = (-(local.norm(dim=1, keepdim=True) / 0.25) ** 2).exp()
    depth = (position[:, 2, None, None, None] - DEPTH_CENTRE).expand(-1, 1, h, w) / DEPTH_SCALE
    return torch.cat(
        [torch.tanh(10.0 * local / 3.0), waves.sin() * near, waves.cos() * near, depth], dim=1)
