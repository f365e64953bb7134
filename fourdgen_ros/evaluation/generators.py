# SPDX-License-Identifier: Apache-2.0
"""Generators by the name that a user types."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator
    from fourdgen_ros.sim.cell import CellState


def model_folder(name: str) -> Path | None:
    """Folder of the weights of a generator: `tiny` (bundled) or a path; None for the oracle.

    Raises InputError when there is no such folder.
    """
    if name == 'oracle':
        return None
    folder = share_directory() / 'models' / 'tiny' if name == 'tiny' else Path(name)
    if not folder.is_dir():
        raise InputError('generator', expected="'oracle', 'tiny' or a folder with trained weights",
                         got=repr(name), hint='Train one with `fourdgen train`.')
    return folder


def load_generator(name: str, state: Callable[[], CellState] | None = None) -> Generator:
    """`oracle`, `tiny` or a folder of weights. `state` tells the oracle the present cell state.

    Raises InputError for an unknown name, broken weights, or an oracle without `state`.
    """
    folder = model_folder(name)
    if folder is not None:
        from fourdgen_ros.generator.tiny import TinyGenerator

        return TinyGenerator.from_pretrained(folder)
    if state is None:
        raise InputError("generator 'oracle'", expected='a simulated cell, whose state it copies',
                         got='images only', hint='Use another generator, or --from-cell.')
    from fourdgen_ros.sim.oracle import OracleGenerator

    return OracleGenerator(state)


def fingerprint(name: str) -> str:
    """Identity of the weights: first 12 digits of the SHA-256 over all safetensors; '' for none."""
    folder = model_folder(name)
    if folder is None:
        return ''
    digest = hashlib.sha256()
    for file in sorted(folder.rglob('*.safetensors')):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
