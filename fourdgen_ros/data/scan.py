# SPDX-License-Identifier: Apache-2.0
"""First pass through a bag: stamps, poses and calibration, without decoding its pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import images, se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.transforms import TransformTree
from fourdgen_ros.data import compressed
from fourdgen_ros.data.bags import Bag
from fourdgen_ros.data.mapping import TopicMap
from fourdgen_ros.data.static_links import Link, StaticLinks

NS = 10**9
HISTORY = 1e6  # s of TF to keep: all of a bag
_FARTHEST = 6.55  # m that training holds: uint16 of 0.1 mm
_SAMPLES_EVERY = 2.0  # s between depth images that are looked at
IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
TF, JOINTS = 'tf2_msgs/msg/TFMessage', 'sensor_msgs/msg/JointState'


@dataclass
class ImageTopic:
    """What the messages of one image topic say of themselves, in the order of the bag.

    received and stamps in ns; frames are (ordinal, frame_id without the leading slash of old TF,
    description of the encoding and size) wherever one of the two changes; `size` (height, width) of
    the first image; coverage is the share of valid pixels (0 to 6.55 m, as far as training sees) of
    the depth images that were looked at.
    """

    topic: str
    depth: bool
    received: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    frames: list[tuple[int, str, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    unit: str = ''
    coverage: list[float] = field(default_factory=list)

    def add(self, message: Any, received: int) -> None:
        """Note one message; raises InputError for the first picture that cannot be decoded."""
        stamp = stamp_ns(message.header)
        kind = (f'{message.encoding} {message.width}x{message.height}'
                if hasattr(message, 'encoding') else message.format)
        frame = message.header.frame_id.lstrip('/')
        if not self.frames or self.frames[-1][1:] != (frame, kind):
            self.frames.append((len(self.stamps), frame, kind))
        look = not self.stamps or (
            self.depth and received - self.received[0] > _SAMPLES_EVERY * NS * len(self.coverage))
        if look:
            values = decode_image(message, self.depth, self.topic)
            if self.size is None:
                self.size = values.shape[0], values.shape[1]
                self.unit = 'm' if values.dtype == np.float32 else 'mm'
            if self.depth:
                z = images.metres(values)
                self.coverage.append(float(((z > 0) & (z < _FARTHEST)).mean()))
        self.received.append(received)
        self.stamps.append(stamp)


@dataclass
class Scan:
    """All of a bag that its check and its records need; see `scan`."""

    name: str
    notes: dict[str, str]
    types: dict[str, str]
    counts: dict[str, int]  # messages by topic, as the metadata says
    images: dict[str, ImageTopic]
    infos: dict[str, list[Any]]
    tree: TransformTree
    joint_received: dict[str, list[int]]
    joint_stamps: dict[str, list[int]]
    joint_positions: dict[str, list[dict[str, float]]]
    tf_received: dict[str, list[int]] = field(default_factory=dict)  # of moving TF, by child frame
    tf_stamps: dict[str, list[int]] = field(default_factory=dict)
    static: StaticLinks = field(default_factory=StaticLinks)
    tf_ignored: dict[str, int] = field(default_factory=dict)  # 'parent -> child': how many
    span: tuple[int, int] | None = None  # ns of reception of the first and last message


def stamp_ns(header: Any) -> int:
    """Stamp of a std_msgs/Header in ns."""
    return int(header.stamp.sec) * NS + int(header.stamp.nanosec)


def decode_image(message: Any, depth: bool, topic: str) -> NDArray:
    """Colour (H, W, 3) uint8, or depth (H, W) as sent: uint16 mm or float32 m."""
    if hasattr(message, 'format'):
        return (compressed.compressed_depth_pixels(message, topic) if depth
                else compressed.compressed_to_rgb(message, topic))
    return (images.depth_pixels if depth else images.color_pixels)(message, topic)


def image_topics(topics: TopicMap) -> dict[str, bool]:
    """Colour and depth topics of all cameras; whether each is depth."""
    return {t: depth for c in topics.cameras for t, depth in ((c.color, False), (c.depth, True))}


def scan(bag: Bag, topics: TopicMap) -> Scan:
    """Read every message of the mapped topics once.

    Raises InputError, with file and topic, where the bag is damaged, a topic has another type than
    it should or a first picture cannot be decoded. Topics that are missing are left empty.
    """
    kinds = image_topics(topics)
    joints = {topics.joint_topic, topics.gripper.topic}
    infos = {c.info for c in topics.cameras}
    expected = {**dict.fromkeys(kinds, IMAGES),
                **dict.fromkeys(joints, (JOINTS,)),
                **dict.fromkeys(infos, ('sensor_msgs/msg/CameraInfo',)),
                **dict.fromkeys((*topics.tf, *topics.tf_static), (TF,))}
    for topic, types in expected.items():
        if bag.types.get(topic, types[0]) not in types:
            raise InputError(f'bag {bag.path}, topic {topic}', expected=' or '.join(types),
                             got=bag.types[topic], hint=f'Correct it in {topics.path}.')
    out = Scan(
        str(bag.path), bag.notes, bag.types, bag.counts,
        {t: ImageTopic(t, d) for t, d in kinds.items()}, {t: [] for t in infos},
        TransformTree(HISTORY), *({t: [] for t in joints} for _ in range(3)))
    for topic, received, raw in bag.messages(expected):
        message = bag.decode(topic, raw)
        out.span = (received if out.span is None else out.span[0], received)
        try:
            if topic in kinds:
                out.images[topic].add(message, received)
            elif topic in infos:
                _add_info(out.infos[topic], message)
            elif topic in joints:
                out.joint_received[topic].append(received)
                out.joint_stamps[topic].append(stamp_ns(message.header))
                out.joint_positions[topic].append(
                    dict(zip(message.name, (float(p) for p in message.position), strict=False)))
            else:
                _add_transforms(out, message, received, static=topic in topics.tf_static)
        except (InputError, ValueError) as error:
            raise InputError(f'bag {bag.path}, topic {topic}, message received at {received} ns',
                             got=str(error)) from error
    for child, link in out.static.repeated():
        out.tree.set(link.parent, child, link.pose, 0, static=True)
    return out


def _add_info(infos: list[Any], message: Any) -> None:
    """Keep an info that differs from the one before."""
    if not infos or _calibration(infos[-1]) != _calibration(message):
        infos.append(message)


def _calibration(info: Any) -> tuple:
    """What of a camera info tells where a pixel looks, but for the distortion, which is not
    used."""
    roi = info.roi
    return (info.height, info.width, list(info.k), list(info.p), info.binning_x, info.binning_y,
            roi.x_offset, roi.y_offset, roi.height, roi.width)


def _add_transforms(out: Scan, message: Any, received: int, *, static: bool) -> None:
    """Keep the transforms; those that are none are ignored, as the nodes do, and counted."""
    for t in message.transforms:
        parent, child = t.header.frame_id.lstrip('/'), t.child_frame_id.lstrip('/')
        p, q = t.transform.translation, t.transform.rotation
        try:
            T = se3.make(se3.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w])),
                         np.array([p.x, p.y, p.z]))
            out.tree.set(parent, child, T, stamp_ns(t.header), static=static)
        except (InputError, ValueError):
            link = f'{parent} -> {child}'
            out.tf_ignored[link] = out.tf_ignored.get(link, 0) + 1
            continue
        (out.static.add if static else out.static.compare)(child, Link(parent, T))
        if not static:
            out.tf_received.setdefault(child, []).append(received)
            out.tf_stamps.setdefault(child, []).append(stamp_ns(t.header))
