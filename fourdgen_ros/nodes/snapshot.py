# SPDX-License-Identifier: Apache-2.0
"""One look through all cameras, with the transforms and the gripper of that moment."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.synchroniser import Synchroniser
from fourdgen_ros.core.transforms import TransformError
from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import wait_for_ready
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.joints import Joints
from fourdgen_ros.nodes.qos import LATCHED, SENSOR, UNHEARD, qos_events
from fourdgen_ros.nodes.tf import Transforms

SLOP = 0.5  # s; every view is compared with the transforms of its own stamp
JOINT_AGE = 1.0  # s


@dataclass(frozen=True, eq=False)
class PosedView:
    """A view with T_base_camera and T_base_tcp (4, 4) of its stamp; `error` where TF has none."""

    view: RgbdView
    T_base_camera: NDArray | None
    T_base_tcp: NDArray | None
    error: str = ''


class SnapshotNode(StageNode):
    """Hears what the generator and the tracker hear."""

    def __init__(self, cameras: Sequence[str], robot: RobotConfig, topics: Mapping[str, str],
                 transports: Mapping[str, str], **options: Any) -> None:
        """`topics` by kind (color, depth, info) with {camera} for the name; `transports` of color
        and depth as image_transport calls them."""
        super().__init__('snapshot', **options)
        self._cameras, self._robot = tuple(cameras), robot
        names = {(c, kind): self._topic(topic.format(camera=c), transports.get(kind, 'raw'))
                 for c in self._cameras for kind, topic in topics.items()}
        self._names = names
        self._synchroniser = Synchroniser(self._cameras, slop_s=SLOP, topics=names)
        self._transforms = Transforms(self)
        self._joints = Joints(self, robot.finger_joints, lambda: None)
        for (camera, kind), topic in names.items():
            raw = transports.get(kind, 'raw') == 'raw'
            message = CameraInfo if kind == 'info' else Image if raw else CompressedImage
            callback = functools.partial(self._on_frame, camera, kind)
            self.inputs.create_subscription(message, topic, callback, SENSOR,
                                            event_callbacks=qos_events(self, topic))
            if kind == 'info':  # some drivers publish it once, latched
                self.inputs.create_subscription(message, topic, callback, LATCHED,
                                                event_callbacks=UNHEARD)

    def take(self, timeout: float) -> tuple[list[PosedView], float]:
        """The next view of every camera and the opening of the gripper (m).

        Raises InputError naming what does not come within `timeout` s.
        """
        synced = self._synchroniser.wait(self.get_clock().now().nanoseconds, timeout)
        if synced is None:
            latest = self._synchroniser.latest()
            if latest is None:
                raise self._synchroniser.error()
            raise InputError('camera images', expected=f'newer ones within {timeout:g} s',
                             got='only old stamps', hint='Synchronise the machines\' clocks.')
        observation = conversions.observation_from_set(synced, self._cameras, self._names)
        fingers = self._robot.finger_joints
        wait_for_ready(lambda: self._joints.age(fingers) < JOINT_AGE, timeout)
        opening = self._robot.opening_at(self._joints.positions(fingers, JOINT_AGE))
        return [self._posed(view, timeout) for view in observation.views], opening

    def _posed(self, view: RgbdView, timeout: float) -> PosedView:
        base = self._robot.base_link
        T_base_tcp = self._transforms.lookup(base, self._robot.tcp_link, view.stamp,
                                             timeout_s=timeout)
        try:
            camera = self._transforms.lookup(base, view.frame_id, view.stamp, timeout_s=1.0)
        except TransformError as error:
            return PosedView(view, None, T_base_tcp, str(error))
        return PosedView(view, camera, T_base_tcp)

    def _topic(self, base: str, transport: str) -> str:
        return self.resolve_topic_name(base if transport == 'raw' else f'{base}/{transport}')

    def _on_frame(self, camera: str, kind: str, message: Any) -> None:
        self._synchroniser.add(
            camera, kind, conversions.stamp_to_ns(message.header.stamp), message)
