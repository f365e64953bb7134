# SPDX-License-Identifier: Apache-2.0
"""Where the package's files (config, models) lie: in the source tree or installed."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import MutableMapping
from pathlib import Path

from fourdgen_ros.core.errors import InputError


def share_directory() -> Path:
    """Directory with `config/` and `models/`: the source tree's root or `share/fourdgen_ros`.

    Raises `InputError` where neither is found.
    """
    module = Path(__file__).resolve().parents[1]
    if (module.parent / 'package.xml').is_file():
        return module.parent
    # <prefix>/lib/python3.x/site-packages/fourdgen_ros; Debian has local/lib and dist-packages too.
    candidates = [prefix / 'share' / 'fourdgen_ros' for prefix in module.parents[2:6]]
    candidates.append(Path(sysconfig.get_path('data'), 'share', 'fourdgen_ros'))
    candidates.append(Path(sys.prefix, 'share', 'fourdgen_ros'))
    for candidate in candidates:
        if (candidate / 'config').is_dir():
            return candidate
    raise InputError(
        'the files of fourdgen_ros', expected='share/fourdgen_ros/config beside the package',
        got=f'none above {module}', hint='Install the package with colcon or pip again.')


def require_path(arguments: MutableMapping[str, str], name: str, *, folder: bool = False) -> None:
    """Expand `~` in the launch argument `name`: no shell does so after `:=`.

    Raises InputError unless it is a file, or with `folder` a folder: launch_ros would start the
    nodes without a file of parameters that is not there.
    """
    path = arguments[name] = os.path.expanduser(arguments[name])
    if not (os.path.isdir(path) if folder else os.path.isfile(path)):
        raise InputError(
            f'launch argument {name}', expected='a folder' if folder else 'a file',
            got=repr(path), hint=f'Relative paths begin at {os.getcwd()}.')
