# SPDX-License-Identifier: Apache-2.0
"""The `svd-4dgen` generator: SVD fine-tuned to colours and pointmaps of several views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Future, Observation, RgbdView
from fourdgen_ros.generator.checks import require_depth, require_seed, require_steps
from fourdgen_ros.generator.layers import rays
from fourdgen_ros.generator.svd import parts, pointmaps
from fourdgen_ros.generator.svd.anchoring import Anchor, anchor_reference, anchor_view, still
from fourdgen_ros.generator.svd.conditioning import Condition, embed_images, image_tokens
from fourdgen_ros.generator.svd.gripper import gripper_masks
from fourdgen_ros.generator.svd.latents import COLOUR, POINTS, LatentCodec
from fourdgen_ros.generator.svd.parts import Parts, SvdConfig
from fourdgen_ros.generator.svd.sampling import sample
from fourdgen_ros.generator.svd.sizes import view_as_trained
from fourdgen_ros.generator.svd.unet import MultiViewDenoiser
from fourdgen_ros.generator.timing import Laps


class Svd4dgenGenerator:
    """SVD's networks behind the `Generator` protocol.

    Raises InputError when networks and settings do not fit each other.
    """

    name = 'svd-4dgen'

    def __init__(self, networks: Parts, config: SvdConfig) -> None:
        self.parts, self.config = networks, config
        self.codec = LatentCodec(networks.vae, networks.vae_pointmap, config.quantised_targets)
        self.denoiser = MultiViewDenoiser(networks.unet, networks.cross_view)
        for module in self._modules():
            module.eval().requires_grad_(False)
        cell = self.codec.cell
        if config.height % cell or config.width % cell:
            raise InputError('settings of svd-4dgen', expected=f'image sides that {cell} divides',
                             got=f'{config.width}x{config.height}')

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = 'cpu') -> Svd4dgenGenerator:
        """Load a folder that `save_pretrained`, `fourdgen train` or `fourdgen convert` wrote.

        Raises InputError when the folder, a file or the shapes in it are wrong.
        """
        folder = Path(folder)
        config = SvdConfig.load(folder / parts.CONFIG_FILE)
        generator = cls(parts.load(folder), config)
        generator.to(device)
        return generator

    def to(self, device: str | torch.device) -> None:
        """Move every network to `device`."""
        for module in self._modules():
            module.to(device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` reads."""
        folder = Path(folder)
        self.parts.save(folder)
        self.config.save(folder / parts.CONFIG_FILE)

    @torch.inference_mode()
    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """See `Generator.generate`; without a gripper network, the gripper mask is empty."""
        # 1. Check and prepare the inputs
        clock = Laps()
        steps = self.config.steps if steps is None else steps
        self._check(observation, task, seed, steps)
        seed = int(seed)  # torch takes none of numpy's kinds
        views = [view_as_trained(v, self.config.seen, self.config.height, self.config.width)
                 for v in observation.views]
        colour0, points0, valid0 = self._tensors(views)
        condition = self.condition(colour0[None], points0[None], valid0[None])
        clock.lap('prepare')

        # 2. Denoise colours and pointmaps of all views together
        latents = sample(
            self.denoiser, self.parts.scheduler, condition, frames=self.config.frames, steps=steps,
            guidance=self.config.guidance, generator=torch.Generator().manual_seed(seed))[0]
        clock.lap('denoise')

        # 3. Decode; the points of every view are in the reference view's frame
        images = self.codec.decode(latents).float()
        colour = images[:, COLOUR]
        if not torch.isfinite(images).all():
            raise GenerationError('the generated future', expected='finite colours and points',
                                  got='NaN', hint='The checkpoint is damaged; load another.')
        rgb = ((colour + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        points = pointmaps.decode(images[:, POINTS])
        clock.lap('decode')

        # 4. Anchor them to the measured depth of frame 0
        future = self._assemble(observation, views, rgb.permute(0, 1, 3, 4, 2).cpu().numpy(),
                                points, points0, valid0, seed, steps)
        clock.lap('anchor')
        if self.parts.gripper is not None:
            future = replace(future, gripper=gripper_masks(self.parts.gripper, future))
            clock.lap('gripper')
        return replace(future, timings=clock.laps)

    def condition(self, colour: Tensor, points: Tensor, valid: Tensor) -> Condition:
        """The condition of frame 0: colour (B, V, 3, H, W) in -1..1, points (B, V, H, W, 3) in m in
        the views' own frames and which of them are valid (B, V, H, W)."""
        images = torch.stack([colour, pointmaps.encode(points, valid)], dim=2)
        embeddings = embed_images(self.parts.image_encoder, colour.flatten(0, 1))
        tokens = image_tokens(embeddings.unflatten(0, colour.shape[:2]), self.config.clip_by)
        return Condition(self.codec.condition(images), tokens,
                         torch.tensor(self.config.ids, device=colour.device))

    def _modules(self) -> list[torch.nn.Module]:
        gripper = [] if self.parts.gripper is None else [self.parts.gripper]
        return [self.codec, self.denoiser, self.parts.image_encoder, *gripper]

    def _check(self, observation: Observation, task: str, seed: int, steps: int) -> None:
        if task not in self.config.tasks:
            raise InputError('task', expected=f'one of {list(self.config.tasks)}', got=repr(task),
                             hint='The checkpoint was not trained on it.')
        require_seed(seed)
        require_steps(steps)
        require_depth(observation, (pointmaps.CLEARANCE, pointmaps.MAX_DEPTH))

    def _tensors(self, views: list[RgbdView]) -> tuple[Tensor, Tensor, Tensor]:
        device = self.parts.unet.device
        rgb = torch.from_numpy(np.stack([v.rgb for v in views])).to(device)
        depth = torch.from_numpy(np.stack([v.depth for v in views])).to(device)
        K = torch.from_numpy(np.stack([v.K for v in views])).to(device)
        directions = torch.stack(rays(K, self.config.height, self.config.width), dim=-1)
        points, valid = pointmaps.from_depth(depth, directions)
        return rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0, points, valid

    def _assemble(self, observation: Observation, views: list[RgbdView],
                  rgb: NDArray[np.uint8], points: Tensor, points0: Tensor, valid0: Tensor,
                  seed: int, steps: int) -> Future:
        """The future from rgb and points (V, T, H, W, 3) of the generated frames, and points0
        (V, H, W, 3) and valid0 (V, H, W) of the observation, in the views' own frames."""
        cut = pointmaps.outside(points)
        measured, known = points0.cpu().numpy(), valid0.cpu().numpy()
        xyz, valid = [], []
        for i, view in enumerate(views):
            shown = points[i].cpu().numpy()
            solid = pointmaps.solid(points[i], points.new_zeros(1, 3)) & ~cut[i]
            usable = known[i] & solid[0].cpu().numpy()
            pixels = still(view.rgb, rgb[i, 0], usable)
            anchor = (anchor_view if i else anchor_reference)(measured[i], shown[0], pixels)
            centres = points.new_tensor(np.stack([np.zeros(3), _centre(anchor)]))
            valid.append(np.concatenate([
                known[i][None], (pointmaps.solid(points[i], centres) & ~cut[i]).cpu().numpy()]))
            xyz.append(np.concatenate([se3.apply(anchor.T_ref_view, measured[i])[None],
                                       anchor.scale * shown]).astype(np.float32))
        everything, usable = np.stack(xyz), np.stack(valid)
        if not usable[:, 1:].any():
            raise GenerationError('the generated future', expected='points within range',
                                  got='none', hint='The checkpoint is damaged; load another.')
        everything[~usable] = np.nan
        colours = np.concatenate([np.stack([v.rgb for v in views])[:, None], rgb], axis=1)
        return Future(
            rgb=colours, points=everything, valid=usable,
            gripper=np.zeros(usable.shape, np.float32), dt=self.config.dt,
            K=np.stack([v.K for v in views]), cameras=tuple(v.camera for v in views),
            stamp=observation.stamp, generator=self.name,
            frame_id=observation.reference.frame_id,
            frame_ids=tuple(v.frame_id for v in views), seed=seed, steps=steps,
            clamp_ratio=float(cut.float().mean()))


def _centre(anchor: Anchor) -> NDArray[np.float64]:
    """Where the camera is among the generated points, before they are scaled."""
    return anchor.T_ref_view[:3, 3] / anchor.scale
