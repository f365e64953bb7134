# SPDX-License-Identifier: Apache-2.0
"""The `tiny` preset: a small latent video diffusion model that runs on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import Tensor

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap, resize_view
from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Future, Observation, RgbdView
from fourdgen_ros.generator.checks import require_depth, require_seed, require_steps
from fourdgen_ros.generator.codec import PLANE, DecodedFrame, FrameCodec
from fourdgen_ros.generator.dynamics import LatentDynamics, pose_from_9d
from fourdgen_ros.generator.layers import DEPTH_RANGE, frame_tensor, rays
from fourdgen_ros.generator.registration import lay, register
from fourdgen_ros.generator.sampling import sample_future
from fourdgen_ros.generator.timing import Laps
from fourdgen_ros.generator.tool import agreed_tool, moved_tool, tool_poses
from fourdgen_ros.generator.weights import SAFE, load_whole

DEFAULT_STEPS = 4
# The codec decodes what is too far as the far end of DEPTH_RANGE; this close to it is invalid.
FAR_MARGIN = 0.1  # m
HAND_REACH = 0.25  # m of depth from the TCP to any point of hand and fingers, with room for errors


class TinyGenerator:
    """Codec + dynamics + scheduler behind the `Generator` protocol.

    `name` is 'tiny', or 'tiny-rgb' when the codec knows no depth: its futures have no valid point.
    Raises InputError when codec and dynamics do not fit each other.
    """

    def __init__(self, codec: FrameCodec, dynamics: LatentDynamics,
                 scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        for field in ('height', 'width', 'latent_dim'):
            ours, theirs = codec.config[field], dynamics.config[field]
            if ours != theirs:
                raise InputError('checkpoint', expected=f'codec and dynamics of one {field}',
                                 got=f'{ours} and {theirs}',
                                 hint='They come from different training runs.')
        self.codec = codec.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.dynamics = dynamics.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.scheduler = scheduler
        self.name = 'tiny' if codec.config.depth else 'tiny-rgb'

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = 'cpu') -> TinyGenerator:
        """Load a folder with `codec/`, `dynamics/` and `scheduler/` (safetensors only).

        Raises InputError when the folder, a file or the shapes in it are wrong.
        """
        folder = Path(folder)
        codec, dynamics = load_codec(folder), _part(folder, 'dynamics', LatentDynamics)
        scheduler = _part(folder, 'scheduler', FlowMatchEulerDiscreteScheduler)
        return cls(codec.to(device), dynamics.to(device), scheduler)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` reads."""
        folder = Path(folder)
        self.codec.save_pretrained(folder / 'codec')
        self.dynamics.save_pretrained(folder / 'dynamics')
        self.scheduler.save_pretrained(folder / 'scheduler')

    @torch.inference_mode()
    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """See `Generator.generate`."""
        # 1. Check and prepare the inputs
        clock = Laps()
        steps = DEFAULT_STEPS if steps is None else steps
        self._check(observation, task, seed, steps)
        seed = int(seed)  # torch takes none of numpy's kinds
        height, width = self.codec.config.height, self.codec.config.width
        views = [resize_view(v, height, width) for v in observation.views]
        device = self.codec.device
        rgb = torch.from_numpy(np.stack([v.rgb for v in views])).to(device)
        depth = torch.from_numpy(np.stack([v.depth for v in views])).to(device)
        sees_depth = self.codec.config.depth
        if not sees_depth:
            depth = torch.full_like(depth, PLANE)
        K = torch.from_numpy(np.stack([v.K for v in views])).float().to(device)
        frame0 = frame_tensor(rgb, depth, K).contiguous(memory_format=torch.channels_last)
        measured = [_measured(view) for view in views] if sees_depth else []
        clock.lap('prepare')

        # 2. Denoise the latents of all views and frames together
        with torch.autocast(device.type, torch.bfloat16):
            start = self.codec.encode(frame0).float()
            tool = self.codec.tcp(start)
            index = torch.tensor([self.dynamics.config.tasks.index(task)], device=device)
            future = sample_future(
                self.dynamics, self.scheduler, frame0[None],
                self.dynamics.standardise(start)[None], tool[None], index, steps=steps,
                generator=torch.Generator().manual_seed(seed))
            clock.lap('denoise')

            # 3. Decode every frame against frame 0 of its view; frame 0 only for its gripper mask.
            # The dynamics learnt with the tool as the latents tell it, so that it is measured now.
            context = self.codec.context(frame0)
            if sees_depth:
                drawn = self.codec.decode(start, tool, context, K)
                tool = moved_tool(tool, _laid(drawn, K, measured))
            z = torch.cat([start[:, None], self.dynamics.restore(future.latents[0])], dim=1)
            R, p = _cameras(measured, future.camera[0], tool)
            tools = torch.cat([tool[:, None], future.tool[0]], dim=1)
            if self.dynamics.config.cross_view:
                tools = agreed_tool(tools, R, p)
            frames = z.shape[1]
            out = self.codec.decode(
                z.flatten(0, 1), tools.flatten(0, 1),
                [f.repeat_interleave(frames, 0) for f in context], K.repeat_interleave(frames, 0))
        depth0 = depth.repeat_interleave(frames, 0)
        colour0 = frame0[:, :3].repeat_interleave(frames, 0)
        colour, metres = out.compose(colour0, depth0)
        mask = torch.sigmoid(out.gripper).view(len(views), frames, height, width)
        # Frame 0 keeps its measured depth: a mask drawn beside the hand would mark what is behind.
        if sees_depth:
            behind = depth - tools[:, 0, 2, None, None] > HAND_REACH
            mask[:, 0] *= ~behind
        clock.lap('decode')

        # 4. Points of every view in the reference view's frame
        points = torch.stack(rays(K, height, width), dim=-1).repeat_interleave(frames, 0) \
            * metres[..., None]
        shape = (len(views), frames, height, width)
        points = points.view(*shape, 3)
        points[1:] = torch.einsum('vij,vthwj->vthwi', R[1:], points[1:]) \
            + p[1:, None, None, None]
        colour = colour.view(len(views), frames, 3, height, width)
        result = self._assemble(observation, views, colour, points, metres.view(shape),
                                mask, R, p, seed, steps)
        if not sees_depth:
            result = replace(result, points=np.full_like(result.points, np.nan),
                             valid=np.zeros_like(result.valid), clamp_ratio=0.0)
        clock.lap('points')
        told = 0.1 * tools[..., 9].mean(0).clamp_min(0.0).float().cpu().numpy()
        return replace(result, timings=clock.laps, opening=told)

    def _check(self, observation: Observation, task: str, seed: int, steps: int) -> None:
        if task not in self.dynamics.config.tasks:
            raise InputError('task', expected=f'one of {list(self.dynamics.config.tasks)}',
                             got=repr(task), hint='The checkpoint was not trained on it.')
        limit = self.dynamics.config.max_views
        if len(observation.views) > limit:
            raise InputError('observation', expected=f'at most {limit} views',
                             got=str(len(observation.views)),
                             hint='Name fewer cameras, or train on as many.')
        require_seed(seed)
        require_steps(steps)
        if self.codec.config.depth:
            require_depth(observation, DEPTH_RANGE)

    def _assemble(self, observation: Observation, views: list[RgbdView], colour: Tensor,
                  points: Tensor, metres: Tensor, mask: Tensor, R: Tensor, p: Tensor, seed: int,
                  steps: int) -> Future:
        rgb8 = ((colour.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        rgb8 = rgb8.permute(0, 1, 3, 4, 2).cpu().numpy()
        xyz = points.float().cpu().numpy()
        rotation, position = R.float().cpu().numpy(), p.float().cpu().numpy()
        for i, view in enumerate(views):
            rgb8[i, 0] = view.rgb
            measured = pointmap(view.depth, view.K)
            xyz[i, 0] = measured if i == 0 else measured @ rotation[i].T + position[i]
        limit = DEPTH_RANGE[1] - FAR_MARGIN
        too_far = metres[:, 1:].float().cpu().numpy() >= limit
        # A background that is out of range now is no fault of what is generated.
        left = too_far & np.stack([view.depth < limit for view in views])[:, None]
        valid = np.isfinite(xyz).all(-1)
        valid[:, 1:] &= ~too_far
        if not (torch.isfinite(colour).all() and valid[:, 1:].any()):
            raise GenerationError('the generated future', expected='finite colours and points',
                                  got='NaN or nothing within range',
                                  hint='The checkpoint is damaged; load another.')
        xyz[~valid] = np.nan
        return Future(
            rgb=rgb8, points=xyz, valid=valid, gripper=mask.float().cpu().numpy(),
            dt=float(self.dynamics.config.dt), K=np.stack([v.K for v in views]),
            cameras=tuple(v.camera for v in views), stamp=observation.stamp, generator=self.name,
            frame_id=observation.reference.frame_id,
            frame_ids=tuple(v.frame_id for v in views), seed=seed, steps=steps,
            clamp_ratio=float(left.mean()))


def _measured(view: RgbdView) -> NDArray[np.floating]:
    """Points (n, 3) of a view, m in its own optical frame, that networks take for measured."""
    xyz = pointmap(view.depth, view.K).reshape(-1, 3)
    return xyz[(xyz[:, 2] > DEPTH_RANGE[0]) & (xyz[:, 2] < DEPTH_RANGE[1])]


def _laid(drawn: DecodedFrame, K: Tensor,
          measured: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Motions (V, 4, 4) that lay the hands as cameras K (V, 3, 3) draw them at frame 0 on the
    points that each view has `measured`, see `registration.lay`."""
    ray = torch.stack(rays(K, *drawn.depth.shape[1:]), dim=-1)
    hands = (ray * drawn.depth[..., None]).cpu().numpy()
    shown = (drawn.gripper > 0).cpu().numpy()
    return np.stack([lay(hand[s], points)
                     for hand, s, points in zip(hands, shown, measured, strict=True)])


def _cameras(measured: Sequence[NDArray[np.floating]], told: Tensor,
             tool: Tensor) -> tuple[Tensor, Tensor]:
    """R (V, 3, 3) and p (V, 3), m: poses of the views in the reference view's frame, from what the
    network tells of them (V, 9) and the points that they have `measured`, none for one that sees no
    depth. From cameras that it does not know, the tool (V, 10) that all see tells at times more
    than that."""
    R, p = pose_from_9d(told.float())
    R[0], p[0] = torch.eye(3), 0.0
    if not measured:
        return R, p
    guess = se3.make(R.double().cpu().numpy(), p.double().cpu().numpy())
    seen = tool_poses(tool)
    T = torch.from_numpy(register(measured, guess, seen[0] @ se3.inverse(seen))).to(R)
    return T[:, :3, :3], T[:, :3, 3]


def load_codec(folder: Path) -> FrameCodec:
    """The codec alone of a folder that `TinyGenerator.from_pretrained` reads; raises as that."""
    return _part(folder, 'codec', FrameCodec)


def _part(folder: Path, name: str, kind: type) -> Any:
    """A network, from safetensors only, or the scheduler of a checkpoint."""
    network = issubclass(kind, ModelMixin)
    file = folder / name / ('diffusion_pytorch_model.safetensors' if network
                            else 'scheduler_config.json')
    if not file.is_file():
        raise InputError(f'checkpoint {folder}', expected=f'{name}/{file.name}',
                         got='no such file',
                         hint='Weights are loaded from safetensors only: train them with '
                              '`fourdgen train` or point to a folder that has them.')
    try:
        return load_whole(kind, folder / name, **SAFE) if network else kind.from_pretrained(
            folder / name)
    except Exception as error:  # diffusers and safetensors raise many kinds
        raise InputError(f'checkpoint {folder}', expected='weights that fit config.json',
                         got=f'{type(error).__name__}: {error}',
                         hint='The file is damaged or belongs to another version.') from error
