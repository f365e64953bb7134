# SPDX-License-Identifier: Apache-2.0
"""Environment of every Python of `.venv`, so that nobody has to source anything.

`link_venv.py` copies this file into the site-packages and has `fourdgen_ros.pth` call `activate` at
each start. Its name sorts before `ros_wheels_bootstrapper.pth`, which then starts Python once more
with the library path that is set here: the loader reads it only at the start of a process.
"""

from __future__ import annotations

import os
import sys

DEFAULTS = {
    'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp',
    'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    # With the default transports Python loses half of the frames of two 640x480 RGB-D cameras.
    'FASTDDS_BUILTIN_TRANSPORTS':
        'LARGE_DATA?max_msg_size=1MB&sockets_size=1MB&non_blocking=true',
    'MUJOCO_GL': 'egl',
}


def activate(root: str) -> None:
    """Set what ROS reads from the environment; `root` is the repository, built into `install/`."""
    install = os.path.join(root, 'install')
    own = [prefix for prefix in (install, sys.prefix) if os.path.isdir(prefix)]

    # A sourced ROS installation has its own rclpy and DDS, which must not mix with the wheels'.
    prefixes = [prefix for prefix in _split('AMENT_PREFIX_PATH') if prefix not in own]
    foreign = [prefix for prefix in prefixes
               if os.path.isdir(os.path.join(prefix, 'share', 'rclpy'))]
    for variable in ('PYTHONPATH', 'LD_LIBRARY_PATH'):
        _join(variable, [path for path in _split(variable) if not _below(path, foreign)])
    sys.path[:] = [path for path in sys.path if not _below(path, foreign)]

    _join('AMENT_PREFIX_PATH', own + [prefix for prefix in prefixes if prefix not in foreign])
    libraries = _split('LD_LIBRARY_PATH')
    if os.path.isdir(install) and os.path.join(install, 'lib') not in libraries:
        _join('LD_LIBRARY_PATH', [os.path.join(install, 'lib'), *libraries])
        os.environ.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
    for variable, value in DEFAULTS.items():
        os.environ.setdefault(variable, value)

    version = f'python{sys.version_info.major}.{sys.version_info.minor}'
    packages = os.path.join(install, 'lib', version, 'site-packages')
    if packages not in sys.path:
        sys.path.append(packages)


def _split(variable: str) -> list[str]:
    return [path for path in os.environ.get(variable, '').split(os.pathsep) if path]


def _join(variable: str, paths: list[str]) -> None:
    if paths:
        os.environ[variable] = os.pathsep.join(paths)
    else:
        os.environ.pop(variable, None)


def _below(path: str, prefixes: list[str]) -> bool:
    return any(path == prefix or path.startswith(prefix + os.sep) for prefix in prefixes)
