# SPDX-License-Identifier: Apache-2.0
"""`fourdgen collect`: demonstrations of the scripted expert."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'record demonstrations of the scripted expert in the simulated cell'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_task(parser)
    options.add_cameras(parser)
    parser.add_argument('--episodes', type=options.positive, required=True,
                        help='seeds that the expert tries; where it fails, nothing is kept')
    parser.add_argument('--out', type=Path, required=True, help='folder; what it holds is kept')
    parser.add_argument('--first-seed', type=int, default=100000,
                        help='seeds below 100000 are left to evaluation (%(default)s)')
    parser.add_argument('--workers', type=options.positive, default=1,
                        help='processes (%(default)s)')
    options.add_json(parser, 'the counts')


def run(args: argparse.Namespace) -> int:
    import time

    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.sim.collect import Progress, collect

    options.require_task(args.task)
    if args.first_seed < 0:
        raise InputError('--first-seed', expected='0 or more', got=str(args.first_seed))
    options.require_json(args.json)
    options.require_folder(f'--out {args.out}', args.out)
    start = time.perf_counter()
    with options.progress_bar() as bar:
        line = bar.add_task('episodes', total=args.episodes, note='')

        def show(now: Progress) -> None:
            bar.update(line, completed=now.finished,
                       note=f'{now.finished - now.succeeded} failed')

        done = collect(args.task, args.episodes, args.first_seed, args.out, args.workers,
                       progress=show, camera_set=args.cameras)
    seconds = time.perf_counter() - start
    options.console().print(f'{done.succeeded} of {done.total} episodes in {args.out} '
                            f'({seconds / 60:.1f} min)')
    options.write_json(args.json, {'episodes': done.total, 'succeeded': done.succeeded,
                                   'seconds': round(seconds, 1), 'out': str(args.out)})
    return 0 if done.succeeded else 1
