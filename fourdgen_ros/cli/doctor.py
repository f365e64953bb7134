# SPDX-License-Identifier: Apache-2.0
"""`fourdgen doctor`: what is installed, what works, what is missing and the next step."""

from __future__ import annotations

import argparse

from fourdgen_ros.cli import options

HELP = 'check this machine: what works, what is missing, what to do'

STYLES = {'ok': 'green', 'optional': 'yellow', 'missing': 'bold red'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = ('Check what the package needs, by using it. The exit code is 1 where '
                          'something that is not optional is missing.')
    options.add_json(parser, 'the findings')


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from fourdgen_ros.cli.checks import CHECKS, examine

    options.require_json(args.json)
    console = options.console()
    findings = []
    with console.status('') as status:
        for check in CHECKS:
            status.update(f'checking {check.name} ...')
            findings.append(examine(check))

    table = Table(box=None, pad_edge=False)
    table.add_column('what', no_wrap=True)
    table.add_column('verdict')
    table.add_column('found', overflow='fold')
    for finding in findings:
        style = STYLES[finding.verdict]
        detail = finding.found if finding.verdict == 'ok' else f'{finding.found}\n-> {finding.next}'
        table.add_row(finding.name, Text(finding.verdict, style), detail)
    console.print(table)

    missing = [finding.name for finding in findings if finding.verdict == 'missing']
    if missing:
        console.print(f'\nMissing: {", ".join(missing)}.', style=STYLES['missing'])
    else:
        console.print('\nEverything that is needed works.', style=STYLES['ok'])
        console.print('Next: fourdgen demo')
    options.write_json(args.json, {'ok': not missing,
                                   'checks': [asdict(finding) for finding in findings]})
    return 1 if missing else 0
