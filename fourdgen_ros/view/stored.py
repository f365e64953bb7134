# SPDX-License-Identifier: Apache-2.0
"""Reads futures that `fourdgen generate --out` has written."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future

_KEYS = ('rgb', 'points', 'valid', 'gripper', 'dt', 'K', 'cameras', 'frame_id', 'generator', 'seed')


def load_future(path: Path) -> Future:
    """Future of a `future.npz`. Raises InputError for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file]
            if missing:
                raise InputError(f'future {path}', expected=f'arrays {", ".join(_KEYS)}',
                                 got=f'no {", ".join(missing)}',
                                 hint='Write it with `fourdgen generate --out FOLDER`.')
            data = {key: file[key] for key in _KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'future {path}', expected='a future.npz of `fourdgen generate --out`',
                         got=str(error) if isinstance(error, OSError) else 'no archive of arrays',
                         hint='Write it with `fourdgen generate --out FOLDER`.') from error
    return Future(
        **{key: data[key] for key in ('rgb', 'points', 'valid', 'gripper', 'K')},
        dt=float(data['dt']), cameras=tuple(data['cameras'].tolist()), stamp=0,
        frame_id=str(data['frame_id']), generator=str(data['generator']), seed=int(data['seed']))
