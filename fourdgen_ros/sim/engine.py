# SPDX-License-Identifier: Apache-2.0
"""The import of MuJoCo, which loads OpenGL: where that fails, an error says what to do."""

import os

from fourdgen_ros.core.errors import FourdgenError, MissingDependencyError, how_to_install

__all__ = ['mujoco']

try:
    import mujoco
except ModuleNotFoundError as error:
    raise MissingDependencyError('MuJoCo', expected='the package mujoco', got=str(error),
                                 hint=how_to_install('sim')) from error
except Exception as error:  # each platform of OpenGL has its own
    raise FourdgenError(
        'rendering', expected='the OpenGL library that MUJOCO_GL names',
        got=f'MUJOCO_GL={os.environ.get("MUJOCO_GL", "")}: {error}',
        hint='On Debian and Ubuntu: `sudo apt install libegl1` for egl, `libosmesa6` for osmesa.'
    ) from error
