# SPDX-License-Identifier: Apache-2.0
"""Watchdog of a motion under way: stale joint states, a lost heartbeat, or a stop latch a fault.

No clock is read here: callers pass `now_ns` of a steady clock.
"""

from __future__ import annotations

import threading


class Watchdog:
    """Latches a fault while armed; only `reset` clears it. Thread safe.

    `joint_timeout` and `heartbeat_timeout` are the greatest silences in s; a heartbeat timeout of
    None means that no heartbeat is expected. When armed, the clock of the joint states starts anew:
    where they never come, that is found after their timeout. To arm is no heartbeat: ask
    `heartbeat_heard` before.
    """

    def __init__(self, joint_timeout: float, heartbeat_timeout: float | None = None) -> None:
        self._timeouts = {'joint states': joint_timeout}
        if heartbeat_timeout is not None:
            self._timeouts['heartbeat'] = heartbeat_timeout
        self._seen: dict[str, int] = {}
        self._armed = False
        self._fault: str | None = None
        self._lock = threading.Lock()

    @property
    def fault(self) -> str | None:
        """What went wrong, until `reset`; None when all is well."""
        with self._lock:
            return self._fault

    def arm(self, now_ns: int) -> None:
        """Watch from now on: a motion begins."""
        with self._lock:
            self._armed = True
            self._seen['joint states'] = now_ns

    def disarm(self) -> None:
        """Stop watching: the motion is over. A latched fault stays."""
        with self._lock:
            self._armed = False

    def joint_states(self, now_ns: int) -> None:
        """Note that joint states have arrived."""
        with self._lock:
            self._seen['joint states'] = now_ns

    def heartbeat(self, now_ns: int) -> None:
        """Note that a heartbeat has arrived."""
        with self._lock:
            self._seen['heartbeat'] = now_ns

    def heartbeat_heard(self, now_ns: int) -> bool:
        """Whether a heartbeat came within its timeout, or none is expected."""
        with self._lock:
            return 'heartbeat' not in self._timeouts or self._silence('heartbeat', now_ns) is None

    def stop(self, reason: str) -> None:
        """Latch a fault on request (operator stop, controller error), armed or not.

        A reason that is not in the fault yet is added to it.
        """
        with self._lock:
            if self._fault is None:
                self._fault = reason
            elif reason not in self._fault:
                self._fault += f'; {reason}'

    def check(self, now_ns: int) -> str | None:
        """Look for silence when armed; returns the fault, if any. The first fault stays."""
        with self._lock:
            if self._armed and self._fault is None:
                silences = (self._silence(source, now_ns) for source in self._timeouts)
                self._fault = next((text for text in silences if text is not None), None)
            return self._fault

    def reset(self) -> str | None:
        """Clear the fault after a person has looked; returns what it was."""
        with self._lock:
            fault, self._fault = self._fault, None
            return fault

    def _silence(self, source: str, now_ns: int) -> str | None:
        """What to say of a source that is silent for longer than its timeout, else None."""
        timeout = self._timeouts[source]
        if source not in self._seen:
            return f'no {source} yet (limit {timeout:.2f} s)'
        silence = (now_ns - self._seen[source]) * 1e-9
        return None if silence <= timeout else (
            f'no {source} for {silence:.2f} s (limit {timeout:.2f} s)')
