# SPDX-License-Identifier: Apache-2.0
"""`fourdgen data check`: what is right and wrong with recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'report on bags before they are converted'

STYLES = {'ok': 'green', 'warning': 'yellow', 'bad': 'bold red'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Read bags and say whether each can become an episode: rates, gaps, clocks, skew, depth, '
        'calibration, motion. Nothing is written. The exit code is 1 when one is bad.')
    add_bags(parser)
    parser.add_argument('--all', action='store_true', help='also print the lines that are ok')
    options.add_json(parser, 'all lines')


def add_bags(parser: argparse.ArgumentParser) -> None:
    """Add the bags and --map."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG',
                        help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--map', type=Path, required=True, metavar='FILE',
                        help='which topic is what: see config/data/realsense_franka.yaml')


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from fourdgen_ros.data.bag_job import check
    from fourdgen_ros.data.convert import check_name
    from fourdgen_ros.data.mapping import load_map

    load_map(args.map)
    for bag in args.bags:
        check_name(bag)
    options.require_json(args.json)
    console, reports = options.console(), []
    for bag in args.bags:
        with console.status(Text(f'reading {bag}')):
            report = check(bag, args.map)
        reports.append(report)
        shown = [f for f in report.findings if args.all or f.verdict != 'ok']
        table = Table('what', 'verdict', 'found', box=None, pad_edge=False)
        for f in shown:
            found = f.found if not f.next else f'{f.found}\n-> {f.next}'
            table.add_row(f.what, Text(f.verdict, STYLES[f.verdict]), found)
        verdict = 'bad' if report.bad else 'good'
        records = '' if report.records is None else f', {len(report.records.episode)} records'
        style = STYLES['bad' if report.bad else 'ok']
        console.print(Text.assemble(f'{bag}: ', (verdict, style), records))
        if shown:
            console.print(table)
    options.write_json(args.json, {'bags': [
        {'bag': r.source, 'ok': not r.bad, 'findings': [asdict(f) for f in r.findings]}
        for r in reports]})
    return 1 if any(r.bad for r in reports) else 0
