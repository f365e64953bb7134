# SPDX-License-Identifier: Apache-2.0
"""`fourdgen data show`: an episode as a film or picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'show an episode of a data set: images, depth, cloud and TCP path'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Draw an episode of a LeRobotDataset into a file: colour with the path of the TCP and the '
        'gripper where it was recorded, depth, and the cloud of all cameras in the base frame. '
        'What does not fit here (a fork beside the hand, two tables in the cloud) is wrong in '
        'calibration or topic map.')
    parser.add_argument('dataset', type=Path, help='folder of the LeRobotDataset')
    parser.add_argument('--episode', type=int, default=0, help='its number (%(default)s)')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE',
                        help='.gif, .html (with a slider) or .png')
    parser.add_argument('--rate', type=options.positive, default=5,
                        help='pictures a second of the episode (%(default)s)')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.data.dataset import Dataset
    from fourdgen_ros.evaluation.episode_pages import KINDS, load_frames, save

    options.require_file(f'--out {args.out}', args.out, KINDS)
    data = Dataset(args.dataset)
    if not 0 <= args.episode < len(data):
        raise InputError('--episode', expected=f'0 to {len(data) - 1}', got=str(args.episode))
    every = max(1, round(data.fps / args.rate))
    frames = load_frames(data, args.episode, every)
    save(data.episode(args.episode), frames, args.out, every / data.fps)
    options.console().print(f'{args.out}: {len(frames)} pictures')
    return 0
