# SPDX-License-Identifier: Apache-2.0
"""Errors that a user sees: each names the input, what was expected, what came and the next step."""

from __future__ import annotations


class FourdgenError(Exception):
    """Base of all errors that this package raises on purpose.

    `what` names the input, `expected` and `got` the mismatch, `hint` the next step; `problem` is
    all but the hint.
    """

    def __init__(self, what: str, *, expected: str = '', got: str = '', hint: str = '') -> None:
        self.what, self.expected, self.got, self.hint = what, expected, got, hint
        parts = [what]
        if expected:
            parts.append(f'expected {expected}')
        if got:
            parts.append(f'got {got}')
        self.problem = '; '.join(parts)
        super().__init__(f'{self.problem}. {hint}' if hint else self.problem)


class InputError(FourdgenError):
    """An observation, file or message is malformed or missing."""


class GenerationError(FourdgenError):
    """A generator could not produce a usable future."""


class TrainingError(FourdgenError):
    """A training run cannot go on."""


class TrackingError(FourdgenError):
    """The gripper could not be followed with enough confidence."""


class PlanningError(FourdgenError):
    """No safe motion follows the trajectory."""


class ExecutionError(FourdgenError):
    """A controller rejected or aborted, or a watchdog fired."""


class MissingDependencyError(FourdgenError):
    """An optional package is not installed; `hint` says how to install it."""


def how_to_install(extra: str) -> str:
    """Hint of an error: the packages of one of the extras in setup.py."""
    return f"In your clone of fourdgen_ros: pip install '.[{extra}]'."
