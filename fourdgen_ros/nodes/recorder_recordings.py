# SPDX-License-Identifier: Apache-2.0
"""What the recorder needs of whoever records: this process, or `ros2 bag record`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fourdgen_ros.core.errors import FourdgenError


class RecordingError(FourdgenError):
    """An episode could not be begun, or not be finished."""


@dataclass(frozen=True)
class Counts:
    """Messages by topic; `dropped` before the disk, `lost` before this process."""

    recorded: Mapping[str, int]
    dropped: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    duration: float = 0.0  # s between the first and the last
    queue_bytes: int = 0
    queue_high_water: int = 0
    silent: Mapping[str, float] = field(default_factory=dict)  # s without a message, if too long


class Recording(Protocol):
    """One episode under way, in its partial folder."""

    folder: Path

    @property
    def reason(self) -> str | None:
        """Why it ended by itself; None while it goes on, or was told to end."""

    @property
    def complete(self) -> bool:
        """Whether the bag was closed, so that everything can read it."""

    def note(self, text: str) -> None:
        """Write a message into the topic of the episode's label."""

    def counts(self) -> Counts:
        """What has been recorded until now."""

    def finish(self, custom_data: Mapping[str, str]) -> None:
        """End it, if it has not ended, and note `custom_data` in its metadata."""
