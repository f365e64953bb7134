# SPDX-License-Identifier: Apache-2.0
"""TF without tf2_ros: look up and publish transforms on /tf and /tf_static."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import JumpHandle, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.transforms import TransformError, TransformTree
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.conversions import (
    header,
    matrix_to_transform,
    stamp_to_ns,
    transform_to_matrix,
)

Array = NDArray[np.float64]
Link = tuple[str, str, Array]


def on_jump_back(node: Node, forget: Callable[[], None]) -> JumpHandle:
    """Call `forget` when the clock of `node` goes back or becomes another, as tf2_ros does.

    A simulator was reset, or a bag begins. Keep the handle, and unregister it before it goes: the
    clock points to it and does not own it.
    """
    return node.get_clock().create_jump_callback(
        JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)),
        post_callback=lambda _: forget())


class Transforms:
    """Buffer of the transforms that come in on /tf and /tf_static (remap them at launch).

    When the clock goes back, only static ones stay.
    """

    def __init__(self, node: StageNode, *, cache_s: float = 10.0) -> None:
        """`cache_s` seconds of every moving frame are kept."""
        self._node = node
        self._tree = TransformTree(cache_s)
        self._changed = threading.Condition()
        for topic, profile, static in (('/tf', qos.TF, False), ('/tf_static', qos.TF_STATIC, True)):
            node.inputs.subscribe(
                TFMessage, topic, lambda msg, static=static: self._receive(msg, static), profile,
                event_callbacks=qos.qos_events(node, topic))
        self._jumps = on_jump_back(node, self._forget)

    def close(self) -> None:
        """Hear no more of the clock; for who makes another one before the node ends."""
        self._jumps.unregister()

    def lookup(self, target: str, source: str, stamp_ns: int | None = None, *,
               timeout_s: float = 0.0, max_age_s: float | None = None,
               max_gap_s: float | None = None) -> Array:
        """T_target_source (4, 4) at `stamp_ns` of the ROS clock; None is the newest common time.

        Waits up to `timeout_s` for it, which blocks: 0 in callbacks. With `max_age_s`, moving links
        must be younger than that by the node's clock; with `max_gap_s`, samples around the stamp
        must be no further apart. Raises TransformError, which names the
        missing or stale link.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            while True:
                now = self._node.get_clock().now().nanoseconds
                try:
                    return self._tree.lookup(target, source, stamp_ns, max_age_s=max_age_s,
                                             max_gap_s=max_gap_s, now_ns=now)
                except TransformError:
                    if not self._changed.wait(max(0.0, end - time.monotonic())):
                        raise

    def _forget(self) -> None:
        with self._changed:
            self._tree.forget_moving()

    def _receive(self, msg: TFMessage, static: bool) -> None:
        with self._changed:
            for transform in msg.transforms:
                # Old TF names frames with a leading slash.
                parent = transform.header.frame_id.lstrip('/')
                child = transform.child_frame_id.lstrip('/')
                try:
                    self._tree.set(parent, child, transform_to_matrix(transform.transform),
                                   stamp_to_ns(transform.header.stamp), static=static)
                except InputError as error:
                    self._node.get_logger().warning(
                        f'ignoring transform {parent!r} -> {child!r}: {error}',
                        throttle_duration_sec=5.0)
            self._changed.notify_all()


def _message(links: Sequence[Link], stamp_ns: int) -> TFMessage:
    return TFMessage(transforms=[
        TransformStamped(header=header(stamp_ns, parent), child_frame_id=child,
                         transform=matrix_to_transform(T)) for parent, child, T in links])


class TransformPublisher:
    """Publishes moving transforms on /tf."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(TFMessage, '/tf', qos.TF)

    def send(self, links: Sequence[Link], stamp_ns: int) -> None:
        """Publish (parent, child, T_parent_child) of one time."""
        self._publisher.publish(_message(links, stamp_ns))


class StaticTransformPublisher:
    """Publishes fixed transforms on /tf_static, for late joiners too.

    Every message holds all transforms ever sent by this publisher; a child frame that is sent
    again replaces the one before, so that a new calibration takes effect.
    """

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(TFMessage, '/tf_static', qos.LATCHED)
        self._links: dict[str, Link] = {}

    def send(self, links: Sequence[Link], stamp_ns: int) -> None:
        """Publish (parent, child, T_parent_child), valid for all time."""
        self._links.update({child: (parent, child, T) for parent, child, T in links})
        self._publisher.publish(_message(list(self._links.values()), stamp_ns))
