# SPDX-License-Identifier: Apache-2.0
"""Generators of the user, named where they can be imported: `package.module:Class`."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdgen_ros.core.errors import FourdgenError, GenerationError, InputError
from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.evaluation.own_checks import require_of

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator

OWN = r'[A-Za-z_][\w.]*:[A-Za-z_]\w*'  # module:Class


def is_own(name: str) -> bool:
    """Whether `name` is a class of the user rather than a name of ours or a folder."""
    return re.fullmatch(OWN, name) is not None


def load_own(name: str) -> Generator:
    """Import `module:Class` and call it without arguments; what comes implements `Generator`, as
    an object that has `generate` already does.

    Its `generate` raises GenerationError where that of the class returns no `Future` of its
    observation, see `require_of`, one that could not be built, or raises what is no error of this
    package. Raises InputError when there is no such module or class, when it cannot be made without
    arguments, or when it makes no generator; what the module or the constructor itself raises comes
    through.
    """
    _require_module(name)
    module, _, attribute = name.partition(':')
    found = getattr(import_module(module), attribute, None)
    if found is None:
        raise InputError(f'generator {name!r}', expected=f'a class of the module {module}',
                         got=f'no {attribute} in it', hint='Is the name of the class right?')
    ready = not isinstance(found, type) and hasattr(found, 'generate')
    if callable(found) and not ready:
        _require_no_arguments(name, found)
    made = found() if callable(found) and not ready else found
    if not isinstance(getattr(made, 'name', None), str) or not callable(
            getattr(made, 'generate', None)):
        raise InputError(f'generator {name!r}', expected='an object with `name` and `generate`',
                         got=type(made).__name__,
                         hint='See the protocol in fourdgen_ros/generator/base.py.')
    return _Own(name, made)


def module_file(name: str) -> Path:
    """The file of the module of `module:Class`. Raises InputError when there is none."""
    origin = _require_module(name).origin
    if origin is None or not Path(origin).is_file():
        raise InputError(f'generator {name!r}', expected='a module in a file of its own',
                         got='a package without __init__.py or a part of Python',
                         hint='Name the module that holds the class.')
    return Path(origin)


def _require_module(name: str) -> ModuleSpec:
    """Where the module of `module:Class` lies. Raises InputError where Python does not find it;
    errors inside packages that hold it come through."""
    module = name.partition(':')[0]
    try:
        spec, missing = find_spec(module), module
    except ModuleNotFoundError as error:
        missing = error.name or ''
        if not f'{module}.'.startswith(f'{missing}.'):  # something that its package imports
            raise
        spec = None
    if spec is None:
        raise InputError(f'generator {name!r}', expected='a class that can be imported',
                         got=f'No module named {missing!r}',
                         hint='Install its package into this environment, or name its folder in '
                              'PYTHONPATH.')
    return spec


def _require_no_arguments(name: str, factory: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some built-in callables tell none
        return
    try:
        signature.bind()
    except TypeError as error:
        raise InputError(f'generator {name!r}', expected='a class that can be made without '
                                                         'arguments',
                         got=f'arguments {signature}: {error}',
                         hint='Give the arguments defaults, or name a function that returns the '
                              'generator.') from error


class _Own:
    """A generator of the user whose results are looked at."""

    def __init__(self, title: str, made: Generator) -> None:
        self.name = made.name
        self._title, self._made = title, made

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """See `Generator.generate`."""
        try:
            future = self._made.generate(observation, task=task, seed=seed, steps=steps)
        except InputError as error:
            if not _built_a_future(error):  # the observation is at fault, as the protocol says
                raise
            raise GenerationError(f'{error.what} of {self._title}', expected=error.expected,
                                  got=error.got, hint=error.hint) from error
        except FourdgenError:
            raise
        except Exception as error:  # one that failed must not end a measurement
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise GenerationError(f'generate() of {self._title}', expected='a future',
                                  got=f'{type(error).__name__}: {error}',
                                  hint=f'See {where.filename}:{where.lineno}.') from error
        require_of(future, observation, self._title)
        return replace(future, frame_ids=tuple(
            view.frame_id for view in observation.views[:len(future.cameras)]))


def _built_a_future(error: InputError) -> bool:
    """Whether it comes from the checks of a `Future`."""
    checks = Future.__post_init__.__code__
    return any(frame.f_code is checks for frame, _ in traceback.walk_tb(error.__traceback__))
