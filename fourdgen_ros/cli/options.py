# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import write_whole

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from fourdgen_ros.core.sensor_faults import Fault

# Those of sim/tasks, which imports MuJoCo: a help text must not wait for it.
TASKS = ('PlaceAppleFromBowlIntoBin', 'PutSpatulaOnTable', 'StoreCerealBoxUnderShelf')
TASK = TASKS[0]


def seed_range(text: str) -> range:
    """`A:B` (seeds A to B - 1) or a single seed."""
    first, colon, end = text.partition(':')
    try:
        seeds = range(int(first), int(end) if colon else int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a seed nor A:B') from None
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f'{text!r} names no seed; A:B means A to B - 1')
    return seeds


def positive(text: str) -> int:
    """An integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer of at least 1')
    return value


def natural(text: str) -> int:
    """An integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer of at least 0')
    return int(text)


def minutes(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a finite number of at least 0')
    return value


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add --task."""
    parser.add_argument('--task', default=TASK,
                        help=f'task of the simulated cell, one of {", ".join(TASKS)} '
                             '(%(default)s)')


def add_cameras(parser: argparse.ArgumentParser) -> None:
    """Add --cameras."""
    parser.add_argument('--cameras', default='fixed', choices=('fixed', 'shell-train',
                                                               'shell-heldout', 'shell-any'),
                        help='where they stand: fixed by the task, or on a shell around the scene, '
                             'by the seed: at two of 12 places (train), of 4 others (heldout), or '
                             'anywhere but there (any) (%(default)s)')


def add_fault(parser: argparse.ArgumentParser) -> None:
    """Add --fault."""
    parser.add_argument('--fault', metavar='NAME=STRENGTH',
                        help='what is wrong with the cameras: depth_noise, px of disparity; '
                             'depth_holes, px; depth_step, mm; exposure, stops; skew, ms; '
                             'hand_eye_shift, mm; hand_eye_turn, deg (nothing)')


def parse_fault(text: str | None) -> Fault | None:
    """The value of --fault. Raises InputError when it is none."""
    from fourdgen_ros.core.sensor_faults import Fault

    return None if text is None else Fault.parse(text)


def add_generator(parser: argparse.ArgumentParser, default: str, *, several: bool = False) -> None:
    """Add --generator; with `several`, one or more."""
    many = {'nargs': '+', 'default': [default]} if several else {'default': default}
    parser.add_argument('--generator', metavar='G', **many,
                        help='tiny (the bundled model), a folder with trained weights, a class of '
                             'your own, module:Class, or, in simulation only, oracle (the true '
                             'future), oracle-rgb (its pictures without depth), still (the first '
                             f'frame) ({default})')


def add_batch(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Add --seeds, --workers and --ray."""
    parser.add_argument('--seeds', type=seed_range, default=seed_range(seeds), metavar='A:B',
                        help=f'seeds A to B - 1 ({seeds})')
    parser.add_argument('--workers', type=positive, default=1, help='processes (%(default)s)')
    parser.add_argument('--ray', action='store_true',
                        help='the workers are Ray actors, on this machine or on the cluster at '
                             'RAY_ADDRESS (pip install ray)')


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json."""
    parser.add_argument('--json', type=Path, metavar='FILE', help=f'write {what} here')


def require_task(name: str) -> None:
    """Raise InputError for a task that the cell does not have, before anything is started."""
    from fourdgen_ros.sim.tasks import load_task

    load_task(name)


def require_json(file: Path | None) -> None:
    """`require_file` for --json."""
    if file is not None:
        require_file(f'--json {file}', file)


def require_file(option: str, file: Path, kinds: Sequence[str] = ()) -> None:
    """`require_folder` for the folder of the file that an option names. Raises InputError also for
    a name that ends with none of `kinds`, where told."""
    if kinds and file.suffix not in kinds:
        raise InputError(option, expected=f'a name that ends with {", ".join(kinds)}',
                         got=repr(file.suffix))
    require_folder(option, file.parent)
    if file.is_dir():
        raise InputError(option, expected='a file that can be written', got='a folder',
                         hint='Name a file in it.')


def require_folder(option: str, folder: Path) -> None:
    """Look whether the folder that an option names can be made and written, before long work; what
    is not there yet stays so. Raises InputError where nothing can be written there."""
    try:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(option, expected='a folder that can be made', got=str(error),
                         hint='Name another one.') from error
    if not os.access(folder, os.W_OK):
        raise InputError(option, expected='a folder that can be written',
                         got='one without permission', hint='Name one of yours.')
    with suppress(OSError):  # somebody uses one meanwhile
        for made in missing:
            made.rmdir()


def write_json(file: Path | None, value: dict) -> None:
    """Write `value` to `file` unless it is None; folders are made."""
    if file is not None:
        write_whole(file, json.dumps(value, indent=1) + '\n')


def console(*, soft_wrap: bool = False) -> Console:
    """What verbs print to: square brackets in paths and messages are no markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap)


def progress_bar() -> Progress:
    """Bar with count, time and a field `note`; its `console` is as above."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(TextColumn('{task.description}', markup=False), BarColumn(),
                    MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                    TextColumn('{task.fields[note]}', markup=False), console=console())
