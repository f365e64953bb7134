# SPDX-License-Identifier: Apache-2.0
"""Diffusion Policy (Chi et al. 2023) of the `lerobot` package, on our demonstrations.

It sees what a generator without depth sees, the pictures of all cameras, and what any policy is
told, the pose and opening of its own tool and the task. It answers with the next `HORIZON` poses,
absolute. Poses are in the optical frame of the reference camera, as those of a `GripperTrajectory`.
Runs in the environment of `requirements/baselines/`, which has lerobot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from numpy.typing import NDArray
from torch import Tensor

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.layers import rotation_from_6d
from fourdgen_ros.policy.client import MARK

HORIZON = 16  # actions; at 5 Hz the 3.2 s of a future
TOOL = 10  # numbers of a tool's pose and opening, see `training.dataset.tcp_vectors`
_CROP = (88, 116)  # px of 96x128, at random in training; Diffusion Policy crops as much
_WIDTHS = (128, 256, 512)  # a quarter of the original: as many parameters as the generator
_STEPS = 10  # of denoising


@dataclass(frozen=True)
class About:
    """What a folder of a policy is for: tasks and cameras by name, pictures in px, dt s between
    actions."""

    tasks: tuple[str, ...]
    cameras: tuple[str, ...]
    height: int
    width: int
    dt: float


@dataclass(frozen=True)
class Policy:
    """Networks with what normalises their inputs and outputs."""

    about: About
    net: DiffusionPolicy
    before: PolicyProcessorPipeline
    after: PolicyProcessorPipeline

    def save(self, folder: Path) -> None:
        """Write the folder that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        for part in (self.net, self.before, self.after):
            part.save_pretrained(folder)
        (folder / MARK).write_text(json.dumps(asdict(self.about), indent=1) + '\n')

    def sample(self, batch: dict[str, Tensor], seed: int) -> Tensor:
        """Actions (B, HORIZON, 10) of observations, see `observed`; the noise comes from `seed`."""
        ready = self.before(batch)
        images = torch.stack([ready[key][:, None] for key in self.net.config.image_features], 2)
        noise = torch.randn(len(images), HORIZON, TOOL,
                            generator=torch.Generator().manual_seed(seed))
        return self.after(self.net.diffusion.generate_actions(
            {'observation.state': ready['observation.state'][:, None],
             'observation.images': images}, noise=noise.to(images.device))).float()

    @torch.no_grad()
    def act(self, rgb: NDArray[np.uint8], tool: NDArray[np.float32], task: str,
            seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Poses (HORIZON, 4, 4) and openings (HORIZON,) m from now on, `about.dt` apart.

        rgb (V, H, W, 3); tool (10,), see `tcp_vectors`. Raises InputError for an unknown task or
        pictures of another number or size.
        """
        about = self.about
        if task not in about.tasks:
            raise InputError('task', expected=f'one of {list(about.tasks)}', got=repr(task))
        size = (len(about.cameras), about.height, about.width, 3)
        if rgb.shape != size:
            raise InputError('pictures', expected=str(size), got=str(rgb.shape))
        actions = self.sample(observed(
            torch.from_numpy(rgb)[None], torch.from_numpy(tool)[None],
            torch.tensor([about.tasks.index(task)]), about), seed)[0].double()
        poses = torch.eye(4, dtype=torch.float64).repeat(HORIZON, 1, 1)
        poses[:, :3, :3] = rotation_from_6d(actions[:, 3:9])
        poses[:, :3, 3] = actions[:, :3]
        return poses.numpy(), (0.1 * actions[:, 9]).numpy()


def observed(rgb: Tensor, tool: Tensor, task: Tensor, about: About) -> dict[str, Tensor]:
    """Observations as lerobot names them, from pictures (B, V, H, W, 3) uint8, tools (B, 10) and
    indices of the tasks (B,)."""
    images = rgb.movedim(-1, 2).float() / 255.0
    which = torch.nn.functional.one_hot(task, len(about.tasks)).float()
    return {f'observation.images.{name}': images[:, i] for i, name in enumerate(about.cameras)} | {
        'observation.state': torch.cat([tool.float(), which], dim=1)}


def create(about: About, stats: dict[str, dict[str, Tensor]], device: str) -> Policy:
    """Random weights; `stats` of states, actions and pictures normalise them, see `statistics`."""
    shape = (3, about.height, about.width)
    config = DiffusionConfig(
        n_obs_steps=1, horizon=HORIZON, n_action_steps=HORIZON, crop_shape=_CROP,
        down_dims=_WIDTHS, noise_scheduler_type='DDIM', num_inference_steps=_STEPS, device=device,
        push_to_hub=False,
        input_features={
            **{f'observation.images.{name}': PolicyFeature(FeatureType.VISUAL, shape)
               for name in about.cameras},
            'observation.state': PolicyFeature(FeatureType.STATE, (TOOL + len(about.tasks),))},
        output_features={'action': PolicyFeature(FeatureType.ACTION, (TOOL,))})
    before, after = make_diffusion_pre_post_processors(config, stats)
    return Policy(about, DiffusionPolicy(config).to(device), before, after)


def statistics(tools: NDArray[np.float32], pictures: NDArray[np.uint8],
               about: About) -> dict[str, dict[str, Tensor]]:
    """Ranges of tools (N, 10), mean and deviation of pictures (M, H, W, 3)."""
    low, high = torch.from_numpy(tools.min(0)), torch.from_numpy(tools.max(0))
    count = len(about.tasks)
    colour = pictures.reshape(-1, 3).astype(np.float32) / 255.0
    mean, std = (torch.from_numpy(v.astype(np.float32))[:, None, None]
                 for v in (colour.mean(0), colour.std(0)))
    return {'action': {'min': low, 'max': high},
            'observation.state': {'min': torch.cat([low, torch.zeros(count)]),
                                  'max': torch.cat([high, torch.ones(count)])},
            **{f'observation.images.{name}': {'mean': mean, 'std': std}
               for name in about.cameras}}


def load(folder: Path, device: str = 'cpu') -> Policy:
    """The policy that `Policy.save` wrote. Raises InputError when the folder is none."""
    try:
        stored = json.loads((folder / MARK).read_text())
        about = About(**stored | {key: tuple(stored[key]) for key in ('tasks', 'cameras')})
        net = DiffusionPolicy.from_pretrained(folder, local_files_only=True, strict=True)
        before = PolicyProcessorPipeline.from_pretrained(
            folder, 'policy_preprocessor.json',
            overrides={'device_processor': {'device': device}})  # not the one of the training
        after = PolicyProcessorPipeline.from_pretrained(
            folder, 'policy_postprocessor.json', to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action)
    except Exception as error:  # lerobot and safetensors raise many kinds
        raise InputError(f'policy {folder}', expected='a folder that training wrote',
                         got=f'{type(error).__name__}: {error}') from error
    return Policy(about, net.to(device).eval(), before, after)
