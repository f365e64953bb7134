# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of the full-size svd-4dgen on a GPU, with random weights: they cost the same.

    python scripts/time_svd.py --steps 25 8 4 --json svd.json

Generation is that of `Svd4dgenGenerator`, in bf16 autocast, with guidance; the second of two runs
counts. A training step is one sample of the denoiser, gradients and AdamW in it, with gradient
checkpointing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.generator.svd import parts
from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator
from fourdgen_ros.generator.svd.parts import Architecture, SvdConfig
from fourdgen_ros.training.svd import DenoiserStep

TASK = 'any'


def main() -> int:
    """Print the figures, as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, nargs='+', default=[25, 8, 4, 1])
    parser.add_argument('--device', default='cuda', help='as torch names it (%(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write them here')
    args = parser.parse_args()
    torch.manual_seed(0)
    networks = parts.build(Architecture(), args.device)
    generator = Svd4dgenGenerator(networks, SvdConfig(tasks=(TASK,)))
    figures = {'device': torch.cuda.get_device_name() if args.device == 'cuda' else args.device,
               'generation': {str(n): generation(generator, n) for n in args.steps},
               'training_step': training_step(generator)}
    text = json.dumps(figures, indent=1)
    if args.json is not None:
        args.json.write_text(text + '\n', encoding='utf-8')
    sys.stdout.write(text + '\n')
    return 0


def generation(generator: Svd4dgenGenerator, steps: int) -> dict[str, float]:
    """Seconds of a generation by stage, and the most GB of the GPU that it takes."""
    device = generator.parts.unet.device.type
    _forget_peak(device)
    for _ in range(2):
        start = _now(device)
        with torch.autocast(device, torch.bfloat16):
            future = generator.generate(observation(), task=generator.config.tasks[0], seed=0,
                                        steps=steps)
        whole = _now(device) - start
    return {'s': round(whole, 3), **_peak(device),
            **{f'{stage}_s': round(s, 3) for stage, s in future.timings.items()}}


def training_step(generator: Svd4dgenGenerator, count: int = 3) -> dict[str, float]:
    """Seconds of a step and the most GB of the GPU that it takes."""
    config, cell, device = generator.config, generator.codec.cell, generator.parts.unet.device
    generator.parts.unet.enable_gradient_checkpointing()
    step = DenoiserStep(generator.denoiser, views=2).train()
    optimizer = torch.optim.AdamW(step.parameters(), lr=1e-6, fused=True)
    h, w = config.height // cell, config.width // cell
    clean = torch.randn(1, 2, 2, config.frames, 4, h, w, device=device)
    colour, points = (torch.rand(1, 2, *shape, device=device) for shape in (
        (3, config.height, config.width), (config.height, config.width, 3)))
    with torch.no_grad():
        condition = generator.condition(colour, points + 0.5, torch.ones_like(points[..., 0]) > 0)
    gripper = torch.rand(1, 2, config.frames, h, w, device=device).round()
    _forget_peak(device.type)
    for k in range(count + 1):
        if k == 1:  # the first one makes what AdamW keeps
            start = _now(device.type)
        with torch.autocast(device.type, torch.bfloat16):
            loss, _ = step(clean, condition, gripper)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {'s': round((_now(device.type) - start) / count, 3), **_peak(device.type)}


def _now(device: str) -> float:
    """Seconds of a clock, once the device has done what it was asked."""
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def _forget_peak(device: str) -> None:
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> dict[str, float]:
    """The most GB since; nothing without a GPU."""
    return ({'GB': round(torch.cuda.max_memory_allocated() / 1e9, 1)} if device == 'cuda' else {})


def observation() -> Observation:
    """Two views of noise at some depth."""
    rng = np.random.default_rng(0)
    K = np.array([[460.0, 0.0, 319.5], [0.0, 460.0, 239.5], [0.0, 0.0, 1.0]])
    return Observation(tuple(
        RgbdView(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8),
                 rng.uniform(0.6, 1.2, (480, 640)).astype(np.float32), K, 0, f'cam_{i}', 'optical')
        for i in range(2)))


if __name__ == '__main__':
    sys.exit(main())
