# SPDX-License-Identifier: Apache-2.0
"""Small bags as two RealSense cameras and a Panda make them, with everything that can go wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image as PILImage
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fourdgen_ros.core import se3

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
NS = 10**9
START = 1_700_000_000 * NS + 123_456_789
CAMERAS = ('cam_left', 'cam_right')
JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
FINGERS = ('panda_finger_joint1', 'panda_finger_joint2')
BASE, TCP = 'panda_link0', 'panda_hand_tcp'


@dataclass(frozen=True)
class Recording:
    """What a bag holds. `edit` may change, drop (None) or multiply messages: (topic, index, stamp,
    message) -> list of (topic, received, message)."""

    seconds: float = 2.0
    rate: float = 10.0
    rates: dict[str, float] = field(default_factory=dict)
    size: tuple[int, int] = (48, 64)
    depth_size: tuple[int, int] | None = None
    depth_encoding: str = '16UC1'
    big_endian: bool = False
    padding: int = 0
    compressed: bool = False
    static_tf: bool = True
    arm_tf: bool = True
    start: int = START
    storage: StoragePlugin = StoragePlugin.MCAP
    compression: CompressionMode | None = None
    notes: dict[str, str] = field(default_factory=dict)
    edit: Callable[[str, int, int, Any], list] | None = None

    def but(self, **changes: Any) -> Recording:
        return replace(self, **changes)


def rgb(camera: int, index: int, size: tuple[int, int]) -> np.ndarray:
    """A smooth picture with a square that moves."""
    y, x = np.mgrid[:size[0], :size[1]]
    out = np.stack([2 * x + 40, 3 * y + 30, np.full_like(x, 90 + 60 * camera)], -1)
    at = 4 + 2 * index % (size[1] - 16)
    out[10:20, at:at + 10] = (230, 60, 20)
    return np.clip(out, 0, 255).astype(np.uint8)


def depth_mm(camera: int, index: int, size: tuple[int, int]) -> np.ndarray:
    """Every pixel of every image is different; the upper left corner is a hole."""
    out = (700 + 50 * camera + index + 3 * np.arange(size[0] * size[1]) % 997).reshape(size)
    out[:5, :5] = 0
    return out.astype(np.uint16)


def tcp_at(seconds: float) -> np.ndarray:
    down = np.diag([1.0, -1.0, -1.0])
    return se3.make(se3.exp_so3(np.array([0.0, 0.0, 0.2 * seconds])) @ down,
                    np.array([0.5, 0.05 * seconds, 0.3 - 0.05 * seconds]))


def opening_at(seconds: float) -> float:
    return 0.08 - 0.02 * seconds


def camera_pose(camera: int) -> np.ndarray:
    """Looks down on the table."""
    return se3.make(np.diag([1.0, -1.0, -1.0]), np.array([0.5, -0.1 + 0.2 * camera, 1.0]))


def header(stamp: int, frame: str) -> Any:
    return T['std_msgs/msg/Header'](
        T['builtin_interfaces/msg/Time'](*divmod(stamp, NS)), frame)


def image(stamp: int, frame: str, values: np.ndarray, encoding: str, what: Recording) -> Any:
    values = values.astype(values.dtype.newbyteorder('>')) if what.big_endian else values
    rows = values.reshape(values.shape[0], -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, what.padding)), constant_values=7)
    return T['sensor_msgs/msg/Image'](
        header(stamp, frame), values.shape[0], values.shape[1], encoding, int(what.big_endian),
        rows.shape[1], np.ascontiguousarray(rows).ravel())


def compressed(stamp: int, frame: str, values: np.ndarray) -> Any:
    data = io.BytesIO()
    PILImage.fromarray(values).save(data, 'PNG')
    body, form = data.getvalue(), 'rgb8; png compressed bgr8'
    if values.ndim == 2:
        body, form = b'\0' * 12 + body, '16UC1; compressedDepth png'
    return T['sensor_msgs/msg/CompressedImage'](
        header(stamp, frame), form, np.frombuffer(body, np.uint8))


def camera_info(stamp: int, frame: str, size: tuple[int, int]) -> Any:
    K = np.array([60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0])
    roi = T['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    return T['sensor_msgs/msg/CameraInfo'](
        header(stamp, frame), size[0], size[1], 'plumb_bob', np.zeros(5), K, np.eye(3).ravel(),
        np.zeros(12), 0, 0, roi)


def transform(stamp: int, parent: str, child: str, pose: np.ndarray) -> Any:
    q = se3.quaternion_from_matrix(pose[:3, :3])
    return T['geometry_msgs/msg/TransformStamped'](
        header(stamp, parent), child, T['geometry_msgs/msg/Transform'](
            T['geometry_msgs/msg/Vector3'](*pose[:3, 3]), T['geometry_msgs/msg/Quaternion'](*q)))


def messages(what: Recording) -> list[tuple[str, int, Any]]:
    """(topic, received, message) in the order of reception."""
    out: list[tuple[str, int, Any]] = []

    def add(topic: str, index: int, stamp: int, message: Any, delay: int = 3_000_000) -> None:
        entries = [(topic, stamp + delay, message)]
        out.extend(entries if what.edit is None else what.edit(topic, index, stamp, message))

    for c, name in enumerate(CAMERAS):
        frame = f'{name}_color_optical_frame'
        rate = what.rates.get(name, what.rate)
        suffix = '/compressed' if what.compressed else ''
        depth_suffix = '/compressedDepth' if what.compressed else ''
        for i in range(round(what.seconds * rate) + 1):
            # 1 ms apart, as cameras that are nearly synchronised
            stamp = what.start + round(i * NS / rate) + c * 1_000_000
            color, depth = rgb(c, i, what.size), depth_mm(c, i, what.depth_size or what.size)
            if what.depth_encoding == '32FC1':
                depth = np.where(depth > 0, depth / np.float32(1000), np.nan).astype(np.float32)
            depth_topic = f'/{name}/aligned_depth_to_color/image_raw{depth_suffix}'
            add(f'/{name}/color/image_raw{suffix}', i, stamp,
                compressed(stamp, frame, color) if what.compressed
                else image(stamp, frame, color, 'rgb8', what))
            add(depth_topic, i, stamp, compressed(stamp, frame, depth) if what.compressed
                else image(stamp, frame, depth, what.depth_encoding, what))
            add(f'/{name}/color/camera_info', i, stamp, camera_info(stamp, frame, what.size))
        if what.static_tf:
            add('/tf_static', c, what.start, T['tf2_msgs/msg/TFMessage'](
                [transform(what.start, BASE, frame, camera_pose(c))]), delay=0)
    for i in range(round((what.seconds + 0.5) * 50)):
        seconds = i / 50 - 0.2
        stamp = what.start + round(seconds * NS)
        position = np.array([0.1 * seconds] * 7 + [opening_at(seconds) / 2] * 2)
        add('/joint_states', i, stamp, T['sensor_msgs/msg/JointState'](
            header(stamp, ''), [*JOINTS, *FINGERS], position, np.zeros(9), np.zeros(9)))
        if what.arm_tf:
            add('/tf', i, stamp, T['tf2_msgs/msg/TFMessage'](
                [transform(stamp, BASE, TCP, tcp_at(seconds))]))
    return sorted(out, key=lambda entry: entry[1])


def write_bag(path: Path, what: Recording | None = None) -> Path:
    """Write the bag; returns its folder."""
    what = Recording() if what is None else what
    writer = Writer(path, version=9, storage_plugin=what.storage)
    if what.compression is not None:
        writer.set_compression(what.compression, CompressionFormat.ZSTD)
    for key, value in what.notes.items():
        writer.set_custom_data(key, value)
    with writer:
        connections = {}
        for topic, received, message in messages(what):
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=STORE)
            writer.write(connections[topic], received,
                         STORE.serialize_cdr(message, message.__msgtype__))
    return path


def topic_map(path: Path, **changes: Any) -> Path:
    """Write the map of these bags; returns its path. `compressed=True` for their topics."""
    raw = not changes.pop('compressed', False)
    cameras = {name: {
        'color': f'/{name}/color/image_raw' + ('' if raw else '/compressed'),
        'depth': f'/{name}/aligned_depth_to_color/image_raw' + ('' if raw else '/compressedDepth'),
        'info': f'/{name}/color/camera_info'} for name in CAMERAS}
    spec = {'cameras': cameras, 'base_frame': BASE, 'tcp': {'frame': TCP},
            'joints': {'topic': '/joint_states', 'names': list(JOINTS)},
            'gripper': {'topic': '/joint_states', 'joints': list(FINGERS),
                        'positions': [0.0, 0.04], 'opening': [0.0, 0.08]},
            'task': 'PlaceAppleFromBowlIntoBin', 'fps': 10, **changes}
    path.write_text(yaml.safe_dump(spec, allow_unicode=True), encoding='utf-8')
    return path
