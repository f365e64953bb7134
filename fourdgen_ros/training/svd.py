# SPDX-License-Identifier: Apache-2.0
"""Training of the `svd-4dgen` preset: the pointmap VAE, the denoiser, the gripper network.

The paper fine-tunes the colour VAE too, and reports little use of it; it stays SVD's here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn import functional as F

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.dynamics import pose_from_9d
from fourdgen_ros.generator.layers import rays
from fourdgen_ros.generator.svd import parts, pointmaps
from fourdgen_ros.generator.svd.conditioning import Condition
from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator
from fourdgen_ros.generator.svd.gripper import gripper_logits
from fourdgen_ros.generator.svd.latents import POINTS
from fourdgen_ros.generator.svd.parts import SvdConfig
from fourdgen_ros.generator.svd.sampling import noisy_input, sample, time_of
from fourdgen_ros.generator.svd.unet import MultiViewDenoiser
from fourdgen_ros.training import svd_losses
from fourdgen_ros.training.binding import (
    bind,
    bind_config,
    bind_start,
    come_apart,
    require_kind,
    require_weights,
)
from fourdgen_ros.training.dataset import ClipBatch, Demonstrations, read_meta, split, task_names
from fourdgen_ros.training.loop import LoopConfig, train
from fourdgen_ros.training.resize import fit

log = logging.getLogger(__name__)

LEARNING_RATE = 1e-5  # of SVD's own weights: they are only turned to a new domain
GRIPPER_RATE = 4e-4
VALIDATION_CLIPS = 8
VALIDATION_STEPS = 8
_DEPTH_NOISE = 0.002  # m, in the gripper network's training


@dataclass
class Video:
    """A clip as the networks see it; T without frame 0.

    colour0 (B, V, 3, H, W), points0 (B, V, H, W, 3) m in the view's own frame and valid0
    (B, V, H, W) of frame 0; colour (B, V, T, 3, H, W), points (B, V, T, H, W, 3) m in the reference
    frame, valid and gripper (B, V, T, H, W) of what follows.
    """

    colour0: Tensor
    points0: Tensor
    valid0: Tensor
    colour: Tensor
    points: Tensor
    valid: Tensor
    gripper: Tensor

    @property
    def images(self) -> Tensor:
        """Colour and pointmap images (B, V, T, 2, 3, H, W) of what follows."""
        return torch.stack([self.colour, pointmaps.encode(self.points, self.valid)], dim=3)


def video_of(clips: ClipBatch) -> Video:
    """Points from the depth of clips, moved into the reference frame where they follow frame 0."""
    h, w = clips.depth.shape[-2:]
    directions = torch.stack(rays(clips.K.flatten(0, 1), h, w), dim=-1)
    directions = directions.unflatten(0, clips.K.shape[:2])
    own, valid = pointmaps.from_depth(clips.depth, directions[:, :, None])
    R, t = pose_from_9d(clips.camera)
    moved = torch.einsum('bvij,bvthwj->bvthwi', R, own[:, :, 1:]) + t[:, :, None, None, None]
    return Video(colour0=clips.colour[:, :, 0], points0=own[:, :, 0], valid0=valid[:, :, 0],
                 colour=clips.colour[:, :, 1:], points=moved, valid=valid[:, :, 1:],
                 gripper=clips.gripper[:, :, 1:])


class Clips:
    """Draws the videos that a preset is trained on from a data set."""

    def __init__(self, data: Demonstrations, config: SvdConfig, stride: int,
                 device: torch.device) -> None:
        """`stride` is in records from frame to frame."""
        self._training, held = split(data)
        self._held = [episode for episodes in held for episode in episodes]
        self._data, self._config, self._stride = data, config, stride
        self._device = device

    @property
    def views(self) -> int:
        """Of the episode that has the most."""
        return max(episode.rgb.shape[1] for episode in self._data.episodes)

    def draw(self, rng: np.random.Generator, size: int, *, held: bool = False) -> Video:
        """Random videos of the training episodes, or of those that are held back."""
        clips = self._data.clip_batch(rng, size, self._held if held else self._training,
                                      self._config.frames, self._stride)
        return video_of(fit(clips.to(self._device), self._config.height, self._config.width))


class PointmapVaeStep(nn.Module):
    """How far pointmaps are from what the VAE makes of them."""

    def __init__(self, generator: Svd4dgenGenerator) -> None:
        super().__init__()
        self.vae = generator.parts.vae_pointmap
        self._reconstruct = generator.codec.reconstruct_points
        self.requires_grad_(True)
        # Several processes wait for the gradient of whatever takes one, and this is not used then.
        self.vae.quant_conv.requires_grad_(generator.codec.quantised_targets)

    def forward(self, video: Video) -> tuple[Tensor, dict[str, float]]:
        """The loss of one video, and its parts to log."""
        images = video.images[0, :, :, POINTS]
        decoded = torch.cat([self._reconstruct(view) for view in images])
        return svd_losses.reconstruction_loss(decoded.float(), images.flatten(0, 1),
                                              video.valid[0].flatten(0, 1))


def train_pointmap_vae(generator: Svd4dgenGenerator, clips: Clips, config: LoopConfig
                       ) -> dict[str, float]:
    """Train the pointmap VAE to return pointmaps; returns its error `mm` on held-back frames."""
    step = PointmapVaeStep(generator)
    check = _draws(clips, config, VALIDATION_CLIPS)
    measures = train(step, config, lambda rng: (clips.draw(rng, 1),),
                     lambda: _means([step(video)[1] for video in check]), better='mm')
    step.requires_grad_(False)
    return measures


class DenoiserStep(nn.Module):
    """The diffusion loss of a batch of clips of so many views, at random noise."""

    def __init__(self, denoiser: MultiViewDenoiser, views: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.requires_grad_(True)
        denoiser.cross_view.requires_grad_(views > 1)  # not used else, see PointmapVaeStep

    def forward(self, clean: Tensor, condition: Condition, gripper: Tensor
                ) -> tuple[Tensor, dict[str, float]]:
        """`clean` latents (B, V, 2, T, 4, h, w); `gripper` as `svd_losses.gripper_cells` tells."""
        device = clean.device
        keep = (torch.rand(len(clean)) >= svd_losses.DROPPED).float().to(device)
        sigma = svd_losses.draw_sigma(len(clean)).to(device)
        given = noisy_input(clean, torch.randn(clean.shape).to(device),
                            sigma[:, None, None, None, None, None, None])
        v = self.denoiser(given, time_of(sigma), condition.masked(keep))
        return svd_losses.diffusion_loss(v, given, clean, sigma, gripper)


def train_denoiser(generator: Svd4dgenGenerator, clips: Clips, config: LoopConfig, *,
                   batch: int = 1) -> dict[str, float]:
    """Train the U-Net and the attention between views; returns the median errors of the points
    (`points_mm`) and of those of the gripper (`gripper_mm`) in sampled held-back futures, and their
    `loss`."""
    codec, denoiser = generator.codec, generator.denoiser
    step = DenoiserStep(denoiser, clips.views)

    @torch.no_grad()
    def encode(video: Video) -> tuple[Tensor, Condition, Tensor]:
        clean = codec.targets(video.images).transpose(2, 3)
        condition = generator.condition(video.colour0, video.points0, video.valid0)
        return clean, condition, svd_losses.gripper_cells(video.gripper, codec.cell)

    check = _draws(clips, config, VALIDATION_CLIPS)

    def validate() -> dict[str, float]:
        torch.manual_seed(config.seed)
        losses, every, gripper = [], [], []
        for k, video in enumerate(check):
            clean, condition, cells = encode(video)
            losses.append(step(clean, condition, cells)[1])
            latents = sample(denoiser, generator.parts.scheduler, condition,
                             frames=generator.config.frames, steps=VALIDATION_STEPS,
                             guidance=(1.0, 1.0), generator=torch.Generator().manual_seed(k))
            points = pointmaps.decode(codec.decode(latents[0])[:, POINTS].float())
            on_gripper = video.valid[0] & (video.gripper[0] > 0.5)
            every.append(svd_losses.point_errors(points, video.points[0], video.valid[0]))
            gripper.append(svd_losses.point_errors(points, video.points[0], on_gripper))
        return {'gripper_mm': float(torch.cat(gripper).nanmedian()),
                'points_mm': float(torch.cat(every).median()), 'loss': _means(losses)['loss']}

    measures = train(step, config, lambda rng: (clips.draw(rng, batch),), validate,
                     better='gripper_mm', place=encode)
    step.requires_grad_(False)
    return measures


class GripperStep(nn.Module):
    """How far the gripper's mask is from the one that the network finds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Video) -> tuple[Tensor, dict[str, float]]:
        """The loss of one video, and its parts to log."""
        value = F.binary_cross_entropy_with_logits(self.logits(video, _DEPTH_NOISE),
                                                   video.gripper.flatten(0, 2))
        return value, {'loss': float(value.detach())}

    def logits(self, video: Video, noise: float) -> Tensor:
        """Of every frame of a video, its points moved by `noise` m at random."""
        points = video.points.flatten(0, 2)
        points = points + noise * torch.randn(points.shape).to(points.device)
        return gripper_logits(self.network, video.colour.flatten(0, 2), points,
                              video.valid.flatten(0, 2))


