# SPDX-License-Identifier: Apache-2.0
"""Where the package's files (config, models) lie: in the source tree or installed."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import MutableMapping
from importlib import resources
from pathlib import Path

from fourdgen_ros.core.errors import InputError

GRIPPERS = Path(str(resources.files('fourdgen_ros') / 'assets' / 'grippers'))
GRIPPER_NAMED = 'a name in assets/grippers, or the path of a folder'  # what options take


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


def gripper_folder(name: str) -> Path:
    """Folder of a gripper's meshes: that of the package's `assets/grippers` with this name, or,
    where `name` has a slash, the folder at that path. Raises InputError without `gripper.yaml`."""
    own = '/' in name
    folder = Path(name).expanduser().absolute() if own else GRIPPERS / name
    if not (folder / 'gripper.yaml').is_file():
        known = sorted(p.parent.name for p in GRIPPERS.glob('*/gripper.yaml'))
        raise InputError(f'gripper {name!r}', expected=f'one of {known}, or a folder with a slash '
                         'in its path', got=f'no gripper.yaml in {folder}' if own else name,
                         hint='How to make a folder for another gripper: docs/robot.md.')
    return folder


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
