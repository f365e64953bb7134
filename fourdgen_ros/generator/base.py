# SPDX-License-Identifier: Apache-2.0
"""What every generator does."""

from __future__ import annotations

from typing import Protocol

from fourdgen_ros.core.types import Future, Observation


class Generator(Protocol):
    """Imagines the future of an observation."""

    name: str

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        """Generate one future.

        Frame 0 of the result is the observation at the generator's resolution; points of every view
        lie in the optical frame of `observation.reference`. Equal observation, seed and steps give
        equal futures. `steps` is the number of denoising steps, None the generator's own default.

        Raises InputError for an observation it cannot use, GenerationError when it fails.
        """
        ...
