# SPDX-License-Identifier: Apache-2.0
"""`fourdgen completion`: what a shell needs to complete verbs and options.

shtab writes a script once; argcomplete would start Python at every press of the tab key.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = 'print the completion of a shell'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        'Print a script that completes verbs, options and files. Once and for all:\n\n'
        '  fourdgen completion bash > ~/.local/share/bash-completion/completions/fourdgen\n'
        '  fourdgen completion zsh > DIR/_fourdgen      # DIR is in $fpath\n\n'
        'or for this shell: source <(fourdgen completion bash), eval "$(fourdgen completion zsh)"')
    parser.add_argument('shell', choices=['bash', 'zsh'])


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.cli.__main__ import build_parser
    from fourdgen_ros.core.errors import MissingDependencyError

    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError('shell completion', expected='the package shtab',
                                     hint='pip install shtab') from error
    parser = build_parser()
    _prepare(parser, shtab.FILE)
    print(shtab.complete(parser, args.shell))
    return 0


def _prepare(parser: argparse.ArgumentParser, files: dict[str, str]) -> None:
    """Options that take a path complete files; verbs are described by their one line of help."""
    for action in parser._actions:
        if action.type is Path:
            action.complete = files
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help for choice in action._choices_actions}
            for verb, subparser in action.choices.items():
                subparser.description = lines.get(verb, subparser.description)
                _prepare(subparser, files)
