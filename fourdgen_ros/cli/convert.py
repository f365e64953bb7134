# SPDX-License-Identifier: Apache-2.0
"""`fourdgen convert`: a released 4DGen checkpoint -> a folder of the svd-4dgen preset."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'turn a released 4DGen checkpoint into a model folder'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Read the fine-tuned video model that 4DGen released for one task (sgm layout, .ckpt or '
        '.safetensors, some 20 GB of memory) and write a folder that --generator, the generator '
        'node and `fourdgen train --preset svd-4dgen --init` take. It has no network that finds '
        'the gripper: train one with --codec-minutes 0 --dynamics-minutes 0.')
    parser.add_argument('checkpoint', type=Path, help='the released file')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--size', type=options.positive, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        default=(256, 320), help='pixels of its images (256 320)')
    options.add_task(parser)


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.generator.load import kind_of
    from fourdgen_ros.generator.svd.convert import convert
    from fourdgen_ros.generator.svd.parts import SvdConfig

    if kind_of(args.out) == 'tiny':
        raise InputError(f'--out {args.out}', expected='a new folder, or one of svd-4dgen',
                         got='a preset of tiny', hint='Give another --out.')
    options.require_folder(f'--out {args.out}', args.out)
    console = options.console()
    height, width = args.size
    with console.status('converting'):
        generator = convert(args.checkpoint,
                            SvdConfig(tasks=(args.task,), height=height, width=width))
        generator.save_pretrained(args.out)
    console.print(f'{args.out}: svd-4dgen for {args.task}, {width}x{height}')
    return 0
