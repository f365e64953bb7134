# SPDX-License-Identifier: Apache-2.0
"""Write `docs/reference`: nodes as they run, interface files, the command line.

The nodes are started together in this process, as in the simulation, and asked for what they offer.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / 'docs' / 'reference'
GENERATED = '<!-- Made by scripts/make_reference.py. -->\n\n'
EXECUTABLES = ROOT / 'scripts' / 'nodes'

INTERFACES = {'msg': 'Messages', 'srv': 'Services', 'action': 'Actions'}
API = {
    'Values between the stages': ['core.types', 'core.errors'],
    'Generators': ['generator.base', 'generator.load', 'evaluation.own'],
    'Trackers': ['tracker.base', 'tracker.embedded'],
    'Planners': ['motion.base', 'motion.planner', 'motion.robot'],
    'The road without ROS': ['evaluation.stack', 'evaluation.road', 'evaluation.rollout',
                             'evaluation.openloop', 'evaluation.images'],
    'Geometry': ['core.se3', 'core.camera', 'core.transforms'],
}


def interfaces() -> str:
    """Every .msg, .srv and .action file with its comments."""
    parts = ['# Messages, services, actions\n']
    for folder, title in INTERFACES.items():
        parts.append(f'## {title}\n')
        for file in sorted((ROOT / folder).glob(f'*.{folder}')):
            parts.append(f'### {file.stem}\n\n`fourdgen_ros/{folder}/{file.stem}`\n\n'
                         f'```text\n{file.read_text(encoding="utf-8").strip()}\n```\n')
    return '\n'.join(parts)


def command_line() -> str:
    """The help of `fourdgen` and of every verb, with the verbs that a verb has."""
    from fourdgen_ros.cli.__main__ import build_parser

    os.environ['COLUMNS'] = '82'  # what the page is wide
    parser = build_parser()
    parts = ['# Command line\n', f'```text\n{parser.format_help().strip()}\n```\n']

    def add(parser: argparse.ArgumentParser, level: str) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for verb in action.choices.values():
                    parts.append(f'{level} {verb.prog}\n\n```text\n{verb.format_help().strip()}'
                                 '\n```\n')
                    add(verb, f'{level}#')

    add(parser, '##')
    return '\n'.join(parts)


def python_api() -> str:
    """Directives that mkdocstrings replaces by docstrings."""
    parts = ['# Python\n', 'Everything here works without ROS. Shapes, units, frames and errors '
             'are told by the docstrings.\n']
    for title, modules in API.items():
        parts.append(f'## {title}\n')
        parts += [f'::: fourdgen_ros.{module}\n' for module in modules]
    return '\n'.join(parts)


def node_classes() -> dict[str, type]:
    """Name of an executable -> the node class that its module defines."""
    from fourdgen_ros.nodes.base import StageNode

    found = {}
    for file in sorted(EXECUTABLES.iterdir()):
        module = importlib.import_module(f'fourdgen_ros.nodes.{file.name}')
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type)
                 and issubclass(kind, StageNode) and kind.__module__ == module.__name__]
        if kinds:
            found[file.name] = kinds[0]
    return found


def nodes() -> str:
    """Parameters and endpoints of every node."""
    from reference_nodes import endpoints, parameters

    classes = node_classes()
    described = {name: parameters(kind) for name, kind in classes.items()}
    offered = endpoints(classes)
    parts = ['# Nodes\n', 'Read from the running nodes. Topics and services are given as they are '
             'without a namespace and without remapping, with `config/sim.yaml`. Every node also '
             'has the parameter services of ROS 2 and, but for `visualization` and `view`, reports '
             'in `/diagnostics`; the managed ones have the services of the '
             '[lifecycle](../design.md#the-nodes).\n']
    for name, kind in classes.items():
        parts += [f'## {name}\n', f'{first_paragraph(sys.modules[kind.__module__].__doc__)}\n',
                  f'`ros2 run fourdgen_ros {name}`\n', described[name], offered[name]]
    return '\n'.join(parts)


def first_paragraph(text: str | None) -> str:
    """The summary of a docstring."""
    return ' '.join((text or '').strip().split('\n\n')[0].split())


PAGES = {'interfaces': interfaces, 'cli': command_line, 'python': python_api, 'nodes': nodes}


def main() -> int:
    """Write all pages, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pages', nargs='*', metavar='PAGE', help=f'of {", ".join(PAGES)}')
    OUT.mkdir(exist_ok=True)
    for name in parser.parse_args().pages or PAGES:
        (OUT / f'{name}.md').write_text(GENERATED + PAGES[name](), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
