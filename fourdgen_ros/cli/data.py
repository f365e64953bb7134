# SPDX-License-Identifier: Apache-2.0
"""`fourdgen data`: from recordings to data sets; one module per verb."""

from __future__ import annotations

import argparse
import importlib

HELP = 'recordings and data sets: check, convert, import, show, cache'

VERBS = ('check', 'convert', 'import', 'show', 'cache')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(title='verbs', metavar='VERB', required=True)
    for verb in VERBS:
        module = importlib.import_module(f'fourdgen_ros.cli.data_{verb}')
        subparser = subparsers.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run_data=module.run)


def run(args: argparse.Namespace) -> int:
    return args.run_data(args)
