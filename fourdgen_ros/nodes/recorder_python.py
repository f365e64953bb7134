# SPDX-License-Identifier: Apache-2.0
"""Records in this process: serialized messages from DDS into an MCAP file, never deserialized."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from rclpy.serialization import serialize_message
from std_msgs.msg import String

from fourdgen_ros.core.errors import MissingDependencyError
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.inputs import InputNode
from fourdgen_ros.nodes.recorder_definitions import message_class
from fourdgen_ros.nodes.recorder_queue import WriteQueue
from fourdgen_ros.nodes.recorder_recordings import Counts, RecordingError
from fourdgen_ros.nodes.recorder_topics import (
    IMAGES,
    Source,
    TopicNames,
    find_source,
    wait_for,
)

DISCOVERY_PERIOD = 0.5  # s between two looks for publishers of optional topics
OTHERS = 10  # times as many other messages as images may wait: joint states come at up to 1 kHz
SILENCE = 1.0  # s without a message of a required topic that somebody should know of

OpenWriter = Callable[[Path, Mapping[str, str]], BagWriter]


class PythonRecording:
    """See `Recording`. Services never wait for images, nor images for services: see `InputNode`."""

    def __init__(self, owner: StageNode, names: TopicNames, folder: Path, label: str, *,
                 input_depth: int, queue_bytes: int) -> None:
        """`label` is the topic of notes; it belongs to the bag and is not subscribed to."""
        self.folder = folder
        self._owner, self._names, self._label = owner, names, label
        self._depth, self._queue_bytes = input_depth, queue_bytes
        self._lock = threading.Lock()
        self._channels: dict[str, int] = {}
        self._unknown: set[str] = set()  # topics whose types are not installed
        self._latched: list[tuple[str, int, bytes]] = []
        self._last: dict[str, float] = {}
        self._lost: Counter[str] = Counter()
        self._numbered: set[str] = set()  # topics with one publisher, whose numbers tell losses
        self._sources: dict[str, Source] = {}
        self._writer: BagWriter | None = None
        self._queue: WriteQueue | None = None
        self._node = InputNode(owner)

    # --- begin and end ------------------------------------------------------------------------

    def begin(self, custom_data: Mapping[str, str], open_writer: OpenWriter, note: str,
              timeout: float, guard: Callable[[], str | None],
              ended: Callable[[], None]) -> None:
        """Subscribe, wait for a message of every required topic, and only then open the bag.

        Raises RecordingError with what is missing after `timeout` s, and whatever `open_writer`
        does; then nothing is left of the attempt. `guard` and `ended`: see `WriteQueue`.
        """
        try:
            self._subscribe(timeout)
            self._writer = open_writer(self.folder, custom_data)
            self._open(WriteQueue(self._writer, self._queue_bytes, guard, ended))
        except BaseException:
            self._node.destroy_node()
            if self._writer is not None:
                self._writer.discard()
            raise
        self.note(note)

    def _subscribe(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        absent = wait_for(self._discover, timeout)
        if absent:
            raise RecordingError(f'cannot record: no publisher of {self._named(absent)}',
                                 hint='Compare `ros2 topic list` with config/recorder.yaml.')
        self._node.create_timer(DISCOVERY_PERIOD, self._discover, callback_group=self._node.group)
        silent = wait_for(lambda: [t for t in self._names.required if t not in self._last],
                          max(0.0, end - time.monotonic()))
        if silent:
            raise RecordingError(
                f'cannot record: nothing came within {timeout:g} s from {self._named(silent)}',
                hint='There is a publisher: look at it with `ros2 topic hz`.')

    def _named(self, topics: list[str]) -> str:
        return ', '.join(f'{topic} ({self._names.required[topic]})' for topic in topics)

    def _discover(self) -> list[str]:
        """Subscribe to topics that have publishers by now; returns required ones without."""
        for topic in self._names.all:
            if topic not in self._sources and topic not in self._unknown:
                source = find_source(self._node, topic)
                if source is not None:
                    self._add(source)
        return [topic for topic in self._names.required if topic not in self._sources]

    def _add(self, source: Source) -> None:
        try:
            kind, entry = message_class(source.type), source.bag_topic()
        except MissingDependencyError as error:
            if source.name in self._names.required:
                raise
            self._unknown.add(source.name)
            self._owner.get_logger().error(f'{source.name} is not recorded: {error}')
            return
        with self._lock:
            self._sources[source.name] = source
            if self._queue is not None:
                self._channels[source.name] = self._queue.add_topic(entry)
        events = qos.qos_events(self._owner, source.name)
        if source.single:
            self._numbered.add(source.name)
        events.matched = lambda info: (
            self._numbered.discard(source.name) if info.current_count > 1 else None)
        events.message_lost = lambda info: (
            self._lost.update({source.name: info.total_count_change})
            if source.name not in self._numbered else None)
        self._node.create_subscription(
            kind, source.name, self._receiver(source),
            source.request(self._depth if source.type in IMAGES else OTHERS * self._depth),
            event_callbacks=events, raw=True)

    def _open(self, queue: WriteQueue) -> None:
        label = Source(self._label, 'std_msgs/msg/String', '', (qos.LATCHED,))
        with self._lock:
            for source in (*self._sources.values(), label):
                self._channels[source.name] = queue.add_topic(source.bag_topic())
            now = self._now()
            for topic, published, data in self._latched:
                # Received before, but part of the episode from its first moment.
                queue.put(self._channels[topic], now, published, data)
            self._latched.clear()
            self._queue = queue
        queue.start()

    def finish(self, custom_data: Mapping[str, str]) -> None:
        """See `Recording`."""
        self._node.destroy_node()
        self._writer.custom_data.update(custom_data)
        self._queue.end()
        if self.complete:  # it may have ended before, with other values
            bag_metadata.set_custom_data(self.folder, custom_data)

    # --- state --------------------------------------------------------------------------------

    @property
    def reason(self) -> str | None:
        """See `Recording`."""
        return self._queue.reason

    @property
    def complete(self) -> bool:
        """See `Recording`."""
        return self._queue.complete

    def note(self, text: str) -> None:
        """See `Recording`."""
        now = self._now()
        self._queue.put(self._channels[self._label], now, now, serialize_message(String(data=text)))

    def counts(self) -> Counts:
        """See `Recording`."""
        with self._lock:
            names = {channel: topic for topic, channel in self._channels.items()}
        extent, stats, now = self._writer.extent, self._queue.stats, time.monotonic()
        return Counts(
            recorded=extent.counts,
            dropped={names[channel]: n for channel, n in stats.dropped.items()},
            lost=dict(self._lost), duration=(extent.end_ns - extent.start_ns) * 1e-9,
            queue_bytes=stats.size, queue_high_water=stats.high_water,
            silent={topic: now - last for topic, last in self._last.items()
                    if now - last > SILENCE and topic in self._names.required
                    and not self._sources[topic].latched})

    # --- messages -----------------------------------------------------------------------------

    def _receiver(self, source: Source) -> Callable[[bytes, dict], None]:
        topic, latched = source.name, source.latched
        simulated = self._owner.value('use_sim_time')
        previous: int | None = None  # number of the last message in the bag

        def receive(data: bytes, info: dict) -> None:
            nonlocal previous
            self._last[topic] = time.monotonic()
            received = info['received_timestamp']
            log_ns = received if received > 0 and not simulated else self._now()
            published = info['source_timestamp']
            with self._lock:
                channel = self._channels.get(topic)
                if channel is not None:
                    self._queue.put(channel, log_ns, published if published > 0 else log_ns, data)
                    number = info['publication_sequence_number']
                    if previous is not None and topic in self._numbered:
                        if number > previous:
                            self._lost[topic] += number - previous - 1
                        else:  # of another publisher
                            self._numbered.discard(topic)
                    previous = number
                elif latched:
                    self._latched.append((topic, published if published > 0 else log_ns, data))

        return receive

    def _now(self) -> int:
        return self._owner.get_clock().now().nanoseconds
