# SPDX-License-Identifier: Apache-2.0
"""What every generator asks of its inputs."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Observation

MIN_VALID_DEPTH = 0.2  # share of the pixels of a view


def require_steps(steps: int) -> None:
    """Raise InputError unless there is at least one denoising step."""
    if steps < 1:
        raise InputError('steps', expected='at least 1', got=str(steps))


def require_seed(seed: int) -> None:
    """Raise InputError unless it is one of torch's noise and of a `Future`, also as numpy's."""
    if not (isinstance(seed, Integral) and 0 <= int(seed) < 2**64):
        raise InputError('seed', expected='a whole number from 0 on, below 2^64', got=repr(seed))


def require_depth(observation: Observation, depth_range: tuple[float, float]) -> None:
    """Raise InputError for a view most of whose depth lies outside `depth_range` (m)."""
    lo, hi = depth_range
    for view in observation.views:
        with np.errstate(invalid='ignore'):
            share = float(((view.depth >= lo) & (view.depth <= hi)).mean())
        if share < MIN_VALID_DEPTH:
            raise InputError(f'depth of camera {view.camera!r}',
                             expected=f'at least {MIN_VALID_DEPTH:.0%} of pixels between {lo} '
                                      f'and {hi} m', got=f'{share:.1%}',
                             hint='Is the depth stream aligned, in metres, and not covered?')
