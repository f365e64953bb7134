# SPDX-License-Identifier: Apache-2.0
"""Cameras for the generator tests, in every encoding that drivers send, and a generator."""

from __future__ import annotations

import array
import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image as PILImage
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rvl_encoder import encode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from fourdgen_ros.action import GenerateFuture
from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.qos import LATCHED

CAMERAS = ('cam_left', 'cam_right')
H, W = 48, 64
DEPTH = 0.8  # m, everywhere but in the hole at the first pixel
K = np.array([[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]])
Z0, Z_MAX = 100.0, 10.0  # depth_quantization and depth_max of compressedDepth


def distorted(info: CameraInfo) -> None:
    """A calibration of images that are not rectified; P is that of rectified ones."""
    info.d = [0.1, -0.2, 0.0, 0.0, 0.0]
    info.p = (np.diag([0.9, 0.9, 1.0]) @ np.hstack([K, np.zeros((3, 1))])).ravel()


class Freeze:
    """A generator whose future is the present: 3 equal frames."""

    name = 'freeze'

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.error: Exception | None = None
        self.release = threading.Event()
        self.release.set()

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        self.observations.append(observation)
        self.release.wait(60.0)
        if self.error is not None:
            raise self.error
        rgb = np.stack([np.stack([v.rgb] * 3) for v in observation.views])
        V, T = rgb.shape[:2]
        return Future(
            rgb=rgb, points=np.ones(rgb.shape, np.float32), valid=np.ones((V, T, H, W), bool),
            gripper=np.zeros((V, T, H, W), np.float32), dt=0.4,
            K=np.stack([v.K for v in observation.views]), stamp=observation.stamp,
            cameras=tuple(v.camera for v in observation.views), generator=self.name,
            frame_id=observation.reference.frame_id, seed=seed,
            steps=steps if steps is not None else 1)


def picture() -> np.ndarray:
    """(H, W, 3) uint8 whose channels differ: red grows to the right, blue downwards."""
    rgb = np.full((H, W, 3), 90, np.uint8)
    rgb[..., 0] = np.linspace(0, 250, W)[None]
    rgb[..., 2] = np.linspace(0, 120, H)[:, None]
    return rgb


def millimetres() -> np.ndarray:
    """(H, W) uint16 with a hole at the first pixel."""
    depth = np.full((H, W), round(DEPTH * 1000), np.uint16)
    depth[0, 0] = 0
    return depth


def _message(form: str, data: bytes) -> CompressedImage:
    message = CompressedImage(format=form)
    message.data = array.array('B', data)
    return message


def _file(values: np.ndarray, codec: str) -> bytes:
    out = io.BytesIO()
    PILImage.fromarray(values).save(out, codec, **(
        {'quality': 100, 'subsampling': 0} if codec == 'jpeg' else {}))
    return out.getvalue()


