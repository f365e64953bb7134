# SPDX-License-Identifier: Apache-2.0
"""`fourdgen evaluate`: futures against the truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'compare generated futures and tracked paths with the truth'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Stop the scripted expert every 1.2 s of its episode of each seed, let the generator '
        'imagine from there and compare with what the expert would do. The right-hand columns '
        'are the tracker alone, on true futures. With --out: several generators and tasks, also in '
        'closed loop, in one table with plots, paired with the one that is named first; an '
        'interrupted run goes on. With --offline: on recorded demonstrations, of any task, from '
        'every 1.2 s of those episodes that training leaves out.')
    parser.add_argument('--task', nargs='+', metavar='T',
                        help=f'tasks of the simulated cell, of {", ".join(options.TASKS)}, or all '
                             f'({options.TASK})')
    parser.add_argument('--offline', type=Path, metavar='DIR',
                        help='data set of `fourdgen data cache` or `fourdgen collect`; --seeds are '
                             'then numbers of its episodes that training leaves out')
    options.add_cameras(parser)
    options.add_generator(parser, 'tiny', several=True)
    options.add_fault(parser)
    options.add_batch(parser, '0:10')
    parser.add_argument('--rollouts', type=options.seed_range, default=(), metavar='A:B',
                        help='with --out: seeds of the closed loop (none)')
    parser.add_argument('--steps', type=options.positive,
                        help='without --out: denoising steps (the generator\'s own number)')
    parser.add_argument('--tracker', type=Path, metavar='FILE',
                        help='without --out: parameter file of the node `tracker`, to measure '
                             'FoundationPose (the embedded tracker)')
    parser.add_argument('--out', type=Path, metavar='DIR',
                        help='folder for results.json, results.md, plots and all reports')
    options.add_json(parser, 'all measures')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.evaluation.generators import model_folder
    from fourdgen_ros.sim.tasks import TASKS

    for generator in args.generator:
        model_folder(generator)
    if args.out is None and args.tracker is not None and not args.tracker.is_file():
        raise InputError(f'--tracker {args.tracker}', expected='a parameter file of the node '
                         '`tracker`', got='no such file', hint='config/tracker.yaml is one.')
    if args.offline is not None:
        return _offline(args)
    args.task = list(TASKS) if args.task == ['all'] else args.task or [options.TASK]
    for task in args.task:
        options.require_task(task)
    if args.out is not None:
        if args.json is not None:
            raise InputError('--json', expected='none with --out', got=str(args.json),
                             hint='The table of --out has its own results.json.')
        if args.tracker is not None:
            raise InputError('--tracker', expected='--json F for its report', got='--out',
                             hint='The table of --out is that of the embedded tracker.')
        if args.steps is not None:
            raise InputError('--steps', expected='--json F for its report', got='--out',
                             hint='The table of --out is that of the generators\' own steps.')
        if args.fault is not None:
            raise InputError('--fault', expected='--json F for its report', got='--out',
                             hint='The table of --out is that of faultless cameras.')
        return _compare(args)
    if len(args.task) > 1 or len(args.generator) > 1 or args.rollouts:
        raise InputError('--out', expected='a folder for the table', got='none',
                         hint='Several tasks or generators, and --rollouts, need it.')
    return _single(args)


def _compare(args: argparse.Namespace) -> int:
    from rich.markdown import Markdown

    from fourdgen_ros.evaluation.comparison import Comparison, compare, table
    from fourdgen_ros.evaluation.seeds import Batch

    options.require_folder(f'--out {args.out}', args.out)
    what = Comparison(args.task, args.generator, args.seeds, args.rollouts, args.cameras)
    with options.progress_bar() as bar:
        def start(text: str, total: int) -> None:
            for line in bar.task_ids:
                bar.remove_task(line)
            bar.add_task(text, total=total, note='')

        entries = compare(what, args.out, Batch(args.workers, args.ray), start,
                          lambda row: bar.update(bar.task_ids[-1], advance=1),
                          command=['fourdgen', *sys.argv[1:]])
    options.console().print(Markdown(table(entries)))
    return 0


def _single(args: argparse.Namespace) -> int:
    from fourdgen_ros.evaluation.openloop import evaluate

    return _report(args, partial(evaluate, args.task[0], args.generator[0], args.seeds,
                                 camera_set=args.cameras, fault=options.parse_fault(args.fault)))


def _offline(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.evaluation.offline import evaluate_offline, held_out

    for option, given in (('--task', args.task), ('--out', args.out), ('--fault', args.fault),
                          ('--rollouts', args.rollouts), ('--generator', args.generator[1:]),
                          ('--cameras', args.cameras != 'fixed')):
        if given:
            raise InputError(option, expected='one generator on one data set', got=str(given),
                             hint=f'Leave {option} out, or --offline.')
    args.seeds = held_out(args.offline, args.seeds)
    return _report(args, partial(evaluate_offline, args.offline, args.generator[0], args.seeds))


def _report(args: argparse.Namespace, evaluate: Callable[..., dict]) -> int:
    from fourdgen_ros.evaluation.seeds import Batch

    options.require_json(args.json)
    with options.progress_bar() as bar:
        line = bar.add_task(f'evaluate {args.generator[0]}', total=len(args.seeds), note='')
        report = evaluate(batch=Batch(args.workers, args.ray, args.json), tracker=args.tracker,
                          steps=args.steps, on_result=lambda row: bar.update(line, advance=1))
    if args.json is not None:
        options.write_json(args.json, report | {'command': ['fourdgen', *sys.argv[1:]]})
    _print(options.console(), report)
    return 0


def _print(console, report: dict) -> None:
    from rich.table import Table

    from fourdgen_ros.evaluation.measures import MEASURES

    measures = report['measures']
    table = Table('', 'median', 'p90', 'true: median', 'p90', box=None)
    for key, (text, unit, digits) in MEASURES.items():
        if key in measures or f'true_{key}' in measures:
            cells = [_number(measures.get(f'{prefix}{key}', {}).get(q), unit, digits)
                     for prefix in ('', 'true_') for q in ('p50', 'p90')]
            table.add_row(text, *cells)
    console.print(f"\n{report['n']} futures of {report['generator']}")
    console.print(table)
    missing = measures.get('generation_failures')
    if missing is not None:
        first = next(row['generation_error'] for row in report['futures']
                     if 'generation_error' in row)
        console.print(f"generation failed {missing['failed']} times of {missing['n']}; the first: "
                      f'{first}', style='yellow')
    for prefix, text in (('', 'generated'), ('true_', 'true')):
        failed = measures.get(f'{prefix}tracking_failures')
        if failed is not None and failed['failed']:
            console.print(f"tracking failed on {failed['failed']} of {failed['n']} {text} futures",
                          style='yellow')


def _number(value: float | None, unit: str, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f} {unit}'.rstrip()
