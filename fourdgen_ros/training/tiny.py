# SPDX-License-Identifier: Apache-2.0
"""Training of the `tiny` preset: first the frame codec, then the dynamics on its latents."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.codec import DecodedFrame, FrameCodec
from fourdgen_ros.generator.dynamics import LatentDynamics
from fourdgen_ros.generator.sampling import sample_latents
from fourdgen_ros.generator.tiny import TinyGenerator
from fourdgen_ros.training.binding import bind
from fourdgen_ros.training.dataset import Demonstrations, DynamicsBatch
from fourdgen_ros.training.loop import LoopConfig, train
from fourdgen_ros.training.losses import codec_loss, flow_weight, gripper_measures

log = logging.getLogger(__name__)

# Noise added to the codec's latents (of unit variance) in training: the decoder then forgives the
# dynamics errors of that size and neighbouring latents mean neighbouring frames.
LATENT_NOISE = 0.12
# Noise added to the standardised latents of frame 0, which a camera's noise moves about as much.
START_NOISE = 0.1
VALIDATION_EPISODES = 40
REACH = 16  # records between a frame and its frame 0 at most: as far as the dynamics look ahead


def split(data: Demonstrations) -> tuple[range, range]:
    """Training and validation episodes: the first tenth validates, at least 1 and at most 40.

    From 400 episodes on, a data set may thus grow without mixing the two. Raises InputError when
    there are fewer than 2.
    """
    count = len(data.episodes)
    if count < 2:
        raise InputError('data set', expected='at least 2 episodes', got=str(count),
                         hint='Collect more: fourdgen collect.')
    held = max(1, min(VALIDATION_EPISODES, count // 10))
    return range(held, count), range(held)


def channels_last(x: Tensor) -> Tensor:
    """The same (N, C, H, W) in the memory layout in which CPUs convolve fastest."""
    return x.contiguous(memory_format=torch.channels_last)


def train_codec(codec: FrameCodec, data: Demonstrations, config: LoopConfig, *, batch: int = 24,
                compile_model: bool = False) -> dict[str, float]:
    """Train the codec; returns its measures on validation episodes: those of `gripper_measures`,
    `tcp_mm`, `opening_mm` and `loss`."""
    training, held = split(data)
    device = PartialState().device
    codec.to(device, memory_format=torch.channels_last)

    def reconstruct(frame: Tensor, frame0: Tensor, true_tcp: Tensor, K: Tensor) -> tuple:
        latent = codec.encode(frame)
        tcp = codec.tcp(latent)
        noisy = latent + LATENT_NOISE * torch.randn_like(latent)
        # the decoder learns with the true tool pose, so that it draws the tool where the pose says
        out = codec.decode(noisy, true_tcp, codec.context(frame0), K)
        return out.rgb, out.depth, out.gate, out.gripper, tcp

    forward = torch.compile(reconstruct) if compile_model else reconstruct

    def loss(rng: np.random.Generator) -> tuple[Tensor, dict]:
        b = data.codec_batch(rng, batch, training, REACH).to(device)
        *decoded, tcp = forward(channels_last(b.frame), channels_last(b.frame0), b.tcp, b.K)
        return codec_loss(DecodedFrame(*decoded), tcp, b)

    rng = np.random.default_rng(config.seed + 1)
    checks = [data.codec_batch(rng, 32, held, REACH).to(device) for _ in range(6)]

    def validate() -> dict[str, float]:
        rows: dict[str, list[Tensor]] = {}
        for b in checks:
            latent = codec.encode(channels_last(b.frame))
            tcp = codec.tcp(latent)
            out = codec.decode(latent, tcp, codec.context(channels_last(b.frame0)), b.K)
            measures = gripper_measures(out, b)
            measures['tcp_mm'] = 1e3 * (tcp[:, :3] - b.tcp[:, :3]).norm(dim=1)
            measures['opening_mm'] = 1e2 * (tcp[:, 9] - b.tcp[:, 9]).abs()
            measures['loss'] = codec_loss(out, tcp, b)[0][None]
            for name, value in measures.items():
                rows.setdefault(name, []).append(value)
        means = ('loss', 'opening_mm')  # half of all openings are easy: a median hides the rest
        return {k: float(torch.cat(v).nanmean() if k in means else torch.cat(v).nanmedian())
                for k, v in rows.items()}

    return train(codec, config, loss, validate, better='loss')


@torch.no_grad()
def encode_all(codec: FrameCodec, data: Demonstrations) -> list[Tensor]:
    """Latents (T, V, D) of every episode, one tensor each."""
    latents = []
    for i, e in enumerate(data.episodes):
        t, v = e.rgb.shape[:2]
        b = data.frames([(i, view, at, at) for at in range(t) for view in range(v)])
        b = b.to(codec.device)
        with torch.autocast(codec.device.type, torch.bfloat16):
            z = codec.encode(channels_last(b.frame))
        latents.append(z.float().view(t, v, -1))
    return latents


def train_dynamics(dynamics: LatentDynamics, codec: FrameCodec, data: Demonstrations,
                   config: LoopConfig, *, batch: int = 32,
                   compile_model: bool = False) -> dict[str, float]:
    """Train the dynamics on the codec, which is frozen; returns errors (mm) of the TCP, the
    cameras' positions and the opening in sampled validation futures.

    Raises InputError when the data's rate is no multiple of the dynamics'.
    """
    training, held = split(data)
    device = PartialState().device
    codec.eval().requires_grad_(False)
    codec.to(device, memory_format=torch.channels_last)
    dynamics.to(device, memory_format=torch.channels_last)
    latents = encode_all(codec, data)
    frames = dynamics.config.frames
    stride = data.stride(dynamics.config.dt)
    flat = torch.cat([latents[i].flatten(0, 1) for i in training])
    dynamics.latent_mean.copy_(flat.mean(0))
    dynamics.latent_std.copy_(flat.std(0).clamp_min(1e-3))
    log.info('encoded %d frames', len(flat))

    def denoise(frame0: Tensor, noisy: Tensor, t: Tensor, begin: Tensor, task: Tensor) -> tuple:
        return dynamics(noisy, t, begin, dynamics.condition(frame0), task)

    forward = torch.compile(denoise) if compile_model else denoise

    def targets(b: DynamicsBatch) -> Tensor:
        """Standardised latents (B, V, T, D) of the future frames."""
        z = torch.stack([torch.stack([latents[i][t] for i, t in row[1:]]) for row in b.index])
        return dynamics.standardise(z.transpose(1, 2))

    def start(b: DynamicsBatch) -> Tensor:
        """Standardised latents (B, V, D) of frame 0."""
        return dynamics.standardise(torch.stack([latents[i][t] for i, t in b.index[:, 0]]))

    def tcp_error(clean: Tensor, b: DynamicsBatch) -> Tensor:
        """(B, V, T, 10) in the units of `FrameCodec.tcp`."""
        return codec.tcp(dynamics.restore(clean)) - b.tcp

    def loss(rng: np.random.Generator) -> tuple[Tensor, dict]:
        b = data.dynamics_batch(rng, batch, training, frames, stride)
        b.frame0 = photometric(b.frame0, rng)
        b = b.to(device)
        z = targets(b)
        n = z.shape[0]
        t = torch.from_numpy(1.0 / (1.0 + np.exp(-rng.normal(0.4, 1.2, n)))).float()
        t = torch.where(torch.from_numpy(rng.random(n) < 0.25), torch.ones(n), t)
        t = t.to(device)
        noise = torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32)).to(device)
        noisy = (1 - t)[:, None, None, None] * z + t[:, None, None, None] * noise
        begin = start(b)
        begin = begin + START_NOISE * torch.randn_like(begin)
        with torch.autocast(device.type, torch.bfloat16), _attention(device):
            clean, camera, openings = forward(b.frame0, noisy, t, begin, b.task)
        weight = flow_weight(t)
        latent = ((clean - z).square().mean((1, 2, 3)) * weight).mean()
        error = tcp_error(clean, b)
        position = error[..., :3].norm(dim=-1).mean() / 0.1
        rotation = error[..., 3:9].abs().mean()
        opening = (openings - b.tcp[..., 9]).abs().mean()
        geometry = (camera - b.camera).abs().mean()
        total = latent + position + 0.5 * rotation + 2.0 * opening + geometry
        return total, {k: float(v.detach()) for k, v in dict(
            loss=total, latent=latent, tcp=position, rotation=rotation, opening=opening,
            geometry=geometry).items()}

    rng = np.random.default_rng(config.seed + 1)
    checks = [data.dynamics_batch(rng, 40, held, frames, stride).to(device) for _ in range(2)]
    scheduler = FlowMatchEulerDiscreteScheduler()

    def validate() -> dict[str, float]:
        millimetres, camera_mm, opening_mm = [], [], []
        for k, b in enumerate(checks):
            clean, camera, openings = sample_latents(
                dynamics, scheduler, b.frame0, start(b), b.task, steps=4,
                generator=torch.Generator().manual_seed(k))
            opening_mm.append(1e2 * (openings - b.tcp[..., 9]).abs().flatten())
            millimetres.append(1e3 * tcp_error(clean, b)[..., :3].norm(dim=-1))
            camera_mm.append(1e3 * (camera - b.camera)[..., :3].norm(dim=-1)[:, 1:].flatten())
        mm = torch.cat(millimetres)
        by_frame = mm.mean(1).median(0).values
        return {'tcp_mm': float(mm.median()), 'tcp_p90_mm': float(mm.quantile(0.9)),
                'tcp_mean_mm': float(mm.mean()), 'tcp_first_mm': float(by_frame[0]),
                'tcp_last_mm': float(by_frame[-1]),
                'camera_mm': float(torch.cat(camera_mm).median()),
                'opening_mean_mm': float(torch.cat(opening_mm).mean())}

    return train(dynamics, config, loss, validate, better='tcp_mean_mm')


def _attention(device: torch.device) -> AbstractContextManager:
    """On CPUs the fused kernel's backward pass in bf16 is half as fast as plain products (torch
    2.13)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == 'cpu' else nullcontext()


