# SPDX-License-Identifier: Apache-2.0
"""From the subscriptions to the disk: a bounded queue and the thread that writes it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from fourdgen_ros.data.bag_metadata import BagTopic

FLUSH_PERIOD = 0.5  # s between two points up to which a killed recorder's file can be read


class Writer(Protocol):
    """What the queue needs of `fourdgen_ros.data.bag_writer.BagWriter`."""

    def add_topic(self, topic: BagTopic) -> int:
        """Returns the channel of a topic."""

    def write(self, channel: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """Append a message."""

    def flush(self) -> None:
        """Make all of it readable, whatever happens to the process."""

    def close(self) -> None:
        """Finish the bag."""

    def abort(self) -> None:
        """Leave the bag as it is."""


@dataclass
class QueueStats:
    """Messages by channel that did not fit into the queue, and how full it was, in bytes."""

    dropped: Counter[Hashable] = field(default_factory=Counter)
    size: int = 0
    high_water: int = 0
    written: int = 0


class WriteQueue:
    """Takes messages without waiting and writes them in one thread of its own.

    A message that does not fit is dropped and counted. The thread ends when it is told to, when
    `guard` gives a reason, or when the disk refuses; `reason` tells which, None being the first.
    Then it writes what it has and closes the bag, unless the disk refused.
    """

    def __init__(self, writer: Writer, limit_bytes: int,
                 guard: Callable[[], str | None] = lambda: None,
                 ended: Callable[[], None] = lambda: None) -> None:
        """`guard` is asked at each flush; the thread calls `ended` when it ends by itself."""
        self.stats = QueueStats()
        self.reason: str | None = None
        self.complete = False  # whether the bag was closed
        self._writer, self._limit, self._guard, self._ended = writer, limit_bytes, guard, ended
        self._items: deque[tuple[int, int, int, bytes]] = deque()
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._run, name='bag_writer', daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def accepting(self) -> bool:
        """Whether messages are taken."""
        return self._open

    def add_topic(self, topic: BagTopic) -> int:
        """The channel to put a topic's messages into; waits while the thread writes."""
        with self._writing:
            return self._writer.add_topic(topic)

    def put(self, channel: int, log_ns: int, publish_ns: int, data: bytes) -> bool:
        """Whether the message was taken; never waits for the disk."""
        with self._changed:
            if not self._open:
                return False
            size = self.stats.size + len(data)
            if size > self._limit:
                self.stats.dropped[channel] += 1
                return False
            self.stats.size = size
            self.stats.high_water = max(size, self.stats.high_water)
            self._items.append((channel, log_ns, publish_ns, data))
            self._changed.notify()
        return True

    def end(self) -> None:
        """Take no more, wait until everything is written and the bag is closed."""
        self._close(None)
        self._thread.join()

    def _close(self, reason: str | None) -> None:
        with self._changed:
            if self._open:
                self._open, self.reason = False, reason
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._write_all()
            self._writer.close()
            self.complete = True
        except Exception as error:  # whatever it is, the episode ends and its name is told
            self._close(None)
            self.reason = f'cannot write: {error}'
            self._writer.abort()
        if self.reason is not None:
            self._ended()

    def _write_all(self) -> None:
        flush_at = time.monotonic() + FLUSH_PERIOD
        while True:
            with self._changed:
                wait = flush_at - time.monotonic()
                if not self._items and self._open and wait > 0:
                    self._changed.wait(wait)
                item = self._items.popleft() if self._items else None
                if item is None and not self._open:
                    return
            if item is not None:
                with self._writing:
                    self._writer.write(*item)
                with self._changed:
                    self.stats.size -= len(item[3])
                    self.stats.written += 1
            if time.monotonic() >= flush_at:
                with self._writing:
                    self._writer.flush()
                reason = self._guard()
                if reason is not None:
                    self._close(reason)
                flush_at = time.monotonic() + FLUSH_PERIOD
