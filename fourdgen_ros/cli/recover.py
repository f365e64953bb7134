# SPDX-License-Identifier: Apache-2.0
"""`fourdgen recover`: a bag whose recorder was killed -> a whole bag."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'make a whole bag of one whose recorder was killed'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Copy all that was written of a bag before its recorder was killed, or the disk was full, '
        'into a new bag that everything can read. The old one is left as it is.')
    parser.add_argument('bag', type=Path, help='the unfinished bag: OUTPUT_FOLDER/.partial/EPISODE')
    parser.add_argument('--out', type=Path,
                        help='folder to write (OUTPUT_FOLDER/EPISODE, or BAG_recovered elsewhere)')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.data.bag_recovery import recover

    console = options.console()
    bag = args.bag.resolve()
    out = args.out
    if out is None:
        out = bag.parent.parent / bag.name if bag.parent.name == '.partial' else (
            bag.with_name(f'{bag.name}_recovered'))
    options.require_folder(f'--out {out}', out.parent)
    with console.status('copying'):
        recovery = recover(bag, out)
    seconds = (recovery.extent.end_ns - recovery.extent.start_ns) * 1e-9
    console.print(f'{out}: {recovery.extent.messages} messages in {seconds:.1f} s')
    if recovery.damaged_chunks:
        console.print(f'{recovery.damaged_chunks} chunks were damaged and are left out')
    if recovery.orphans:
        console.print(f'{recovery.orphans} messages are left out: what named their topics is '
                      f'damaged')
    console.print(f'When you have looked at it, delete {bag}')
    return 0
