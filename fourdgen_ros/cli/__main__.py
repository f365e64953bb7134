# SPDX-License-Identifier: Apache-2.0
"""Entry point of `fourdgen`. Verbs import heavy modules when they run: `--help` is instant."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from fourdgen_ros import __version__
from fourdgen_ros.core.errors import FourdgenError

# Each is a module of this package with `HELP` (one line), `add_arguments(parser)` and `run(args)`,
# which returns the exit code.
VERBS = ('demo', 'collect', 'train', 'convert', 'generate', 'rollout', 'evaluate', 'view', 'doctor')

INTERRUPTED = 130  # as shells report SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; `argv` without the program's name. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='fourdgen', description='A robot acts on the 4D future that it imagines.')
    parser.add_argument('--version', action='version', version=f'fourdgen_ros {__version__}')
    subparsers = parser.add_subparsers(title='verbs', metavar='VERB', required=True)
    for verb in VERBS:
        module = importlib.import_module(f'fourdgen_ros.cli.{verb}')
        subparser = subparsers.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except FourdgenError as error:
        print(f'fourdgen: error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('fourdgen: interrupted', file=sys.stderr)
        return INTERRUPTED


if __name__ == '__main__':
    sys.exit(main())
