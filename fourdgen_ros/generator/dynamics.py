# SPDX-License-Identifier: Apache-2.0
"""The dynamics of the `tiny` preset: a denoising transformer over latents of all views and frames.

Tokens: one per view and future frame (noisy), one per view for the encoded frame 0, a coarse grid
of image tokens and some keypoints per view, one geometry token per view, one for the task. Every
token attends to every other, so each view sees every other view at every frame; the number of views
is free up to `max_views`. No camera pose goes in; the geometry token predicts the pose of each view
in the reference view's frame, with which pointmaps of all views are expressed in that frame.

The pose of the tool is told beside the latents, in metres, and not read from them: noise that a
latent does not mind moves the pose read from it by a centimetre. It starts from what is seen: the
present pose and the keypoints of the view, of which each frame takes a weighted mean. The first
keypoints are taught to be where the gripper closes and opens next, which is what most of a motion
follows from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from fourdgen_ros.generator.layers import ImageTrunk, metres, rotation_from_6d

# Angular frequencies of the keypoints' coordinates, which are normalised as `frame_tensor` does.
_OCTAVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
TOOL = 10  # numbers of a tool's pose and opening, see `FrameCodec.tcp`
KEYFRAMES = 2  # where the gripper closes and opens next
_STEP = 0.1  # m, the unit in which a place is off the points that it is told from


@dataclass(frozen=True)
class Observed:
    """What the dynamics see of frame 0: tokens (B, V, N, dim) of the images and keypoints, and the
    keypoints (B, V, keypoints, 3), m, in the views' own optical frames."""

    tokens: Tensor
    points: Tensor


@dataclass(frozen=True)
class Prediction:
    """latents (B, V, T, D) clean and standardised; tool (B, V, T, 10) in the views' own optical
    frames as `FrameCodec.tcp` gives it; keyframes (B, V, KEYFRAMES, 3), m: the TCP where the
    gripper closes and opens next; camera (B, V, 9): the views' poses in the reference view's frame,
    see `pose_from_9d`."""

    latents: Tensor
    tool: Tensor
    keyframes: Tensor
    camera: Tensor


