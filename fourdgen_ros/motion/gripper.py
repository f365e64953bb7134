# SPDX-License-Identifier: Apache-2.0
"""Gripper events: where along a future the fingers close on something or let go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GripperEvent:
    """The fingers close (or open) with the arm at the pose of `frame`."""

    frame: int
    close: bool


def find_events(opening: Array, now: float, limits: tuple[float, float], *,
                change: float = 0.01) -> list[GripperEvent]:
    """Events in a tracked opening (T,) m, frame 0 being now with the measured opening `now`.

    An object decides how far the fingers close, so the test is relative: an event is a fall
    (close) or rise (open) by more than `change` from the highest or lowest value since the last
    event, which is also the hysteresis. A median over three frames removes single outliers.
    Fingers that already are at a limit of `limits` cannot move further: no event.
    """
    median = np.median(np.stack([np.r_[opening[0], opening[:-1]], opening,
                                 np.r_[opening[1:], opening[-1]]]), axis=0)
    can_close = now > limits[0] + change / 2.0
    can_open = now < limits[1] - change / 2.0
    high = low = float(median[0])
    events = []
    for frame, value in enumerate(median):
        high, low = max(high, value), min(low, value)
        if can_close and value < high - change:
            events.append(GripperEvent(frame, True))
        elif can_open and value > low + change:
            events.append(GripperEvent(frame, False))
        else:
            continue
        can_close, can_open = not events[-1].close, events[-1].close
        high = low = float(value)
    return events
