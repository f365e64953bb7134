# SPDX-License-Identifier: Apache-2.0
"""What is recorded: the topics by name, and who publishes them now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from fourdgen_ros.data.bag_metadata import BagTopic
from fourdgen_ros.nodes.camera_names import camera_topic
from fourdgen_ros.nodes.recorder_definitions import definition

IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
POLL = 0.02  # s between two looks at the graph


@dataclass(frozen=True)
class TopicNames:
    """Absolute names: `required` with what each is for, and those recorded where they exist."""

    required: Mapping[str, str]
    optional: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Required and optional ones."""
        return (*self.required, *self.optional)


@dataclass(frozen=True)
class Source:
    """A topic and what its publishers offer."""

    name: str
    type: str
    type_hash: str
    offers: tuple[QoSProfile, ...] = field(compare=False)

    @property
    def latched(self) -> bool:
        """Whether every publisher keeps its last messages for those who come late."""
        return all(o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in self.offers)

    @property
    def single(self) -> bool:
        """Whether one publisher numbers its messages; DDS tells the number, but not whose it is."""
        return len(self.offers) == 1

    def request(self, depth: int) -> QoSProfile:
        """What to subscribe with, so that it matches all publishers and loses the least.

        As rosbag2 does it: rosbag2_storage/src/rosbag2_storage/qos.cpp (branch jazzy).
        """
        reliable = all(o.reliability == ReliabilityPolicy.RELIABLE for o in self.offers)
        return QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched
            else DurabilityPolicy.VOLATILE)

    def bag_topic(self) -> BagTopic:
        """As it is noted in a bag."""
        return BagTopic(self.name, self.type, definition(self.type), self.type_hash,
                        tuple(qos_entry(offer) for offer in self.offers))


def topic_names(node: Node, cameras: Sequence[str], patterns: Mapping[str, str],
                topics: Iterable[str], optional: Iterable[str]) -> TopicNames:
    """Absolute names after remapping; `patterns` has a topic with {camera} by kind of image.

    Raises InputError for a camera that has no topic.
    """
    required = {}
    for camera in cameras:
        for kind, pattern in patterns.items():
            name = camera_topic(node, pattern, camera)
            required[name] = f'{kind} of camera {camera}'
    for topic in topics:
        required[node.resolve_topic_name(topic)] = 'one of topics'
    names = (node.resolve_topic_name(topic) for topic in optional)
    return TopicNames(required, tuple(name for name in names if name not in required))


def find_source(node: Node, topic: str) -> Source | None:
    """Who publishes an absolute topic; None: nobody does."""
    infos = node.get_publishers_info_by_topic(topic)
    if not infos:
        return None
    type_hash = str(infos[0].topic_type_hash)
    return Source(topic, infos[0].topic_type, '' if type_hash == 'INVALID' else type_hash,
                  tuple(info.qos_profile for info in infos))


def wait_for(missing: Callable[[], list[str]], timeout: float) -> list[str]:
    """What `missing` still names after at most `timeout` s."""
    end = time.monotonic() + timeout
    while True:
        names = missing()
        if not names or time.monotonic() >= end:
            return names
        time.sleep(POLL)


def qos_entry(profile: QoSProfile) -> dict[str, Any]:
    """A profile with the keys and values of rosbag2's metadata."""
    return {
        'history': profile.history.name.lower(), 'depth': profile.depth,
        'reliability': profile.reliability.name.lower(),
        'durability': profile.durability.name.lower(),
        'deadline': _time(profile.deadline), 'lifespan': _time(profile.lifespan),
        'liveliness': profile.liveliness.name.lower(),
        'liveliness_lease_duration': _time(profile.liveliness_lease_duration),
        'avoid_ros_namespace_conventions': profile.avoid_ros_namespace_conventions}


def _time(duration: Duration) -> dict[str, int]:
    sec, nsec = divmod(duration.nanoseconds, 10**9)
    return {'sec': sec, 'nsec': nsec}
