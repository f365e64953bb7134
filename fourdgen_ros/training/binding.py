# SPDX-License-Identifier: Apache-2.0
"""Check-points of a model that knows the latents of a codec belong to that codec."""

from __future__ import annotations

import hashlib
from pathlib import Path

from accelerate import PartialState
from torch import nn

from fourdgen_ros.core.errors import InputError


def bind(folder: Path, codec: nn.Module) -> None:
    """Tie the check-points in `folder` to the codec whose latents they know.

    Raises InputError when they were trained on another one.
    """
    digest = hashlib.sha256()
    for tensor in codec.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    mark, name = folder / 'codec.sha256', digest.hexdigest()
    if mark.is_file() and mark.read_text() != name:
        raise InputError(f'check-points in {folder}', expected='a model of the present codec',
                         got='a model of another one, whose latents mean something else',
                         hint='The codec was trained further: remove that folder and start again.')
    folder.mkdir(parents=True, exist_ok=True)
    if PartialState().is_main_process:
        mark.write_text(name)
