# SPDX-License-Identifier: Apache-2.0
"""`fourdgen train`: demonstrations -> the weights of a generator."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = 'train a generator on demonstrations'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = ('Train the codec, then the dynamics. A run that was stopped goes on '
                          'where it was when started again with the same --out.')
    parser.add_argument('--preset', choices=['tiny'], default='tiny')
    parser.add_argument('--data', type=Path, required=True, nargs='+', metavar='DIR',
                        help='folders made by `fourdgen collect`, one or more a task')
    parser.add_argument('--out', type=Path, required=True,
                        help='check-points and the finished preset')
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--init', type=Path,
                       help='start from this preset instead of random weights')
    start.add_argument('--init-codec', type=Path,
                       help='start from the codec of this preset, the dynamics from random weights')
    parser.add_argument('--codec-minutes', type=float, default=60.0)
    parser.add_argument('--dynamics-minutes', type=float, default=60.0)
    parser.add_argument('--episodes', type=int, help='use only the first episodes of each')
    parser.add_argument('--threads', type=int, help='torch threads (default: torch decides)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--no-cross-view', action='store_true',
                        help='the ablation: views do not see each other')
    parser.add_argument('--compile', action='store_true',
                        help='torch.compile: two minutes at the start, a quarter less a step')
    parser.add_argument('--json', type=Path, help='write the validation measures here')


def run(args: argparse.Namespace) -> int:
    import json
    import logging

    import torch

    from fourdgen_ros.training.tiny import train_preset

    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    measures = train_preset(
        args.data, args.out, codec_minutes=args.codec_minutes, init=args.init,
        init_codec=args.init_codec, dynamics_minutes=args.dynamics_minutes,
        episodes=args.episodes, seed=args.seed, cross_view=not args.no_cross_view,
        compile_model=args.compile)
    text = json.dumps(measures, indent=2)
    print(text)
    if args.json is not None:
        args.json.write_text(text + '\n')
    return 0
