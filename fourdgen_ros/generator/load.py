# SPDX-License-Identifier: Apache-2.0
"""A folder of weights -> the generator whose they are."""

from __future__ import annotations

from pathlib import Path

import torch

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.base import Generator

_MARKS = {'tiny': 'dynamics', 'svd-4dgen': 'cross_view'}  # preset -> the part that only it has


def load_generator(folder: str | Path) -> Generator:
    """The generator that `folder` holds: `tiny` on the CPU, `svd-4dgen` on a GPU if there is one.

    Raises InputError when the folder holds neither, both, or a broken one.
    """
    folder = Path(folder)
    kind = kind_of(folder)
    if kind == 'tiny':
        from fourdgen_ros.generator.tiny import TinyGenerator

        return TinyGenerator.from_pretrained(folder)
    if kind == 'svd-4dgen':
        from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        return Svd4dgenGenerator.from_pretrained(folder, device=device)
    raise InputError(f'checkpoint {folder}', got='neither',
                     expected='a folder with dynamics/ (tiny) or cross_view/ (svd-4dgen)',
                     hint='Train one with `fourdgen train`, or write one with `fourdgen convert`.')


def kind_of(folder: Path) -> str | None:
    """Which preset `folder` holds, `tiny` or `svd-4dgen`; None for neither. Raises InputError for
    both: one was written over the other."""
    kinds = [kind for kind, part in _MARKS.items() if (folder / part).is_dir()]
    if len(kinds) > 1:
        raise InputError(f'checkpoint {folder}', expected='the parts of one preset',
                         got='dynamics/ (tiny) and cross_view/ (svd-4dgen)',
                         hint='Delete it and write the preset that you mean again.')
    return kinds[0] if kinds else None
