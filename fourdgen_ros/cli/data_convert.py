# SPDX-License-Identifier: Apache-2.0
"""`fourdgen data convert`: bags -> a LeRobotDataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.cli import options
from fourdgen_ros.cli.data_check import add_bags

if TYPE_CHECKING:
    from fourdgen_ros.data.convert import Job

HELP = 'turn bags into a LeRobotDataset with lossless depth and poses'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Every bag becomes an episode of one LeRobotDataset v3.0. A bad bag is named and left out. '
        'The folder appears when it is whole; an interrupted conversion goes on when started '
        'again.')
    add_bags(parser)
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add --out, --workers and --json."""
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--workers', type=options.positive, default=1,
                        help='processes (%(default)s)')
    options.add_json(parser, 'what became of each recording')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.data.bag_job import BagJob
    from fourdgen_ros.data.mapping import load_map

    load_map(args.map)
    return convert_jobs(args, [BagJob(bag, args.map) for bag in args.bags])


def convert_jobs(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    """Convert with a progress bar; tell what was left out, and what to look at in the rest."""
    from fourdgen_ros.data.convert import convert

    options.require_json(args.json)
    options.require_folder(f'--out {args.out}', args.out.parent)
    with options.progress_bar() as bar:
        line = bar.add_task('recordings', total=len(jobs), note='')
        outcomes = convert(jobs, args.out, args.workers, lambda o: bar.update(line, advance=1))
    console = options.console()
    for outcome in outcomes:
        if outcome.episode is None:
            console.print(f'left out {outcome.source}: {outcome.reason}', style='yellow')
        for warning in outcome.warnings:
            console.print(f'warning of {outcome.source}: {warning}', style='yellow')
    good = [o.episode for o in outcomes if o.episode is not None]
    console.print(f'{len(good)} of {len(outcomes)} recordings, {sum(e.length for e in good)} '
                  f'records in {args.out}')
    options.write_json(args.json, {'out': str(args.out), 'recordings': [
        {'source': str(o.source), 'records': 0 if o.episode is None else o.episode.length,
         'reason': o.reason, 'warnings': o.warnings} for o in outcomes]})
    return 0
