# SPDX-License-Identifier: Apache-2.0
"""How long the steps of a generation took."""

from __future__ import annotations

import time


class Laps:
    """Seconds of named steps in order, from the moment this is made."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the present step, which was `name`."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
