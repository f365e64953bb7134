# SPDX-License-Identifier: Apache-2.0
"""Few-step sampling of the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fourdgen_ros.generator.dynamics import LatentDynamics, Prediction


def sample_future(dynamics: LatentDynamics, scheduler: FlowMatchEulerDiscreteScheduler,
                  frame0: Tensor, start: Tensor, tool: Tensor, task: Tensor, *, steps: int,
                  generator: torch.Generator) -> Prediction:
    """A future: standardised latents, and the last step's tools and camera poses.

    Euler steps on the flow-matching path; the network predicts the clean latents x0, from which the
    velocity follows as (x_t - x0) / t. `frame0` (B, V, 7, H, W), `start` (B, V, D) standardised,
    `tool` (B, V, 10) at frame 0, `task` (B,) index, `steps` >= 1; the noise comes from `generator`,
    which is one of the CPU.
    """
    observed = dynamics.condition(frame0)
    shape = (*start.shape[:2], dynamics.config.frames, start.shape[-1])
    x = torch.randn(shape, generator=generator).to(start.device)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist())
    prediction = None
    for i, timestep in enumerate(scheduler.timesteps):
        t = float(scheduler.sigmas[i])
        times = torch.full((shape[0],), t, device=x.device)
        prediction = dynamics(x, times, start, tool, observed, task)
        x = scheduler.step((x - prediction.latents) / t, timestep, x, return_dict=False)[0]
    return replace(prediction, latents=x)
