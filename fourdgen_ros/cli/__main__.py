# SPDX-License-Identifier: Apache-2.0
"""Entry point of `fourdgen`. Verbs import heavy modules when they run: `--help` is instant."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from fourdgen_ros import __version__
from fourdgen_ros.core.errors import FourdgenError

# Verbs in the order in which a user comes to need them. Each is a module of this package with
# `HELP` (one line), `add_arguments(parser)` and `run(args)`, which returns the exit code.
GROUPS = {
    'try it': ('demo', 'doctor'),
    'look': ('generate', 'view', 'report'),
    'data and training': ('recover', 'data', 'collect', 'train', 'convert'),
    'measure': ('rollout', 'evaluate', 'curve'),
    'robot': ('calibrate-check', 'mesh'),
    'shell': ('completion',),
}
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)
_COLUMN = 2 + max(map(len, VERBS)) + 2

INTERRUPTED = 130  # as shells report SIGINT


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    modules = {verb: module_of(verb) for verb in VERBS}
    parser = _Parser(
        prog='fourdgen', usage='fourdgen VERB ...', epilog=_overview(modules),
        description='A robot acts on the 4D future that it imagines.',
        formatter_class=_Formatter)
    parser.add_argument('--version', action='version', version=f'fourdgen_ros {__version__}')
    subparsers = parser.add_subparsers(metavar='VERB', required=True, prog='fourdgen')
    for verb, module in modules.items():
        subparser = subparsers.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """Tells wrong usage in one line, without the list of all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: error: {message}. `{self.prog} --help` tells how to use it.\n')


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves out the list of verbs: argparse cannot group it, `_overview` does."""

    def _format_action(self, action: argparse.Action) -> str:
        return '' if action.nargs == argparse.PARSER else super()._format_action(action)


def module_of(verb: str) -> ModuleType:
    """The module of a verb."""
    return importlib.import_module(f'fourdgen_ros.cli.{verb.replace("-", "_")}')


def _overview(modules: dict[str, ModuleType]) -> str:
    parts = []
    for group, verbs in GROUPS.items():
        lines = [f'{"":2}{verb:{_COLUMN - 2}}{modules[verb].HELP}' for verb in verbs]
        parts.append('\n'.join([f'{group}:', *lines]))
    return '\n\n'.join([*parts, "`fourdgen VERB --help` tells a verb's options."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; `argv` without the program's name. Returns the exit code."""
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except FourdgenError as error:
        print(f'fourdgen: error: {error}', file=sys.stderr)
        return 1
    except OSError as error:  # a disk that is full or read-only, a file in the place of a folder
        where = '' if error.filename is None else f'{error.filename}: '
        print(f'fourdgen: error: {where}{error.strerror or error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('fourdgen: interrupted', file=sys.stderr)
        return INTERRUPTED


if __name__ == '__main__':
    sys.exit(main())
