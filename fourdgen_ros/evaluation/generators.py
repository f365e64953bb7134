# SPDX-License-Identifier: Apache-2.0
"""Generators by the name that a user types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.evaluation.own import is_own, load_own, module_file
from fourdgen_ros.policy.client import MARK

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator
    from fourdgen_ros.sim.cell import CellState

SIMULATED = ('oracle', 'oracle-rgb', 'still')  # they know the simulator's state and have no weights
RGB_ONLY = ('oracle-rgb', 'tiny-rgb')  # names of generators whose futures have no points


def model_folder(name: str) -> Path | None:
    """Folder of the weights of a generator: `tiny` (bundled) or a path; None for `SIMULATED` and
    for a class of the user (see own.py).

    Raises InputError when there is no such folder.
    """
    if name in SIMULATED or is_own(name):
        return None
    folder = share_directory() / 'models' / 'tiny' if name == 'tiny' else Path(name)
    if not folder.is_dir():
        raise InputError('generator', got=repr(name),
                         expected=f"one of {(*SIMULATED, 'tiny')}, a folder with trained weights "
                                  'or module:Class',
                         hint='Train one with `fourdgen train`.')
    return folder


def is_policy(name: str) -> bool:
    """Whether it is the folder of a policy, which imagines nothing. Raises as `model_folder`."""
    folder = model_folder(name)
    return folder is not None and (folder / MARK).is_file()


def load_generator(name: str, state: Callable[[], CellState] | None = None) -> Generator:
    """`oracle`, `oracle-rgb`, `still`, `tiny`, a folder of weights or a class of the user.

    `state` tells those that need the simulator the present state of the cell. Raises InputError for
    an unknown name, broken weights, or where `state` is needed and missing.
    """
    folder = model_folder(name)
    if folder is not None:
        from fourdgen_ros.generator.load import load_generator as load_folder

        return load_folder(folder)
    if is_own(name):
        return load_own(name)
    if state is None:
        raise InputError(f'generator {name!r}', expected='a simulated cell, whose state it copies',
                         got='images only', hint='Use another generator, or --from-cell.')
    if name == 'still':
        from fourdgen_ros.evaluation.still import StillGenerator

        return StillGenerator(state)
    if name == 'oracle-rgb':
        from fourdgen_ros.evaluation.flat import FlatOracle

        return FlatOracle(state)
    from fourdgen_ros.sim.oracle import OracleGenerator

    return OracleGenerator(state)


def fingerprint(name: str) -> str:
    """Identity of the weights: first 12 digits of the SHA-256 over all safetensors, of a class of
    the user over the file of its module; '' for those of the simulator. Raises as
    `model_folder` and `module_file`."""
    if is_own(name):
        return _digest([module_file(name)])
    folder = model_folder(name)
    return '' if folder is None else _digest(sorted(folder.rglob('*.safetensors')))


def settings(name: str) -> dict[str, str]:
    """What weights mean without being in them, as an entry of an identity: the same digits over
    names and contents of all JSON files of a model's folder (time between frames, scheduler,
    sizes) and the names of its safetensors; none without a folder. Raises as `model_folder`."""
    folder = model_folder(name)
    if folder is None:
        return {}
    files = sorted(file for end in ('json', 'safetensors') for file in folder.rglob(f'*.{end}'))
    told = [(str(file.relative_to(folder)),
             _digest([file]) if file.suffix == '.json' else '') for file in files]
    return {'settings': hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open('rb') as stream:
            while part := stream.read(2**24):
                digest.update(part)
    return digest.hexdigest()[:12]
