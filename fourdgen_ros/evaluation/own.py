# SPDX-License-Identifier: Apache-2.0
"""Generators of the user, named where they can be imported: `package.module:Class`."""

from __future__ import annotations

import pkgutil
import re
from typing import TYPE_CHECKING

from fourdgen_ros.core.errors import InputError

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator

OWN = r'[A-Za-z_][\w.]*:[A-Za-z_]\w*'  # module:Class


def is_own(name: str) -> bool:
    """Whether `name` is a class of the user rather than a name of ours or a folder."""
    return re.fullmatch(OWN, name) is not None


def load_own(name: str) -> Generator:
    """Import `module:Class` and call it without arguments; what comes implements `Generator`.

    Raises InputError when there is no such module or class, or when it makes no generator.
    """
    try:
        factory = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise InputError(f'generator {name!r}', expected='a class that can be imported',
                         got=str(error), hint='Install its package into this environment, or name '
                                              'its folder in PYTHONPATH.') from error
    made = factory() if callable(factory) else factory
    if not isinstance(getattr(made, 'name', None), str) or not callable(
            getattr(made, 'generate', None)):
        raise InputError(f'generator {name!r}', expected='an object with `name` and `generate`',
                         got=type(made).__name__,
                         hint='See the protocol in fourdgen_ros/generator/base.py.')
    return made
