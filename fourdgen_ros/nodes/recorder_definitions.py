# SPDX-License-Identifier: Apache-2.0
"""Message classes and the texts of their definitions, from the installed packages."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from fourdgen_ros.core.errors import MissingDependencyError

_PRIMITIVES = frozenset((
    'bool', 'byte', 'char', 'float32', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32',
    'uint32', 'int64', 'uint64', 'string', 'wstring'))
# A field's type, at the start of a line and before a name: `Point32[]`, `std_msgs/Header`.
_FIELD = re.compile(r'^[ \t]*([a-zA-Z0-9_/]+)(?:<=\d+)?(?:\[[^\]]*\])?[ \t]+[a-zA-Z]', re.MULTILINE)


def message_class(name: str) -> type:
    """Class of a message type as `sensor_msgs/msg/Image`.

    Raises MissingDependencyError when its package is not installed, or does not have it.
    """
    package, _, kind = name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f'message type {name}', expected=f'the interfaces of {package}', got=str(error),
            hint=f"Install them: sudo apt install ros-jazzy-{package.replace('_', '-')}") from error


@functools.cache
def definition(name: str) -> str:
    """Text of a message type and of all types in it, as rosbag2 concatenates them.

    Source: rosbag2_cpp/src/rosbag2_cpp/message_definitions/local_message_definition_source.cpp
    (branch jazzy). Raises MissingDependencyError when a definition is not installed.
    """
    seen: set[str] = set()

    def append(package: str, kind: str) -> str:
        text = _read(package, kind)
        result = text
        for dependency in sorted(_dependencies(text, package)):
            if dependency not in seen:
                seen.add(dependency)
                result += f'\n{"=" * 80}\nMSG: {dependency}\n' + append(*dependency.split('/'))
        return result

    package, _, kind = name.split('/')
    return append(package, kind)


def _dependencies(text: str, package: str) -> set[str]:
    found = set()
    for kind in _FIELD.findall(text):
        if kind not in _PRIMITIVES:
            parts = kind.split('/')
            found.add(f'{parts[0] if len(parts) > 1 else package}/{parts[-1]}')
    return found


def _read(package: str, kind: str) -> str:
    try:
        return Path(get_package_share_directory(package), 'msg', f'{kind}.msg').read_text('utf-8')
    except (PackageNotFoundError, OSError) as error:
        raise MissingDependencyError(
            f'definition of {package}/msg/{kind}', expected='its .msg file', got=str(error),
            hint=f'Install the whole package {package}.') from error
