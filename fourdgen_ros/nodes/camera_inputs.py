# SPDX-License-Identifier: Apache-2.0
"""The cameras that a node's parameters name: topics, subscriptions, synchronised sets."""

from __future__ import annotations

import functools
import threading
import time

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from fourdgen_ros.core import images
from fourdgen_ros.core.synchroniser import SyncedSet, Synchroniser
from fourdgen_ros.core.types import Observation
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.camera_names import camera_topic
from fourdgen_ros.nodes.camera_subscription import CameraSubscription, declare_reliability
from fourdgen_ros.nodes.qos import SENSOR
from fourdgen_ros.nodes.serialised import deserialised, serialised_stamp

_TRANSPORTS = {'color': ('raw', 'compressed'), 'depth': ('raw', 'compressed', 'compressedDepth')}
_TOPICS = {'color': '{camera}/color/image_raw',
           'depth': '{camera}/aligned_depth_to_color/image_raw',
           'info': '{camera}/color/camera_info'}
_PATIENCE = 10.0  # s of silence before it is worth a word


def declare_cameras(node: StageNode) -> None:
    """Declare the parameters of `CameraTopics`."""
    node.parameter('cameras', ['cam_left', 'cam_right'],
                   'names of the cameras, the reference first')
    for kind, topic in _TOPICS.items():
        node.parameter(f'{kind}_topic', topic,
                       f'topic of a camera\'s {kind}; {{camera}} is the name')
    for kind, names in _TRANSPORTS.items():
        node.parameter(
            f'{kind}_transport', 'raw', f'how {kind} images are sent, as image_transport calls '
            'it; other than raw, images come on <topic>/<transport>', choices=names)
    node.parameter(
        'rectified', False, 'whether colour and depth are rectified (image_rect): their '
        'calibration is then P of camera_info, else K, and distortion is left out of account')
    node.parameter(
        'slop', 0.05, 'largest stamp difference within one observation [s]', low=0.0, high=1.0)
    declare_reliability(node)


class CameraTopics:
    """The topics of all cameras as the parameters of a node have them now."""

    def __init__(self, node: StageNode) -> None:
        """`node` has the parameters of `declare_cameras`."""
        self._node = node
        self.names: list[str] = node.value('cameras')
        self._rectified: bool = node.value('rectified')
        transports = {kind: node.value(f'{kind}_transport') for kind in _TRANSPORTS}
        self._types = {kind: Image if transport == 'raw' else CompressedImage
                       for kind, transport in transports.items()} | {'info': CameraInfo}
        self.topics = {(camera, kind): self._topic(camera, kind, transports.get(kind, 'raw'))
                       for camera in self.names for kind in _TOPICS}

    def synchroniser(self) -> Synchroniser:
        """A new one, for the messages of `subscribe`."""
        return Synchroniser(self.names, slop_s=self._node.value('slop'), topics=self.topics)

    def subscribe(self, synchroniser: Synchroniser, depth: int) -> list[CameraSubscription]:
        """Feed `synchroniser` from all topics until they are closed; `depth` messages of each may
        wait."""
        return [CameraSubscription(
            self._node, self._types[kind], topic,
            functools.partial(self._on_frame, synchroniser, camera, kind), depth)
            for (camera, kind), topic in self.topics.items()]

    def observation(self, synced: SyncedSet) -> Observation:
        """Decode a set. Raises InputError for images that cannot be read."""
        return conversions.observation_from_set(
            deserialised(synced, self._types), self.names, self.topics,
            rectified=self._rectified)

    def calibration_doubt(self, camera: str, synced: SyncedSet | None) -> str:
        """What speaks against the calibration of a camera in a set, '' where nothing does."""
        if synced is None:
            return ''
        info = deserialize_message(synced.frames[camera].info, CameraInfo)
        return images.calibration_doubt(info, self.topics[camera, 'info'],
                                        rectified=self._rectified)

    def _topic(self, camera: str, kind: str, transport: str) -> str:
        pattern = self._node.value(f'{kind}_topic')
        return camera_topic(
            self._node, pattern if transport == 'raw' else f'{pattern}/{transport}', camera)

    def _on_frame(self, synchroniser: Synchroniser, camera: str, kind: str, data: bytes) -> None:
        stamp = serialised_stamp(data, self.topics[camera, kind])
        synchroniser.add(camera, kind, stamp, data)


class CameraInputs:
    """Newest observation of the cameras, listened to only while somebody wants them.

    Images are decoded only when they are asked for; while closed, none is even received.
    """

    def __init__(self, node: StageNode) -> None:
        """Declare the parameters on `node`."""
        declare_cameras(node)
        self._node = node
        self._cameras = CameraTopics(node)
        self.names = self._cameras.names
        self._synchroniser = self._cameras.synchroniser()
        self._subscriptions: list[CameraSubscription] = []
        self._changing = threading.Lock()  # a timer of a reentrant group may come upon itself
        self._since = 0.0  # when the last was taken, or the subscriptions opened
        self._newest = 0  # stamp of the observation that was taken last

    def listen(self, wanted: bool) -> None:
        """Open or close the subscriptions; does nothing when they are so already."""
        with self._changing:
            if wanted == bool(self._subscriptions):
                return
            if not wanted:
                while self._subscriptions:
                    self._subscriptions.pop().close()
                self._synchroniser.clear()
                return
            self._since = time.monotonic()
            self._subscriptions = self._cameras.subscribe(self._synchroniser, SENSOR.depth)

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
        return self._cameras.observation(synced)
