# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 folder as the player needs it: topics, their quality of service, raw messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install

DEPTH, LATCHED_DEPTH = 10, 100  # of publishers; latched topics may come from many nodes


@dataclass(frozen=True)
class PlayedTopic:
    """A topic of a bag and the profile to publish it with."""

    name: str
    type: str
    qos: QoSProfile


class PlayedBag:
    """Any rosbag2 folder; use it as a context."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError when it cannot be opened, MissingDependencyError without `rosbags`."""
        try:
            from rosbags.rosbag2 import Reader, ReaderError
        except ImportError as error:
            raise MissingDependencyError(
                'rosbags', expected='the package that reads bags', got='not installed',
                hint=f'{how_to_install("data")} Or play with `ros2 bag play`.'
            ) from error
        self._stack = contextlib.ExitStack()
        self._folder = folder
        try:
            self._reader = self._stack.enter_context(Reader(folder))
        except (ReaderError, OSError) as error:
            raise InputError(f'bag {folder}', expected='a rosbag2 folder', got=str(error),
                             hint='A bag that was not finished: fourdgen recover') from error
        if self._reader.message_count == 0:
            raise InputError(f'bag {folder}', expected='messages', got='none')
        self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time
        self.topics = [PlayedTopic(c.topic, c.msgtype, _profile(c.ext.offered_qos_profiles))
                       for c in self._reader.connections]

    def __enter__(self) -> PlayedBag:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def messages(self, topics: set[str]) -> Iterator[tuple[str, int, bytes]]:
        """(topic, log time in ns, serialized message) in the order in which they were received.

        Raises InputError where the bag is damaged.
        """
        chosen = [c for c in self._reader.connections if c.topic in topics]
        try:
            for connection, log_ns, data in self._reader.messages(connections=chosen):
                yield connection.topic, log_ns, bytes(data)
        except Exception as error:  # what a damaged file makes of sqlite, zstd or lz4
            raise InputError(f'bag {self._folder}', expected='a whole rosbag2',
                             got=str(error) or repr(error),
                             hint=f'What can be read: fourdgen recover {self._folder}') from error


def _profile(offers: list[Any]) -> QoSProfile:
    """Latched where a publisher was, and reliable, whatever was recorded.

    A reliable offer matches every subscriber, and a bag is no sensor: what is late is not stale.
    """
    latched = any(offer.durability.name == 'TRANSIENT_LOCAL' for offer in offers)
    return QoSProfile(
        depth=LATCHED_DEPTH if latched else DEPTH,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)
