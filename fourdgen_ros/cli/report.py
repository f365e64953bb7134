# SPDX-License-Identifier: Apache-2.0
"""`fourdgen report`: what was measured, as one page to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'write one HTML page of evaluations, rollouts and demos'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Write one HTML file that needs no other: success with intervals, errors over the horizon, '
        'latencies, agreement of the views, failures with film strips, versions and commands.')
    parser.add_argument('runs', type=Path, nargs='+', metavar='RUN',
                        help='file of `rollout --json` or `evaluate --json`, folder of `evaluate '
                             '--out` or of `demo`')
    parser.add_argument('--out', type=Path, default=Path('report.html'), metavar='FILE',
                        help='the page (%(default)s)')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.evaluation.report.load import load_runs
    from fourdgen_ros.evaluation.report.page import write_report

    options.require_file(f'--out {args.out}', args.out)
    write_report(load_runs(args.runs), args.out)
    print(f'{args.out}: {args.out.stat().st_size / 1e3:.0f} kB')
    return 0
