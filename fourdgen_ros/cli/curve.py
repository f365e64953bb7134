# SPDX-License-Identifier: Apache-2.0
"""`fourdgen curve`: learning curves as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'plot validation error and closed-loop success against the samples seen'

PICTURES = '.png', '.pdf', '.svg'


def _closed(text: str) -> tuple[int, Path]:
    samples, equals, file = text.partition('=')
    if not equals or not samples.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not SAMPLES=FILE')
    return int(samples), Path(file)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Samples are steps times the batch. Reports of the closed loop, by the samples that their '
        'weights had seen, are drawn on an axis of their own.')
    parser.add_argument('runs', type=Path, nargs='+', metavar='RUN',
                        help='folders with a log.jsonl, such as runs/tiny/dynamics')
    parser.add_argument('--closed', type=_closed, nargs='+', default=[], metavar='SAMPLES=FILE',
                        help='reports of fourdgen rollout --json')
    parser.add_argument('--measure', default='tcp_mean_mm',
                        help='which validation measure (%(default)s)')
    parser.add_argument('--batch', type=options.positive, default=32,
                        help='samples a step in all runs (%(default)s, as of the dynamics of tiny)')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE',
                        help=f'the picture: {", ".join(PICTURES)}')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.evaluation.learning_curve import read_closed, read_run, save_curve

    options.require_file(f'--out {args.out}', args.out, PICTURES)
    runs = [read_run(folder, args.measure, args.batch) for folder in args.runs]
    save_curve(runs, [read_closed(*pair) for pair in args.closed], args.measure, args.out)
    print(args.out)
    return 0