def compressed_colour(codec: str, rgb: np.ndarray | None = None) -> CompressedImage:
    """As compressed_image_transport sends an rgb8 image; 'torn': half a JPEG."""
    data = _file(np.ascontiguousarray(picture() if rgb is None else rgb),
                 'jpeg' if codec == 'torn' else codec)
    return _message(f'rgb8; {codec} compressed bgr8',
                    data[:len(data) // 2] if codec == 'torn' else data)


def compressed_depth(kind: str) -> CompressedImage:
    """As image_transport sends depth.

    'png' (plugin compressed); 'png header', 'rvl' (16UC1 with compressedDepth); 'png inverse', 'rvl
    inverse' (32FC1 as inverse depth).
    """
    if kind == 'png':
        return _message('16UC1; png compressed ', _file(millimetres(), 'png'))
    a = b = 0.0
    raw, encoding = millimetres(), '16UC1'
    if kind.endswith('inverse'):
        a, encoding = Z0 * (Z0 + 1.0), '32FC1'
        b = 1.0 - a / Z_MAX
        raw = np.where(raw > 0, a / np.maximum(raw / 1000.0, 1e-3) + b, 0).astype(np.uint16)
    codec = kind.split()[0]
    body = _file(raw, 'png') if codec == 'png' else (
        np.array([W, H], '<u4').tobytes() + encode(raw))
    head = np.array([0], '<i4').tobytes() + np.array([a, b], '<f4').tobytes()
    return _message(f'{encoding}; compressedDepth {codec}', head + body)


def _frame(camera: str) -> str:
    return f'{camera}_color_optical_frame'


class Cameras(Node):
    """Publishes colour, depth and calibration of cameras at 20 Hz with the present stamp.

    `color`: raw, or a codec of `compressed_colour`; `depth`: 'raw 16UC1', 'raw 32FC1', or a kind
    of `compressed_depth`. `label_depth_as` falsifies the encoding of raw depth. With `latched_info`
    calibration is published once, latched; it is not published while `info_sent` is false.
    `calibrate(info)` changes it.
    """

    def __init__(self, names: tuple[str, ...] = CAMERAS, *, color: str = 'raw',
                 depth: str = 'raw 16UC1', label_depth_as: str = '', latched_info: bool = False,
                 reliability: ReliabilityPolicy = ReliabilityPolicy.BEST_EFFORT) -> None:
        super().__init__('cameras')
        qos = QoSProfile(depth=2, reliability=reliability)
        self._color, self._depth, self._label = color, depth, label_depth_as
        color_topic = ('color/image_raw', Image) if color == 'raw' else (
            'color/image_raw/compressed', CompressedImage)
        aligned = 'aligned_depth_to_color/image_raw'
        if depth.startswith('raw'):
            depth_topic = (aligned, Image)
        else:
            plugin = 'compressed' if depth == 'png' else 'compressedDepth'
            depth_topic = (f'{aligned}/{plugin}', CompressedImage)
        self._pubs = {
            name: [self.create_publisher(kind, f'{name}/{topic}', qos) for topic, kind in
                   (color_topic, depth_topic)]
            for name in names}
        self._infos = {name: self.create_publisher(
            CameraInfo, f'{name}/color/camera_info', LATCHED if latched_info else qos)
            for name in names}
        self.info_sent = True
        self.calibrate: Callable[[CameraInfo], None] = lambda info: None
        if latched_info:
            self._publish_infos(self.get_clock().now().nanoseconds)
            self.info_sent = False
        self._frames = self.create_timer(0.05, self._publish)

    def stop(self) -> None:
        self._frames.cancel()

    def _publish(self) -> None:
        stamp = self.get_clock().now().nanoseconds
        if self.info_sent:
            self._publish_infos(stamp)
        for name, (color, depth) in self._pubs.items():
            frame = _frame(name)
            for publisher, message in ((color, self._color_message(stamp, frame)),
                                       (depth, self._depth_message(stamp, frame))):
                message.header = conversions.header(stamp, frame)
                publisher.publish(message)

    def _publish_infos(self, stamp: int) -> None:
        for name, info in self._infos.items():
            message = conversions.K_to_camera_info(K, H, W, stamp, _frame(name))
            self.calibrate(message)
            info.publish(message)

    def _color_message(self, stamp: int, frame: str) -> Image | CompressedImage:
        return (conversions.rgb_to_image(picture(), stamp, frame) if self._color == 'raw'
                else compressed_colour(self._color))

    def _depth_message(self, stamp: int, frame: str) -> Image | CompressedImage:
        if not self._depth.startswith('raw'):
            return compressed_depth(self._depth)
        metres = millimetres().astype(np.float32) / 1000.0
        image = conversions.depth_to_image(metres, stamp, frame, self._depth.split()[1])
        if self._label:
            image.encoding = self._label
        return image


def generate(graph: Any, **goal: Any) -> Any:
    return graph.act(GenerateFuture, 'generate_future', GenerateFuture.Goal(task='t', **goal))
