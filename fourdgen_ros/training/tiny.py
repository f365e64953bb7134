# SPDX-License-Identifier: Apache-2.0
"""Training of the `tiny` preset: first the frame codec, then the dynamics on its latents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.codec import DecodedFrame, FrameCodec
from fourdgen_ros.generator.dynamics import LatentDynamics, Prediction
from fourdgen_ros.generator.layers import rotation_from_6d
from fourdgen_ros.generator.sampling import sample_future
from fourdgen_ros.generator.tiny import TinyGenerator, load_codec
from fourdgen_ros.generator.tool import nearest_turned
from fourdgen_ros.training.binding import (
    bind,
    bind_config,
    bind_start,
    come_apart,
    require_kind,
    require_weights,
)
from fourdgen_ros.training.dataset import (
    CodecBatch,
    CodecRecords,
    Demonstrations,
    DynamicsBatch,
    split,
    task_names,
)
from fourdgen_ros.training.loop import LoopConfig, read_checkpoint, train
from fourdgen_ros.training.losses import codec_loss, flow_weight, gripper_measures

log = logging.getLogger(__name__)

# Noise added to the codec's latents (of unit variance) in training: the decoder then forgives the
# dynamics errors of that size and neighbouring latents mean neighbouring frames.
LATENT_NOISE = 0.12
# Noise added to the standardised latents of frame 0. It moves the pose read from them by 2 mm; more
# of it (0.1, 9 mm) blurs where the motion starts.
START_NOISE = 0.02
PURE_NOISE = 0.25  # share of the samples that start where sampling does
CODEC_BATCH, DYNAMICS_BATCH = 24, 32  # samples of a step


def channels_last(x: Tensor) -> Tensor:
    """The same (N, C, H, W) in the memory layout in which CPUs convolve fastest."""
    return x.contiguous(memory_format=torch.channels_last)


class CodecStep(nn.Module):
    """The codec's loss of a batch, see `codec_loss`."""

    def __init__(self, codec: FrameCodec, *, compile_model: bool = False) -> None:
        super().__init__()
        self.codec = codec
        self._run = torch.compile(self._reconstruct) if compile_model else self._reconstruct

    def forward(self, b: CodecBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts to log."""
        *decoded, tcp, true = self._run(channels_last(b.frame), channels_last(b.frame0), b.tcp, b.K)
        return codec_loss(DecodedFrame(*decoded), tcp, replace(b, tcp=true),
                          anchored=self.codec.config.anchored)

    def _reconstruct(self, frame: Tensor, frame0: Tensor, true_tcp: Tensor, K: Tensor) -> tuple:
        latent = self.codec.encode(frame)
        tcp = self.codec.tcp(latent)
        noisy = latent + LATENT_NOISE * torch.randn_like(latent)
        # the decoder learns with the true tool pose, so that it draws the tool where the pose says
        true = nearest_turned(true_tcp, tcp.detach())
        out = self.codec.decode(noisy, true, self.codec.context(frame0), K)
        return out.rgb, out.depth, out.gate, out.gripper, tcp, true


def train_codec(codec: FrameCodec, data: Demonstrations, config: LoopConfig, *, reach: int,
                batch: int = CODEC_BATCH, sensor_faults: bool = False,
                compile_model: bool = False) -> dict[str, float]:
    """Train the codec on frames at most `reach` records after their frame 0; returns its measures
    on validation episodes: those of `gripper_measures`, `tcp_mm`, `tcp_deg` (but for half turns,
    see `nearest_turned`), `opening_mm` and `loss`. With `sensor_faults` pictures have them in
    validation too."""
    training, held = split(data)
    device = PartialState().device
    codec.to(device, memory_format=torch.channels_last)

    def draw(rng: np.random.Generator) -> tuple[CodecRecords]:
        return (data.codec_records(rng, batch, training, reach,
                                   sensor_faults=sensor_faults).pinned(),)

    def place(records: CodecRecords) -> tuple[CodecBatch]:
        return (records.to(device).batch(),)

    rng = np.random.default_rng(config.seed + 1)
    checks = [place(data.codec_records(rng, 32, episodes, reach, sensor_faults=sensor_faults))[0]
              for episodes in held for _ in range(6)]

    def validate() -> dict[str, float]:
        rows: dict[str, list[Tensor]] = {}
        for b in checks:
            latent = codec.encode(channels_last(b.frame))
            tcp = codec.tcp(latent)
            out = codec.decode(latent, tcp, codec.context(channels_last(b.frame0)), b.K)
            measures = gripper_measures(out, b)
            measures['tcp_mm'] = 1e3 * (tcp[:, :3] - b.tcp[:, :3]).norm(dim=1)
            measures['opening_mm'] = 1e2 * (tcp[:, 9] - b.tcp[:, 9]).abs()
            true = nearest_turned(b.tcp, tcp)
            measures['tcp_deg'] = _degrees(tcp, true)
            measures['loss'] = codec_loss(out, tcp, replace(b, tcp=true),
                                          anchored=codec.config.anchored)[0][None]
            for name, value in measures.items():
                rows.setdefault(name, []).append(value)
        means = ('loss', 'opening_mm')  # half of all openings are easy: a median hides the rest
        return {k: float(torch.cat(v).nanmean() if k in means else torch.cat(v).nanmedian())
                for k, v in rows.items()}

    step = CodecStep(codec, compile_model=compile_model)
    return train(step, config, draw, validate, better='loss', place=place)


@torch.no_grad()
def encode(codec: FrameCodec, frames: Tensor) -> Tensor:
    """Latents (..., D) of frames (..., 7, H, W) as `frame_tensor` makes them."""
    with torch.autocast(codec.device.type, torch.bfloat16):
        z = codec.encode(channels_last(frames.flatten(0, -4)))
    return z.float().view(*frames.shape[:-3], -1)


@torch.no_grad()
def encode_all(codec: FrameCodec, data: Demonstrations) -> list[Tensor]:
    """Latents (T, V, D) of every episode, one tensor each."""
    return [encode(codec, data.frames(i, codec.device)) for i in range(len(data.episodes))]


class DynamicsStep(nn.Module):
    """The dynamics' loss of a batch: how wrong the future is that they tell from a noisy one."""

    def __init__(self, dynamics: LatentDynamics, *, compile_model: bool = False) -> None:
        super().__init__()
        self.dynamics = dynamics
        self._run = torch.compile(self._predict) if compile_model else self._predict

    def forward(self, b: DynamicsBatch, frame0: Tensor, z: Tensor, start: Tensor,
                tool: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`b` with its frame 0 as the dynamics see it, the standardised latents of the future
        (B, V, T, D) and of frame 0 (B, V, D), and the tool at frame 0 (B, V, 10)."""
        t = torch.sigmoid(0.4 + 1.2 * torch.randn(len(z), device=z.device))
        t = torch.where(torch.rand(len(z), device=z.device) < PURE_NOISE, torch.ones_like(t), t)
        share = t[:, None, None, None]
        noisy = (1.0 - share) * z + share * torch.randn_like(z)
        with _attention(z.device):
            out = self._run(frame0, noisy, t, start, tool, b.task)
        latent = ((out.latents - z).square().mean((1, 2, 3)) * flow_weight(t)).mean()
        error = out.tool - nearest_turned(b.tcp, out.tool.detach())
        position = error[..., :3].norm(dim=-1).mean() / 0.1
        rotation, opening = error[..., 3:9].abs().mean(), error[..., 9].abs().mean()
        geometry = (out.camera - b.camera).abs().mean()
        known = b.keyframes.isfinite().all(dim=-1)
        off = (out.keyframes - b.keyframes.nan_to_num()).norm(dim=-1) * known
        keyframes = off.sum() / known.sum().clamp_min(1) / 0.1
        total = latent + position + 0.5 * rotation + 2.0 * opening + geometry + keyframes
        return total, {k: v.detach() for k, v in dict(
            loss=total, latent=latent, tcp=position, rotation=rotation, opening=opening,
            geometry=geometry, keyframes=keyframes).items()}

    def _predict(self, frame0: Tensor, noisy: Tensor, t: Tensor, start: Tensor, tool: Tensor,
                 task: Tensor) -> Prediction:
        return self.dynamics(noisy, t, start, tool, self.dynamics.condition(frame0), task)


def train_dynamics(dynamics: LatentDynamics, codec: FrameCodec, data: Demonstrations,
                   config: LoopConfig, *, batch: int = DYNAMICS_BATCH,
                   sensor_faults: bool = False, compile_model: bool = False) -> dict[str, float]:
    """Train the dynamics on the codec, which is frozen; returns errors of the TCP, the cameras'
    positions and the opening in sampled validation futures. With `sensor_faults` all futures start
    from pictures with them, those to validate on too.

    Raises InputError when the data's rate is no multiple of the dynamics'.
    """
    last = config.folder / 'last.pt'
    if config.minutes <= 0.0 and dynamics.measured and not last.is_file():
        return {}  # as `train` would, after minutes of encoding
    training, held = split(data)
    device = PartialState().device
    codec.eval().requires_grad_(False)
    codec.to(device, memory_format=torch.channels_last)
    dynamics.to(device, memory_format=torch.channels_last)
    step = DynamicsStep(dynamics, compile_model=compile_model)
    if last.is_file():  # with the scale of its latents: the data may have grown since
        step.load_state_dict(read_checkpoint(last)['model'])
    episodes = encode_all(codec, data)
    frames = dynamics.config.frames
    stride = data.stride(dynamics.config.dt)
    flat = torch.cat([episodes[i].flatten(0, 1) for i in training])
    if not dynamics.measured:  # weights that are carried on go with the numbers they learnt with
        dynamics.latent_mean.copy_(flat.mean(0))
        dynamics.latent_std.copy_(flat.std(0).clamp_min(1e-3))
    log.info('encoded %d frames', len(flat))
    latents = dynamics.standardise(torch.cat(episodes))  # (records, V, D)
    first = np.cumsum([0, *(len(e) for e in episodes)])

    def known(b: DynamicsBatch) -> tuple[Tensor, Tensor]:
        """Standardised latents of frame 0 (B, V, D) and of the future frames (B, V, T, D)."""
        rows = torch.from_numpy(first[b.index[..., 0]] + b.index[..., 1]).to(device)
        z = latents[rows].transpose(1, 2)
        return z[:, :, 0], z[:, :, 1:]

    def first_latents(b: DynamicsBatch) -> Tensor:
        """Standardised latents of frame 0 as it is seen (B, V, D)."""
        return dynamics.standardise(encode(codec, b.frame0())) if sensor_faults else known(b)[0]

    def tool(begin: Tensor) -> Tensor:
        """What the latents of frame 0 (B, V, D) tell of the tool, (B, V, 10)."""
        return codec.tcp(dynamics.restore(begin))

    def draw(rng: np.random.Generator) -> tuple[DynamicsBatch]:
        return (data.dynamics_batch(rng, batch, training, frames, stride,
                                    sensor_faults=sensor_faults).pinned(),)

    def place(b: DynamicsBatch) -> tuple[DynamicsBatch, Tensor, Tensor, Tensor, Tensor]:
        b = b.to(device)
        frame0, begin, z = b.frame0(), first_latents(b), known(b)[1]
        begin = begin + START_NOISE * torch.randn_like(begin)
        return b, photometric(frame0), z, begin, tool(begin)

    rng = np.random.default_rng(config.seed + 1)
    checks = [data.dynamics_batch(rng, 40, episodes, frames, stride,
                                  sensor_faults=sensor_faults).to(device)
              for episodes in held for _ in range(2)]
    scheduler = FlowMatchEulerDiscreteScheduler()

    def validate() -> dict[str, float]:
        millimetres, degrees, camera_mm, opening_mm, keyframe_mm = [], [], [], [], []
        by_task: dict[str, list[Tensor]] = {}
        for k, b in enumerate(checks):
            begin = first_latents(b)
            out = sample_future(dynamics, scheduler, b.frame0(), begin, tool(begin), b.task,
                                steps=4, generator=torch.Generator().manual_seed(k))
            error = out.tool - b.tcp
            degrees.append(_degrees(out.tool, nearest_turned(b.tcp, out.tool)).flatten())
            opening_mm.append(1e2 * error[..., 9].abs().flatten())
            keyframe_mm.append(1e3 * (out.keyframes - b.keyframes).norm(dim=-1).flatten())
            millimetres.append(1e3 * error[..., :3].norm(dim=-1))
            camera_mm.append(1e3 * (out.camera - b.camera)[..., :3].norm(dim=-1)[:, 1:].flatten())
            name = dynamics.config.tasks[int(b.task[0])]
            by_task.setdefault(f'tcp_mean_mm_{name}', []).append(millimetres[-1])
        mm = torch.cat(millimetres)
        by_frame = mm.mean(1).median(0).values
        return {'tcp_mm': float(mm.median()), 'tcp_p90_mm': float(mm.quantile(0.9)),
                'tcp_mean_mm': float(mm.mean()), 'tcp_first_mm': float(by_frame[0]),
                'tcp_last_mm': float(by_frame[-1]),
                'tcp_deg': float(torch.cat(degrees).median()),
                'camera_mm': float(torch.cat(camera_mm).median()),
                'opening_mean_mm': float(torch.cat(opening_mm).mean()),
                'keyframe_mm': float(torch.cat(keyframe_mm).nanmedian()),
                **{name: float(torch.cat(errors).mean()) for name, errors in by_task.items()}}

    return train(step, config, draw, validate, better='tcp_mean_mm', place=place)


def _degrees(a: Tensor, b: Tensor) -> Tensor:
    """Angles (...) between the rotations of tools (..., 10)."""
    first, second = (rotation_from_6d(tool[..., 3:9].float()) for tool in (a, b))
    trace = (first * second).sum(dim=(-2, -1))
    return torch.rad2deg(torch.arccos(((trace - 1.0) / 2.0).clamp(-1.0, 1.0)))


def _attention(device: torch.device) -> AbstractContextManager:
    """On CPUs the fused kernel's backward pass in bf16 is half as fast as plain products (torch
    2.13)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == 'cpu' else nullcontext()


def photometric(frame0: Tensor) -> Tensor:
    """Frames (B, V, 7, H, W) with another gain and offset of each view's colours, pixel noise, and
    depth noise as of a real sensor: 2 mm on valid pixels, of z alone."""
    rgb, xyz, valid = frame0.split((3, 3, 1), dim=2)
    one = torch.empty_like(rgb[..., :1, :1])  # a number for each colour of each view
    rgb = rgb * one.uniform_(0.85, 1.15) + torch.empty_like(one).uniform_(-0.1, 0.1)
    z = xyz[:, :, 2:] + 0.004 * valid * torch.randn_like(valid)
    return torch.cat([rgb + 0.03 * torch.randn_like(rgb), xyz[:, :, :2], z, valid], dim=2)


def train_preset(data_folders: Sequence[Path], out: Path, *, codec_minutes: float,
                 dynamics_minutes: float, init: Path | None = None, init_codec: Path | None = None,
                 episodes: int | None = None, seed: int = 0, cross_view: bool = True,
                 depth: bool = True, anchored: bool = True, sensor_faults: bool = False,
                 batch: int | None = None, learning_rate: float = LoopConfig.learning_rate,
                 compile_model: bool = False) -> dict[str, dict[str, float]]:
    """Both stages, resumable; the finished preset is `out`/preset. Returns both stages' measures.

    Starts from the preset in folder `init`, or from the codec alone of the one in `init_codec`;
    what neither gives starts from random weights, which follow from `seed`; `cross_view` is for
    such dynamics, `depth` and `anchored` for such a codec, `sensor_faults` for both. `batch` is the
    samples of a step of either stage, `learning_rate` where that begins to fall. `episodes` limits
    each data set to the first so many. Raises InputError for data, a preset or check-points in
    `out` that do not fit, and for a stage without minutes that would leave random weights. Where
    the codec of `init` is trained and its dynamics are not, the two do not belong together any
    more: no preset is written, and InputError raised for one that is there.
    """
    require_kind(out, 'tiny')
    torch.manual_seed(seed)
    tasks = task_names(data_folders)
    codec = FrameCodec(depth=depth, anchored=anchored)
    dynamics = LatentDynamics(tasks=tasks, cross_view=cross_view)
    if init is not None:
        start = TinyGenerator.from_pretrained(init)
        codec, dynamics = (part.requires_grad_(True) for part in (start.codec, start.dynamics))
        dynamics.add_tasks(tasks)
    elif init_codec is not None:
        codec = load_codec(init_codec)
    if sensor_faults and not codec.config.depth:
        raise InputError('sensor faults', expected='a codec that sees depth', got='one of RGB',
                         hint='Most of them are faults of depth: leave --sensor-faults out.')
    bind_config(out / 'codec', codec.config)
    bind_config(out / 'dynamics', dynamics.config)
    data = Demonstrations(data_folders, tuple(dynamics.config.tasks), limit=episodes,
                          depth=codec.config.depth)
    data.require_size(codec.config.height, codec.config.width)
    data.require_views(dynamics.config.max_views)
    # of the second stage, which begins hours later: how far it looks ahead, in records
    reach = dynamics.config.frames * data.stride(dynamics.config.dt)
    require_weights(out / 'codec', codec_minutes, '--codec-minutes',
                    given=init is not None or init_codec is not None)
    require_weights(out / 'dynamics', dynamics_minutes, '--dynamics-minutes',
                    given=init is not None)
    apart = come_apart(out, ('codec', codec_minutes), ('dynamics', dynamics_minutes),
                       '--dynamics-minutes', init)
    first = {'--init': init, '--init-codec': init_codec, '--seed': seed,
             '--sensor-faults': sensor_faults, '--data': data_folders, '--episodes': episodes}
    bind_start(out / 'codec', first, codec_minutes)
    bind_start(out / 'dynamics', first, dynamics_minutes)
    log.info('%d episodes', len(data.episodes))

    def stage(name: str, minutes: float) -> LoopConfig:
        return LoopConfig(out / name, steps=1_000_000, minutes=minutes, seed=seed,
                          learning_rate=learning_rate)

    measures = {'codec': train_codec(
        codec, data, stage('codec', codec_minutes), reach=reach,
        batch=CODEC_BATCH if batch is None else batch, sensor_faults=sensor_faults,
        compile_model=compile_model)}
    bind(out / 'dynamics', codec)
    measures['dynamics'] = train_dynamics(
        dynamics, codec, data, stage('dynamics', dynamics_minutes),
        batch=DYNAMICS_BATCH if batch is None else batch, sensor_faults=sensor_faults,
        compile_model=compile_model)
    if not apart and PartialState().is_main_process:
        preset = TinyGenerator(codec, dynamics, FlowMatchEulerDiscreteScheduler())
        preset.save_pretrained(out / 'preset')
    return measures
