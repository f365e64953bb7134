# SPDX-License-Identifier: Apache-2.0
"""A folder of weights -> the generator whose they are."""

from __future__ import annotations

from pathlib import Path

import torch

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.base import Generator


def load_generator(folder: str | Path) -> Generator:
    """The generator that `folder` holds: `tiny` on the CPU, `svd-4dgen` on a GPU if there is one.

    Raises InputError when the folder holds neither, or a broken one.
    """
    folder = Path(folder)
    if (folder / 'dynamics').is_dir():
        from fourdgen_ros.generator.tiny import TinyGenerator

        return TinyGenerator.from_pretrained(folder)
    if (folder / 'cross_view').is_dir():
        from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        return Svd4dgenGenerator.from_pretrained(folder, device=device)
    raise InputError(f'checkpoint {folder}', got='neither',
                     expected='a folder with dynamics/ (tiny) or cross_view/ (svd-4dgen)',
                     hint='Train one with `fourdgen train`, or write one with `fourdgen convert`.')
