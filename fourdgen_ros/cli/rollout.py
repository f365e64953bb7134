# SPDX-License-Identifier: Apache-2.0
"""`fourdgen rollout`: closed-loop success over seeds."""

from __future__ import annotations

import argparse
import sys

from fourdgen_ros.cli import options

HELP = 'closed-loop success of a generator over seeds, without ROS'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Reset the simulated cell to each seed and run imagine, track, plan, execute until the '
        'task is done. An interrupted run goes on when it is started again with the same --json.')
    options.add_task(parser)
    options.add_cameras(parser)
    options.add_generator(parser, 'tiny')
    options.add_fault(parser)
    options.add_batch(parser, '0:50')
    parser.add_argument('--frames', type=int,
                        help='frames of each future that are executed, the present one included '
                             '(6, or all of a shorter future)')
    parser.add_argument('--max-segments', type=options.positive, default=10,
                        help='futures after which a task counts as not done (%(default)s)')
    parser.add_argument('--steps', type=options.positive,
                        help='denoising steps (the generator\'s own number)')
    parser.add_argument('--strips', action='store_true',
                        help='keep a picture of every failure beside the report of --json; '
                             '`fourdgen report` shows them')
    options.add_json(parser, 'the report')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.evaluation.generators import model_folder
    from fourdgen_ros.evaluation.road import RoadConfig
    from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
    from fourdgen_ros.evaluation.seeds import Batch

    options.require_task(args.task)
    model_folder(args.generator)
    if args.frames is not None and args.frames < 2:
        raise InputError('--frames', expected='at least 2', got=str(args.frames),
                         hint='Frame 0 is the present: nothing would move.')
    spec = RolloutSpec(args.task, args.generator, RoadConfig(
        frames=args.frames, max_segments=args.max_segments, steps=args.steps), args.cameras,
        options.parse_fault(args.fault))
    options.require_json(args.json)
    successes = 0
    with options.progress_bar() as bar:
        line = bar.add_task(f'rollout {args.generator}', total=len(args.seeds), note='')

        def show(row: dict) -> None:
            nonlocal successes
            successes += row['success']
            if not row['success']:
                bar.console.print(f"seed {row['seed']}: {row['cause']} after stage "
                                  f"{row['stage']!r}: {row['message']}")
            bar.update(line, advance=1, note=f'{successes} successes')

        report = rollout(spec, args.seeds, Batch(args.workers, args.ray, args.json), show,
                         strips=args.strips)
    if args.json is not None:
        options.write_json(args.json, report | {'command': ['fourdgen', *sys.argv[1:]]})
    _print(options.console(), report)
    return 0


def _print(console, report: dict) -> None:
    from rich.table import Table
    from rich.text import Text

    low, high = report['wilson95']
    console.print(Text.assemble(
        '\n', (f"{report['successes']}/{report['n']}", 'bold'),
        f' successes ({100 * report["rate"]:.0f} %, 95 % interval {100 * low:.0f} to '
        f'{100 * high:.0f} %)'))
    for name in ('causes', 'stages', 'retries'):
        if report[name]:
            listed = ', '.join(f'{key} {count}' for key, count in sorted(report[name].items()))
            console.print(f'{name}: {listed}')
    table = Table('stage', 'p50', 'p95', 'n', box=None)
    for stage, value in report['latency_s'].items():
        if value['n']:
            table.add_row(stage.replace('_', ' '), f"{value['p50']:.2f} s", f"{value['p95']:.2f} s",
                          str(value['n']))
    console.print(table)