class LatentDynamics(ModelMixin, ConfigMixin):
    """Predicts clean latents from noisy ones (x0-prediction on the flow-matching path)."""

    @register_to_config
    def __init__(self, latent_dim: int = 64, frames: int = 8, dt: float = 0.4, max_views: int = 4,
                 tasks: tuple[str, ...] = ('PlaceAppleFromBowlIntoBin',), height: int = 96,
                 width: int = 128, trunk_widths: tuple[int, int, int] = (48, 96, 160),
                 image_pool: int = 2, keypoints: int = 16, dim: int = 256, depth: int = 6,
                 heads: int = 4, cross_view: bool = True) -> None:
        super().__init__()
        cells = (height // 16 // image_pool) * (width // 16 // image_pool)
        self.trunk = ImageTrunk(trunk_widths)
        self.image_in = nn.Linear(trunk_widths[-1], dim)
        self.keypoint_tokens = Keypoints(trunk_widths, keypoints, dim)
        self.latent_in = nn.Linear(latent_dim, dim)
        self.start_in = nn.Linear(latent_dim + TOOL, dim)
        self.cell_position = nn.Parameter(0.02 * torch.randn(cells, dim))
        self.frame_position = nn.Parameter(0.02 * torch.randn(frames, dim))
        self.view_embedding = nn.Parameter(0.02 * torch.randn(max_views, dim))
        self.geometry_token = nn.Parameter(0.02 * torch.randn(dim))
        self.task_embedding = nn.Embedding(len(tasks), dim)
        self.time_in = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, activation='gelu',
                                           batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.latent_out = nn.Linear(dim, latent_dim)
        self.geometry_out = nn.Linear(dim, 9)
        self.tool_out = nn.Linear(dim, TOOL)
        self.keyframe_out = nn.Linear(dim, 3)
        self.point_share = nn.Linear(dim, 1 + keypoints)
        # latents are standardised with these, measured over the training set
        self.register_buffer('latent_mean', torch.zeros(latent_dim))
        self.register_buffer('latent_std', torch.ones(latent_dim))

    @property
    def measured(self) -> bool:
        """Whether mean and deviation of the latents are those of a training set."""
        return not (torch.equal(self.latent_mean, torch.zeros_like(self.latent_mean))
                    and torch.equal(self.latent_std, torch.ones_like(self.latent_std)))

    def standardise(self, latent: Tensor) -> Tensor:
        """Latents (..., D) of the codec with zero mean and unit variance over the training set."""
        return (latent - self.latent_mean) / self.latent_std

    def restore(self, latent: Tensor) -> Tensor:
        """Inverse of `standardise`."""
        return latent * self.latent_std + self.latent_mean

    def add_tasks(self, tasks: Sequence[str]) -> None:
        """Make room for tasks not trained on yet; those known stay as they are."""
        new = tuple(task for task in tasks if task not in self.config.tasks)
        known = self.task_embedding.weight.detach()
        fresh = nn.Embedding(len(new), known.shape[1]).weight.detach()
        self.task_embedding = nn.Embedding.from_pretrained(torch.cat([known, fresh]), freeze=False)
        self.register_to_config(tasks=(*self.config.tasks, *new))

    def condition(self, frame0: Tensor) -> Observed:
        """What there is to see in the observed frames (B, V, 7, H, W)."""
        b, v = frame0.shape[:2]
        frames = frame0.flatten(0, 1)
        features = self.trunk(frames)
        grid = F.avg_pool2d(features[-1], self.config.image_pool)
        tokens = self.image_in(grid.flatten(2).transpose(1, 2)) + self.cell_position
        found, points = self.keypoint_tokens(features, frames)
        tokens = torch.cat([tokens, found], dim=1)
        return Observed(tokens.view(b, v, *tokens.shape[1:]), points.view(b, v, *points.shape[1:]))

    def forward(self, noisy: Tensor, t: Tensor, start: Tensor, tool: Tensor, observed: Observed,
                task: Tensor) -> Prediction:
        """The future of latents noisy (B, V, T, D), standardised, at t (B,) in 0..1, 1 is pure
        noise; start (B, V, D) and tool (B, V, 10) are the standardised latents of frame 0 and the
        tool read from them; observed from `condition`; task (B,) index."""
        b, v, frames, _ = noisy.shape
        views = self.view_embedding[:v]
        x = self.latent_in(noisy) + self.frame_position[:frames]
        x = x + self.time_in(_sinusoid(t, x.shape[-1]).to(x.dtype))[:, None, None]
        begin = self.start_in(torch.cat([start, tool], dim=-1))
        own = torch.stack([begin, self.geometry_token.expand(b, v, -1)], dim=2)
        tokens = torch.cat([x, own, observed.tokens], dim=2) + views[:, None]
        per_view = tokens.shape[2]
        task_token = self.task_embedding(task)[:, None]
        sequence = torch.cat([tokens.flatten(1, 2), task_token], dim=1)
        y = self.norm(self.transformer(sequence, mask=self._mask(v, per_view, sequence.device)))
        y = y[:, :-1].view(b, v, per_view, -1)
        future, first = y[:, :, :frames], per_view - self.config.keypoints
        off = _STEP * self.keyframe_out(y[:, :, first:first + KEYFRAMES]).float()
        keyframes = observed.points[:, :, :KEYFRAMES] + off
        points = torch.cat([keyframes, observed.points[:, :, KEYFRAMES:]], dim=2)
        with torch.autocast(y.device.type, enabled=False):  # bf16 rounds a metre to 8 mm
            camera = self.geometry_out(y[:, :, frames + 1].float())
        return Prediction(latents=self.latent_out(future).float(),
                          tool=self._tool(future, tool, points), keyframes=keyframes,
                          camera=camera)

    def _tool(self, future: Tensor, tool: Tensor, points: Tensor) -> Tensor:
        """Tools (B, V, T, 10) of future tokens (B, V, T, dim)."""
        share, step = self.point_share(future).float(), self.tool_out(future).float()
        known = torch.cat([tool[:, :, None, :3], points], dim=2)
        with torch.autocast(future.device.type, enabled=False):  # bf16 rounds to centimetres
            position = share.softmax(dim=-1) @ known + _STEP * step[..., :3]
        rotation = tool[:, :, None, 3:9] + step[..., 3:9]
        return torch.cat([position, rotation, step[..., 9:]], dim=-1)

    def _mask(self, views: int, per_view: int, device: torch.device) -> Tensor | None:
        """Without cross-view attention (ablation) a view sees itself and the task only."""
        if self.config.cross_view:
            return None
        owner = torch.arange(views, device=device).repeat_interleave(per_view)
        owner = torch.cat([owner, torch.full((1,), -1, device=device)])
        return (owner[:, None] != owner[None]) & (owner[None] >= 0)


class Keypoints(nn.Module):
    """Where things are, finer than the image tokens: points that the network learns to follow.

    Each is the mean of the pointmap under a soft attention map of 1/4 of the frame's size (spatial
    soft-argmax, Levine et al. 2016), so that its place moves by millimetres where an image token
    sees a cell of 16 pixels.
    """

    def __init__(self, trunk_widths: tuple[int, int, int], count: int, dim: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(width, count, 1) for width in trunk_widths)
        self.point_in = nn.Linear(6 * len(_OCTAVES), dim)
        self.which = nn.Parameter(0.02 * torch.randn(count, dim))

    def forward(self, features: list[Tensor], frames: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, count, dim) and the points (N, count, 3), m, in the frames' own optical
        frames, from features at 1/4, 1/8, 1/16 of frames (N, 7, H, W)."""
        size = features[0].shape[2:]
        score = sum(F.interpolate(layer(f).float(), size, mode='bilinear')
                    for layer, f in zip(self.maps, features, strict=True))
        valid = F.avg_pool2d(frames[:, 6:7].float(), 4)
        points = F.avg_pool2d(frames[:, 3:6].float(), 4) / valid.clamp_min(1e-3)
        share = (score + valid.clamp_min(1e-6).log()).flatten(2).softmax(dim=-1)
        with torch.autocast(frames.device.type, enabled=False):  # bf16 would round to centimetres
            place = share @ points.flatten(2).transpose(1, 2)
        angles = place[..., None] * torch.tensor(_OCTAVES, device=place.device)
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
        return self.point_in(waves.to(features[0].dtype)) + self.which, metres(place)


def _sinusoid(t: Tensor, dim: int) -> Tensor:
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), dim // 2, device=t.device))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def pose_from_9d(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (..., 3, 3) and translation (..., 3), m, of a (..., 9) pose: position and the first
    two rotation columns."""
    return rotation_from_6d(x[..., 3:9]), x[..., :3]
