# SPDX-License-Identifier: Apache-2.0
"""`fourdgen demo`: a simulated robot does a task by acting on the future that it imagines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.cli import options

if TYPE_CHECKING:
    from fourdgen_ros.cli.demo_report import Outcome

HELP = 'imagine, track, plan and execute a task in simulation, over ROS 2'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Start the simulated cell, the generator, the tracker, the execution and the task loop as '
        'ROS 2 nodes, run one task and show what was imagined beside what really happened. The '
        'exit code is 0 only when the task was done.')
    options.add_task(parser)
    options.add_generator(parser, 'tiny')
    parser.add_argument('--seed', type=int, default=0,
                        help='of the object poses and of the generator (%(default)s)')
    parser.add_argument('--max-segments', type=options.positive, default=10,
                        help='futures after which the task counts as not done (%(default)s)')
    parser.add_argument('--no-ros', action='store_true',
                        help='in one process, without ROS; oracle-rgb and still need it')
    parser.add_argument('--out', type=Path, default=Path('demo'),
                        help='folder of the pictures and logs (%(default)s)')
    parser.add_argument('--view', action='store_true',
                        help='show it in the browser meanwhile, and afterwards until Ctrl-C')
    options.add_json(parser, 'outcome and timings')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.cli.demo_report import finish
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.evaluation.generators import SIMULATED, model_folder

    options.require_task(args.task)
    model_folder(args.generator)
    if not args.no_ros and args.generator in SIMULATED and args.generator != 'oracle':
        raise InputError('--generator', got=args.generator,
                         expected='tiny, oracle, a folder or module:Class over ROS',
                         hint='Add --no-ros: the node `generator` does not have this one.')
    if args.seed < 0:
        raise InputError('--seed', expected='0 or more', got=str(args.seed))
    if args.no_ros and args.view:
        raise InputError('--view', expected='a demo over ROS', got='--no-ros')
    options.require_json(args.json)
    options.require_folder(f'--out {args.out}', args.out)
    console = options.console()
    if args.no_ros:
        return finish(_in_process(args, console), args, console)
    from fourdgen_ros.cli.demo_ros import run_over_ros

    return run_over_ros(args, console)


def _in_process(args: argparse.Namespace, console) -> Outcome:
    import time

    from fourdgen_ros.cli.demo_report import Outcome
    from fourdgen_ros.evaluation.road import RoadConfig
    from fourdgen_ros.evaluation.stack import build_road

    start = time.perf_counter()
    with console.status('building the cell and the stages') as status:
        road = build_road(args.task, args.generator, RoadConfig(max_segments=args.max_segments),
                          lambda segment, stage: status.update(f'segment {segment + 1}: {stage}'))
        road.cell.reset(args.seed)
        ready = time.perf_counter() - start
        result = road.run(args.seed, record=True)
    recordings = [s.recording for s in result.segments if s.recording is not None]
    timings = [{k: v for k, v in s.seconds.items() if k != 'observation_to_plan'}
               for s in result.segments]
    message = f'{result.cause}: {result.message}' if result.cause is not None else ''
    return Outcome(result.success, message, len(result.segments), timings, ready, result.seconds,
                   result.stage, recordings)
