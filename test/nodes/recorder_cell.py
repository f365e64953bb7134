# SPDX-License-Identifier: Apache-2.0
"""Cameras, joints and transforms for the recorder's tests; they know every byte that they sent."""

from __future__ import annotations

import array
import threading

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_msgs.msg import TFMessage

from fourdgen_ros.nodes import qos

CAMERAS = ('cam_left', 'cam_right')
RATE = 25.0
H, W = 48, 64
KINDS = {'color/image_raw': Image, 'aligned_depth_to_color/image_raw': Image,
         'color/camera_info': CameraInfo}
IMAGE_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)


class Sources(Node):
    """Publishes all topics of a cell at 25 Hz with images that differ; /tf_static once, at once.

    `sent` has the serialized messages by absolute topic, in order. `silent` topics have a publisher
    that says nothing.
    """

    def __init__(self, cameras: tuple[str, ...] = CAMERAS, *, silent: tuple[str, ...] = (),
                 height: int = H) -> None:
        super().__init__('sources')
        self.sent: dict[str, list[bytes]] = {}
        self._height, self._silent = height, silent
        self._rng = np.random.default_rng(0)
        self._lock = threading.Lock()
        self._pubs = {f'/{camera}/{kind}': self.create_publisher(
            message, f'{camera}/{kind}', IMAGE_QOS) for camera in cameras
            for kind, message in KINDS.items()}
        self._pubs['/joint_states'] = self.create_publisher(JointState, '/joint_states', 50)
        self._pubs['/tf'] = self.create_publisher(TFMessage, '/tf', qos.TF)
        self._pubs['/tf_static'] = self.create_publisher(TFMessage, '/tf_static', qos.TF_STATIC)
        for camera in cameras:
            self._send('/tf_static', TFMessage(transforms=[self._transform(camera)]))
        self._timer = self.create_timer(1.0 / RATE, self._publish)

    def stop(self) -> None:
        """Nothing is sent any more when this returns."""
        self._timer.cancel()
        with self._lock:
            pass

    def _send(self, topic: str, message: object) -> None:
        if topic not in self._silent:
            # Serialized once: padding is not initialised, so a second time may give other bytes.
            data = serialize_message(message)
            self.sent.setdefault(topic, []).append(data)
            self._pubs[topic].publish(data)

    def _publish(self) -> None:
        with self._lock:
            for topic in self._pubs:
                if topic.endswith('image_raw'):
                    self._send(topic, self._image(topic))
                elif topic.endswith('camera_info'):
                    info = CameraInfo(height=self._height, width=W)
                    info.header.stamp = self.get_clock().now().to_msg()
                    self._send(topic, info)
                elif topic == '/joint_states':
                    state = JointState(name=['a', 'finger'], position=[0.1, 0.02])
                    state.header.stamp = self.get_clock().now().to_msg()
                    self._send(topic, state)
                elif topic == '/tf':
                    self._send(topic, TFMessage(transforms=[self._transform('hand')]))

    def _image(self, topic: str) -> Image:
        depth = 'depth' in topic
        message = Image(height=self._height, width=W, step=W * (2 if depth else 3),
                        encoding='16UC1' if depth else 'rgb8')
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = f'{topic.split("/")[1]}_color_optical_frame'
        message.data = array.array('B', self._rng.bytes(message.step * self._height))
        return message

    def _transform(self, child: str) -> TransformStamped:
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = 'base'
        transform.header.stamp = self.get_clock().now().to_msg()
        return transform
