# SPDX-License-Identifier: Apache-2.0
"""The cameras of a cell as synchronised sets, listened to only while somebody wants them."""

from __future__ import annotations

import functools
import time

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from fourdgen_ros.core.synchroniser import Synchroniser
from fourdgen_ros.core.types import Observation
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.generator import TOPICS, TRANSPORTS
from fourdgen_ros.nodes.qos import SENSOR, qos_events

_PATIENCE = 10.0  # s of silence before it is worth a word


class CameraInputs:
    """Newest observation of the cameras that a node's parameters name, as those of the generator.

    Images are decoded only when they are asked for; while closed, none is even received.
    """

    def __init__(self, node: StageNode) -> None:
        """Declare the parameters on `node`."""
        self._node = node
        node.parameter('cameras', ['cam_left', 'cam_right'],
                       'names of the cameras, the reference first')
        for kind, topic in TOPICS.items():
            node.parameter(f'{kind}_topic', topic,
                           f'topic of a camera\'s {kind}; {{camera}} is the name')
        for kind, names in TRANSPORTS.items():
            node.parameter(f'{kind}_transport', 'raw', f'how {kind} images are sent, as '
                           'image_transport calls it', choices=names)
        node.parameter('slop', 0.05, 'largest stamp difference within one observation [s]',
                       low=0.0, high=1.0)
        reliability = node.parameter(
            'input_reliability', 'best_effort', 'QoS reliability of the camera subscriptions; '
            'best_effort matches every publisher', choices=('best_effort', 'reliable'))
        self._qos = QoSProfile(depth=SENSOR.depth,
                               reliability=ReliabilityPolicy[reliability.upper()])
        self.names: list[str] = node.value('cameras')
        self._topics = {(camera, kind): self._topic(camera, kind)
                        for camera in self.names for kind in TOPICS}
        self._subscriptions: list[Subscription] = []
        self._synchroniser = Synchroniser(self.names, slop_s=node.value('slop'),
                                          topics=self._topics)
        self._since = 0.0  # when the last was taken, or the subscriptions opened
        self._newest = 0  # stamp of the observation that was taken last

    def listen(self, wanted: bool) -> None:
        """Open or close the subscriptions; does nothing when they are so already."""
        if wanted == bool(self._subscriptions):
            return
        if not wanted:
            while self._subscriptions:
                self._node.destroy_subscription(self._subscriptions.pop())
            self._synchroniser.clear()
            return
        self._since = time.monotonic()
        for (camera, kind), topic in self._topics.items():
            self._subscriptions.append(self._node.create_subscription(
                self._message_type(kind), topic, functools.partial(self._on_frame, camera, kind),
                self._qos, callback_group=self._node.group,
                event_callbacks=qos_events(self._node, topic)))

    def take(self) -> Observation | None:
        """Return the newest observation, once; None when there is no newer one.

        Raises InputError for images that cannot be read.
        """
        synced = self._synchroniser.latest()
        if synced is None or synced.oldest == self._newest:
            if time.monotonic() - self._since > _PATIENCE and self._synchroniser.missing():
                self._node.get_logger().warning(str(self._synchroniser.error()),
                                                throttle_duration_sec=30.0)
            return None
        self._newest, self._since = synced.oldest, time.monotonic()
        return conversions.observation_from_set(synced, self.names, self._topics)

    def _transport(self, kind: str) -> str:
        return self._node.value(f'{kind}_transport') if kind in TRANSPORTS else 'raw'

    def _topic(self, camera: str, kind: str) -> str:
        transport = self._transport(kind)
        base = self._node.value(f'{kind}_topic').format(camera=camera)
        return self._node.resolve_topic_name(
            base if transport == 'raw' else f'{base}/{transport}')

    def _message_type(self, kind: str) -> type:
        if kind == 'info':
            return CameraInfo
        return Image if self._transport(kind) == 'raw' else CompressedImage

    def _on_frame(self, camera: str, kind: str,
                  message: Image | CompressedImage | CameraInfo) -> None:
        self._synchroniser.add(
            camera, kind, conversions.stamp_to_ns(message.header.stamp), message)
