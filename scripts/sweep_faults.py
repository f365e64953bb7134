# SPDX-License-Identifier: Apache-2.0
"""Measure a generator under every fault of real cameras, in simulation, and plot it.

What was measured is kept in --out/reports, so that an interrupted sweep goes on when the same
command is given again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fourdgen_ros.cli import options
from fourdgen_ros.evaluation.fault_sweep import STRENGTHS, Sweep, sweep, table
from fourdgen_ros.evaluation.seeds import Batch


def main() -> int:
    """Measure, write JSON, Markdown and plot, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_task(parser)
    options.add_generator(parser, 'tiny')
    options.add_batch(parser, '0:4')
    parser.add_argument('--rollouts', type=options.seed_range, default=(), metavar='A:B',
                        help='seeds of the closed loop, of the greatest strengths (none)')
    parser.add_argument('--faults', nargs='+', choices=list(STRENGTHS), default=list(STRENGTHS))
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    args = parser.parse_args()
    what = Sweep(args.task, args.generator, {name: STRENGTHS[name] for name in args.faults},
                 args.seeds, args.rollouts)
    points = sweep(what, args.out, Batch(args.workers, args.ray),
                   lambda text: sys.stderr.write(f'{text}\n'),
                   command=['python', 'scripts/sweep_faults.py', *sys.argv[1:]])
    sys.stdout.write(table(points))
    return 0


if __name__ == '__main__':
    sys.exit(main())
