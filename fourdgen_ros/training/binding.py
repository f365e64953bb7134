# SPDX-License-Identifier: Apache-2.0
"""What the check-points in a folder belong to: one architecture, one codec, one start."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import write_whole
from fourdgen_ros.generator.load import kind_of
from fourdgen_ros.training.loop import read_checkpoint

# preset -> folders of its runs
_STAGES = {'tiny': ('codec', 'dynamics'), 'svd-4dgen': ('vae_pointmap', 'denoiser', 'gripper'),
           'diffusion-policy': ('training',)}
_DATA = {'--data', '--episodes'}

log = logging.getLogger(__name__)


def bind(folder: Path, codec: nn.Module) -> None:
    """Tie the check-points in `folder` to the codec whose latents they know.

    Raises InputError when they were trained on another one. While there are none yet, it may be
    another one than at the last start.
    """
    digest = hashlib.sha256()
    for tensor in codec.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    mark, name = folder / 'codec.sha256', digest.hexdigest()
    trained = mark.is_file() and (folder / 'last.pt').is_file()
    if trained and mark.read_text() != name:
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
    config = {key: value for key, value in model.items() if not key.startswith('_')}
    config, trained = _bound(folder / 'model.json', config)
    changed = [key for key in config if config[key] != trained.get(key)]
    if changed:
        raise InputError(
            f'check-points in {folder}',
            expected=', '.join(f'{key} {trained.get(key)}' for key in changed)
            + ', as they were trained with',
            got=', '.join(f'{key} {config[key]}' for key in changed),
            hint='Give the options and the data of the first start (--no-depth: depth; '
                 '--no-anchor: anchored; --no-cross-view: cross_view; --size: height and width; '
                 '--data: tasks), or another --out.')


def bind_start(folder: Path, start: Mapping[str, Any], minutes: float) -> None:
    """Tie the check-points of a stage in `folder` to the options that it was started with, by
    their names, as `bind_config`; paths count as they were typed.

    A stage that has had its `minutes` is not trained any more: other data are then as good.
    """
    given, first = _bound(folder / 'start.json', start)
    changed = [key for key in given if given[key] != first.get(key)]
    if not changed or (set(changed) <= _DATA and _spent(folder) >= minutes):
        return
    raise InputError(
        f'check-points in {folder}',
        expected=', '.join(_option(key, first.get(key)) for key in changed)
        + ', as at their first start',
        got=', '.join(_option(key, given[key]) for key in changed),
        hint='Give the options of the first start, remove that folder to begin the stage again, '
             'or give another --out.')


def require_weights(folder: Path, minutes: float, option: str, *, given: bool) -> None:
    """Raise InputError for a stage without `minutes`, check-points in `folder` and `given` weights
    to start from: random ones would be left. `option` tells its minutes."""
    if minutes <= 0.0 and not given and not (folder / 'last.pt').is_file():
        raise InputError(f'{option} 0', expected='weights to start from',
                         got=f'none, and no check-points in {folder}',
                         hint='Give minutes, or a preset that has been trained.')


def come_apart(out: Path, codec: tuple[str, float], model: tuple[str, float], option: str,
               init: Path | None) -> bool:
    """Whether the codec of preset `init` is trained in folder `out` and the model of its latents is
    not: the two do not belong together any more and make no preset, which is logged.

    `codec` and `model` are the name of a stage and its minutes; `option` tells those of the model.
    Raises InputError when `out` holds a preset all the same.
    """
    if init is None or not _trained(out, *codec) or _trained(out, *model):
        return False
    if (out / 'preset').exists():
        raise InputError(f'{out}/preset', expected=f'none when the {codec[0]} alone is trained on',
                         got='a preset of before',
                         hint=f'Move it away, or give {option} or another --out.')
    log.warning('no preset will be written: the %s of %s knows the latents of another %s than the '
                'one in %s. Give the command again with %s.', model[0], init, codec[0], out, option)
    return True


def require_kind(out: Path, preset: str) -> None:
    """Raise InputError when `out` holds a run or a preset of another kind than `preset`."""
    others = [kind for kind, stages in _STAGES.items() if kind != preset
              and (any((out / stage).is_dir() for stage in stages)
                   or kind == kind_of(out / 'preset'))]
    if others:
        raise InputError(f'--out {out}', expected=f'a new folder, or a run of {preset}',
                         got=f'a run of {others[0]}', hint='Give another --out.')


def _bound(mark: Path, present: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`present` as JSON has it, and what the check-points beside or below `mark` were trained with;
    `present`, which is then written there, while there are none."""
    now: dict[str, Any] = json.loads(json.dumps(present, default=str))
    if mark.is_file() and next(mark.parent.rglob('last.pt'), None) is not None:
        return now, json.loads(mark.read_text(encoding='utf-8'))
    mark.parent.mkdir(parents=True, exist_ok=True)
    if PartialState().is_main_process:
        write_whole(mark, json.dumps(now, indent=2) + '\n')  # other processes read it
    return now, now


def _trained(out: Path, stage: str, minutes: float) -> bool:
    """Whether a stage has been trained, or will be for `minutes`."""
    return minutes > 0.0 or (out / stage / 'last.pt').is_file()


def _spent(folder: Path) -> float:
    """Minutes that the stage in `folder` has been trained."""
    last = folder / 'last.pt'
    if not last.is_file():
        return 0.0
    return float(read_checkpoint(last)['minutes'])


def _option(key: str, value: Any) -> str:
    """How an option is typed."""
    if value is None or value is False:
        return f'no {key}'
    words = value if isinstance(value, list) else [] if value is True else [value]
    return ' '.join(map(str, (key, *words)))
