# SPDX-License-Identifier: Apache-2.0
"""The noise of SVD (EDM, Karras et al. 2022, with sigma_data 1 and a network that tells v), and the
sampler with guidance that grows over the frames."""

from __future__ import annotations

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from fourdgen_ros.generator.svd.conditioning import Condition
from fourdgen_ros.generator.svd.unet import MultiViewDenoiser


def svd_scheduler() -> EulerDiscreteScheduler:
    """Karras' noise levels from 700 to 0.002 and continuous time steps, as SVD is sampled."""
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear', use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, prediction_type='v_prediction',
        timestep_spacing='leading', timestep_type='continuous', steps_offset=1)


def time_of(sigma: Tensor) -> Tensor:
    """What the U-Net is told about noise of standard deviation `sigma`."""
    return 0.25 * sigma.log()


def noisy_input(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """The network's input, of about unit variance; `sigma` broadcasts."""
    return (clean + sigma * noise) / (sigma**2 + 1.0).sqrt()


def clean_of(v: Tensor, network_input: Tensor, sigma: Tensor) -> Tensor:
    """The clean latents that `v` tells, from the input that `noisy_input` made."""
    root = (sigma**2 + 1.0).sqrt()
    return network_input / root - v * sigma / root


def sample(denoiser: MultiViewDenoiser, scheduler: EulerDiscreteScheduler, condition: Condition, *,
           frames: int, steps: int, guidance: tuple[float, float],
           generator: torch.Generator) -> Tensor:
    """Latents (B, V, 2, T, 4, h, w) of the future, of about unit variance.

    `guidance` is the weight of the condition in the first and the last frame; with 1 in both, the
    unconditional pass is spared. `generator` is one of the CPU.
    """
    device = condition.latents.device
    b, v, m, c, h, w = condition.latents.shape
    scheduler.set_timesteps(steps, device=device)
    x = torch.randn((b, v, m, frames, c, h, w), generator=generator).to(device)
    x = x * scheduler.init_noise_sigma
    ramp = torch.linspace(*guidance, frames, device=device)[:, None, None, None]
    for timestep in scheduler.timesteps:
        given = scheduler.scale_model_input(x, timestep)
        time = timestep.expand(b)
        out = denoiser(given, time, condition)
        if guidance != (1.0, 1.0):
            free = denoiser(given, time, condition.dropped())
            out = free + ramp * (out - free)
        x = scheduler.step(out, timestep, x, return_dict=False)[0]
    return x
