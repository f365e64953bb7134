# SPDX-License-Identifier: Apache-2.0
"""Generators of the user, named where they can be imported: `package.module:Class`."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Future, Observation

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator

OWN = r'[A-Za-z_][\w.]*:[A-Za-z_]\w*'  # module:Class


def is_own(name: str) -> bool:
    """Whether `name` is a class of the user rather than a name of ours or a folder."""
    return re.fullmatch(OWN, name) is not None


def load_own(name: str) -> Generator:
    """Import `module:Class` and call it without arguments; what comes implements `Generator`.

    Its `generate` raises GenerationError where that of the class returns no `Future`. Raises
    InputError when there is no such module or class, when it cannot be made without arguments, or
    when it makes no generator; what the class itself raises comes through.
    """
    try:
        factory = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise InputError(f'generator {name!r}', expected='a class that can be imported',
                         got=str(error), hint='Install its package into this environment, or name '
                                              'its folder in PYTHONPATH.') from error
    if callable(factory):
        _require_no_arguments(name, factory)
    made = factory() if callable(factory) else factory
    if not isinstance(getattr(made, 'name', None), str) or not callable(
            getattr(made, 'generate', None)):
        raise InputError(f'generator {name!r}', expected='an object with `name` and `generate`',
                         got=type(made).__name__,
                         hint='See the protocol in fourdgen_ros/generator/base.py.')
    return _Own(name, made)


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
        future = self._made.generate(observation, task=task, seed=seed, steps=steps)
        if not isinstance(future, Future):
            raise GenerationError(f'what generate() of {self._title} returned',
                                  expected='a fourdgen_ros.core.types.Future',
                                  got=type(future).__name__,
                                  hint='Is a return missing? See docs/tutorials/generator.md.')
        return future
