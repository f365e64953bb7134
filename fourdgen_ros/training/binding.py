# SPDX-License-Identifier: Apache-2.0
"""What the check-points in a folder belong to: one architecture, and one codec."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def bind_config(folder: Path, model: Mapping[str, Any]) -> None:
    """Tie the check-points in `folder` to the configuration of their model, which JSON can hold.

    Raises InputError with what differs when they were trained with another one. Some of it does not
    change the weights' shapes, so that they could be loaded all the same. While there are none yet,
    it may be another one than at the last start.
    """
    config: dict[str, Any] = json.loads(json.dumps(
        {key: value for key, value in model.items() if not key.startswith('_')}))
    mark = folder / 'model.json'
    begun = mark.is_file() and next(folder.rglob('last.pt'), None) is not None
    trained = json.loads(mark.read_text(encoding='utf-8')) if begun else config
    changed = [key for key in config if config[key] != trained.get(key)]
    if changed:
        raise InputError(
            f'check-points in {folder}',
            expected=', '.join(f'{key} {trained.get(key)}' for key in changed)
            + ', as they were trained with',
            got=', '.join(f'{key} {config[key]}' for key in changed),
            hint='Give the options and the data of the first start (--no-depth: depth; '
                 '--no-cross-view: cross_view; --size: height and width; --data: tasks), or '
                 'another --out.')
    folder.mkdir(parents=True, exist_ok=True)
    if PartialState().is_main_process and not begun:
        part = folder / 'model.json.part'
        part.write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
        part.replace(mark)  # whole at once: other processes read it
