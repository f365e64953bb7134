# SPDX-License-Identifier: Apache-2.0
"""Parameters, operations and memory of the full-size svd-4dgen, without its weights.

The networks are built on torch's `meta` device: shapes are computed, nothing else. Operations are
those of matrix products and convolutions, a multiply-add counted as two.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fourdgen_ros.generator.svd import parts
from fourdgen_ros.generator.svd.conditioning import Condition
from fourdgen_ros.generator.svd.parts import Architecture, Parts, SvdConfig
from fourdgen_ros.generator.svd.unet import MultiViewDenoiser

CELL = 8  # pixels a latent cell is wide


def main() -> int:
    """Print the figures, as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--height', type=int, default=SvdConfig.height)
    parser.add_argument('--width', type=int, default=SvdConfig.width)
    parser.add_argument('--frames', type=int, default=SvdConfig.frames)
    parser.add_argument('--views', type=int, default=2)
    parser.add_argument('--steps', type=int, default=SvdConfig.steps)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write them here')
    args = parser.parse_args()
    networks = parts.build(Architecture(), 'meta')
    figures = {'parameters_M': parameters(networks), **operations(networks, args)}
    figures['memory_GB'] = memory(figures['parameters_M'])
    text = json.dumps(figures, indent=1)
    if args.json is not None:
        args.json.write_text(text + '\n', encoding='utf-8')
    sys.stdout.write(text + '\n')
    return 0


def parameters(networks: Parts) -> dict[str, float]:
    """Millions of parameters by part."""
    names = ('unet', 'cross_view', 'vae', 'vae_pointmap', 'image_encoder', 'gripper')
    return {name: round(_count(getattr(networks, name)) / 1e6, 2) for name in names}


def operations(networks: Parts, args: argparse.Namespace) -> dict[str, float]:
    """10^12 operations of the parts of one generation."""
    h, w = args.height // CELL, args.width // CELL
    denoiser = MultiViewDenoiser(networks.unet, networks.cross_view)
    videos = args.views * args.frames
    with torch.device('meta'), torch.no_grad():
        step, alone = (_tera(lambda x=x: denoiser(x, torch.empty(1), Condition(
            x[:, :, :, 0], torch.empty(1, x.shape[1], 2, 1, 1024), torch.empty(3))))
            for x in (torch.empty(1, views, 2, args.frames, 4, h, w) for views in (args.views, 1)))
        image = torch.empty(1, 3, args.height, args.width)
        encode = _tera(lambda: networks.vae.encode(image))
        decode = _tera(lambda: networks.vae.decode(
            torch.empty(args.frames, 4, h, w), num_frames=args.frames))
        look = _tera(lambda: networks.image_encoder(torch.empty(1, 3, 224, 224)))
        mask = _tera(lambda: networks.gripper(
            torch.empty(1, 7, args.height, args.width), torch.empty(1)))
    whole = args.steps * step + args.views * (2 * encode + look + 2 * decode) \
        + (videos + args.views) * mask
    return {name: round(value, 3) for name, value in dict(
        tera_operations_a_step=step, tera_operations_a_step_of_one_view=alone,
        tera_operations_between_views=step - args.views * alone,
        tera_operations_encode_image=encode, tera_operations_decode_video=decode,
        tera_operations_clip_image=look, tera_operations_a_generation=whole,
        tera_operations_a_generation_with_guidance=whole + args.steps * step).items()}


def memory(counts: dict[str, float]) -> dict[str, float]:
    """GB of weights alone, and of weights, gradients, Adam's two moments and the running average in
    training; activations come on top."""
    trained = counts['unet'] + counts['cross_view']
    every = sum(counts.values())
    return {'weights_float32': round(every * 4 / 1e3, 1),
            'weights_if_all_bf16': round(every * 2 / 1e3, 1),
            'training_float32_states': round((every * 4 + trained * 16) / 1e3, 1)}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _tera(call) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e12


if __name__ == '__main__':
    sys.exit(main())
