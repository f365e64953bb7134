# SPDX-License-Identifier: Apache-2.0
"""Few-step sampling of latents."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fourdgen_ros.generator.dynamics import LatentDynamics


def sample_latents(dynamics: LatentDynamics, scheduler: FlowMatchEulerDiscreteScheduler,
                   frame0: Tensor, start: Tensor, task: Tensor, *, steps: int,
                   generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Standardised latents (B, V, T, D) of the future, and the last step's camera poses (B, V, 9)
    and openings (B, V, T) in 0.1 m.

    Euler steps on the flow-matching path; the network predicts the clean latents x0, from which the
    velocity follows as (x_t - x0) / t. `frame0` (B, V, 7, H, W), `start` (B, V, D) standardised,
    `task` (B,) index, `steps` >= 1; the noise comes from `generator`, which is one of the CPU.
    """
    image = dynamics.condition(frame0)
    shape = (*start.shape[:2], dynamics.config.frames, start.shape[-1])
    x = torch.randn(shape, generator=generator).to(start.device)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist())
    camera = opening = None
    for i, timestep in enumerate(scheduler.timesteps):
        t = float(scheduler.sigmas[i])
        times = torch.full((shape[0],), t, device=x.device)
        clean, camera, opening = dynamics(x, times, start, image, task)
        x = scheduler.step((x - clean) / t, timestep, x, return_dict=False)[0]
    return x, camera, opening