def train_gripper(generator: Svd4dgenGenerator, clips: Clips, config: LoopConfig
                  ) -> dict[str, float]:
    """Train the network that finds the gripper; returns `iou` and `loss` on held-back frames."""
    step = GripperStep(generator.parts.gripper).requires_grad_(True)
    check = _draws(clips, config, VALIDATION_CLIPS)

    def validate() -> dict[str, float]:
        rows = []
        for video in check:
            out, true = step.logits(video, 0.0), video.gripper.flatten(0, 2)
            both = ((out > 0) & (true > 0.5)).sum() / ((out > 0) | (true > 0.5)).sum().clamp_min(1)
            rows.append({'iou': float(both),
                         'loss': float(F.binary_cross_entropy_with_logits(out, true))})
        return _means(rows)

    measures = train(step, config, lambda rng: (clips.draw(rng, 1),), validate, better='loss')
    step.requires_grad_(False)
    return measures


def train_preset(data_folders: Sequence[Path], out: Path, *, svd: str | None = None,
                 init: Path | None = None, size: tuple[int, int] | None = None,
                 vae_minutes: float, denoiser_minutes: float, gripper_minutes: float,
                 batch: int = 1, checkpointing: bool = False, episodes: int | None = None,
                 seed: int = 0) -> dict[str, dict[str, float]]:
    """All stages, resumable; the finished preset is `out`/preset. Returns the stages' measures.

    Starts from SVD in diffusers' layout, a folder or the name of a hub repository, or from the
    svd-4dgen preset in folder `init`. `size` is (height, width) in px of the images, by default the
    preset's own or 256x320; `checkpointing` spares memory for time. The time between frames is the
    preset's own, or with SVD that of `dt_of`. Raises InputError for data or weights that do not
    fit, when it is not told one start, or when the gripper network would stay random. A pointmap
    VAE of `init` that is trained without the denoiser makes no preset, see `come_apart`.
    """
    if (svd is None) == (init is None):
        raise InputError('start of the training', expected='SVD weights or a preset, one of them',
                         got='both' if svd else 'neither',
                         hint='Give --svd FOLDER_OR_HUB_NAME or --init FOLDER.')
    require_kind(out, 'svd-4dgen')
    torch.manual_seed(seed)
    tasks = task_names(data_folders)
    if init is None:
        networks, config = parts.load_svd(svd), SvdConfig(tasks=tasks, dt=dt_of(data_folders[0]))
    else:
        start = Svd4dgenGenerator.from_pretrained(init)
        networks, config = start.parts, replace(start.config, tasks=tasks)
    if size is not None:
        config = replace(config, height=size[0], width=size[1])
    knows_gripper = init is not None and networks.gripper is not None
    if networks.gripper is None:
        networks.gripper = parts.new_gripper()
    data = Demonstrations(data_folders, tasks, limit=episodes)
    if denoiser_minutes > 0:
        config = replace(config, seen=size_of(data))
    device = PartialState().device
    generator = Svd4dgenGenerator(networks, config)
    generator.to(device)
    if checkpointing:
        networks.unet.enable_gradient_checkpointing()
    log.info('%d episodes', len(data.episodes))
    # The gripper network sees frames one by one: what time lies between them does not matter.
    near = max(1, round(config.dt * data.rate))
    stride = data.stride(config.dt) if denoiser_minutes > 0 else near
    if batch > 1:
        data.require_views()
    clips = Clips(data, config, stride, device)
    # What the data are is bound below; runs of before know nothing of their size.
    bind_config(out, asdict(replace(config, seen=None)))
    require_weights(out / 'gripper', gripper_minutes, '--gripper-minutes', given=knows_gripper)
    apart = come_apart(out, ('vae_pointmap', vae_minutes), ('denoiser', denoiser_minutes),
                       '--dynamics-minutes', init)
    first = {'--svd': svd, '--init': init, '--seed': seed, '--data': data_folders,
             '--episodes': episodes}
    for name, minutes in (('vae_pointmap', vae_minutes), ('denoiser', denoiser_minutes),
                          ('gripper', gripper_minutes)):
        bind_start(out / name, first, minutes)

    def stage(name: str, minutes: float, rate: float) -> LoopConfig:
        # a check-point of the denoiser has more than 20 GB
        return LoopConfig(out / name, steps=1_000_000, minutes=minutes, learning_rate=rate,
                          seed=seed, save_minutes=15.0)

    measures = {'vae_pointmap': train_pointmap_vae(
        generator, clips, stage('vae_pointmap', vae_minutes, LEARNING_RATE))}
    bind(out / 'denoiser', generator.codec)
    measures['denoiser'] = train_denoiser(
        generator, clips, stage('denoiser', denoiser_minutes, LEARNING_RATE), batch=batch)
    measures['gripper'] = train_gripper(
        generator, clips, stage('gripper', gripper_minutes, GRIPPER_RATE))
    if not apart and PartialState().is_main_process:
        generator.save_pretrained(out / 'preset')
    return measures


def dt_of(data_folder: Path) -> float:
    """Seconds between frames that the data set has and that come near the paper's half second."""
    rate = float(read_meta(data_folder)['rate_hz'])
    return max(1, round(SvdConfig.dt * rate)) / rate


def size_of(data: Demonstrations) -> tuple[int, int] | None:
    """(height, width) in px of the images of a data set; None where they differ."""
    sizes = {episode.rgb.shape[2:4] for episode in data.episodes}
    return sizes.pop() if len(sizes) == 1 else None


def _draws(clips: Clips, config: LoopConfig, count: int) -> list[Video]:
    rng = np.random.default_rng(config.seed + 1)
    return [clips.draw(rng, 1, held=True) for _ in range(count)]


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
