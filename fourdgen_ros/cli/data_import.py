# SPDX-License-Identifier: Apache-2.0
"""`fourdgen data import`: the data that 4DGen released -> a LeRobotDataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli.data_convert import add_output, convert_jobs

HELP = 'turn episodes released with 4DGen into a LeRobotDataset'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Read episode folders (processed/observations.npz, intrinsics.npz, extrinsics.npz, '
        'metadata.yaml) into the data set that `fourdgen data convert` makes of bags; gripper '
        'masks come from the labels.')
    parser.add_argument('episodes', type=Path, nargs='+', metavar='EPISODE',
                        help='folder with processed/ in it')
    parser.add_argument('--settings', type=Path, metavar='FILE',
                        help='cameras, arm, labels (config/data/fourdgen_release.yaml)')
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.paths import share_directory
    from fourdgen_ros.data.release import ReleaseJob, load_settings

    settings = args.settings
    if settings is None:
        settings = share_directory() / 'config' / 'data' / 'fourdgen_release.yaml'
    load_settings(settings)
    return convert_jobs(args, [ReleaseJob(episode, settings, number)
                               for number, episode in enumerate(args.episodes)])