def photometric(frame0: Tensor, rng: np.random.Generator) -> Tensor:
    """Frames (B, V, 7, H, W) with another gain and offset of each view's colours, pixel noise, and
    depth noise as of a real sensor: 2 mm on valid pixels, of z alone."""
    b, v = frame0.shape[:2]
    out = frame0.clone()
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (b, v, 3, 1, 1))).float()
    offset = torch.from_numpy(rng.uniform(-0.1, 0.1, (b, v, 3, 1, 1))).float()
    out[:, :, :3] = frame0[:, :, :3] * gain + offset
    out[:, :, :3] += 0.03 * torch.from_numpy(
        rng.standard_normal(out[:, :, :3].shape, dtype=np.float32))
    out[:, :, 5] += 0.004 * out[:, :, 6] * torch.from_numpy(
        rng.standard_normal(out[:, :, 5].shape, dtype=np.float32))
    return out


def train_preset(data_folder: Path, out: Path, *, codec_minutes: float, dynamics_minutes: float,
                 init: Path | None = None, init_codec: Path | None = None,
                 episodes: int | None = None, seed: int = 0,
                 compile_model: bool = False) -> dict[str, dict[str, float]]:
    """Both stages, resumable; the finished preset is `out`/preset. Returns both stages' measures.

    Starts from the preset in folder `init`, or from the codec alone of the one in `init_codec`;
    what neither gives starts from random weights, which follow from `seed`. `episodes` limits the
    data to the first so many. Raises InputError for data or a preset that do not fit.
    """
    torch.manual_seed(seed)
    codec, dynamics = FrameCodec(), LatentDynamics()
    if init is not None or init_codec is not None:
        start = TinyGenerator.from_pretrained(init_codec if init is None else init)
        codec = start.codec.requires_grad_(True)
        if init is not None:
            dynamics = start.dynamics.requires_grad_(True)
    data = Demonstrations(data_folder, tuple(dynamics.config.tasks), limit=episodes)
    log.info('%d episodes', len(data.episodes))
    measures = {'codec': train_codec(
        codec, data, LoopConfig(out / 'codec', steps=1_000_000, minutes=codec_minutes, seed=seed),
        compile_model=compile_model)}
    bind(out / 'dynamics', codec)
    measures['dynamics'] = train_dynamics(
        dynamics, codec, data,
        LoopConfig(out / 'dynamics', steps=1_000_000, minutes=dynamics_minutes, seed=seed),
        compile_model=compile_model)
    preset = TinyGenerator(codec, dynamics, FlowMatchEulerDiscreteScheduler())
    preset.save_pretrained(out / 'preset')
    return measures
