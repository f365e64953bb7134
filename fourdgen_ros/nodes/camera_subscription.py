# SPDX-License-Identifier: Apache-2.0
"""One topic of a camera, heard as the parameter `input_reliability` says."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import LATCHED, UNHEARD, qos_events

_RELIABLE, _BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def declare_reliability(node: StageNode) -> None:
    """Declare the parameter of `CameraSubscription`."""
    node.parameter(
        'input_reliability', 'best_effort',
        'QoS reliability of the camera subscriptions: best_effort matches every publisher, auto is '
        'reliable where the publishers of a topic are', choices=('best_effort', 'reliable', 'auto'))


class CameraSubscription:
    """Hears serialised messages until it is closed.

    With auto it is reliable, and steps down to best effort where a publisher offers no more, now or
    later. Calibration is also heard as drivers latch it that publish it only once.
    """

    def __init__(self, node: StageNode, message_type: type, topic: str,
                 on_message: Callable[[bytes], None], depth: int) -> None:
        """`topic` is absolute; `depth` messages may wait; `on_message` is called by the thread of
        `node.inputs`."""
        self._node, self._type, self._topic = node, message_type, topic
        self._on_message, self._depth = on_message, depth
        wanted = node.value('input_reliability')
        self._auto = wanted == 'auto'
        reliability = self._offered() if self._auto else ReliabilityPolicy[wanted.upper()]
        self._lock = threading.RLock()  # events come by that thread, too
        with self._lock:
            self._open = [self._listen(reliability)]  # empty once it is closed
            if message_type is CameraInfo:
                self._open.append(self._subscribe(LATCHED, UNHEARD))

    def close(self) -> None:
        """Hear no more."""
        with self._lock:
            while self._open:
                self._node.inputs.destroy_subscription(self._open.pop())

    def _offered(self) -> ReliabilityPolicy:
        """What all publishers that are known now offer; reliable where there is none."""
        infos = self._node.get_publishers_info_by_topic(self._topic)
        reliable = all(info.qos_profile.reliability == _RELIABLE for info in infos)
        return _RELIABLE if reliable else _BEST_EFFORT

    def _listen(self, reliability: ReliabilityPolicy) -> Subscription:
        events = qos_events(
            self._node, self._topic, 'set the parameter input_reliability of '
            f'{self._node.get_fully_qualified_name()} to best_effort')
        complain = events.incompatible_qos

        def incompatible(info: QoSRequestedIncompatibleQoSInfo) -> None:
            if qos_policy_name_from_kind(info.last_policy_kind) == 'RELIABILITY':
                self._step_down()
            else:
                complain(info)

        if self._auto and reliability == _RELIABLE:
            events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        return self._subscribe(QoSProfile(depth=self._depth, reliability=reliability), events)

    def _step_down(self) -> None:
        with self._lock:
            if self._open:
                self._node.inputs.destroy_subscription(self._open[0])
                self._open[0] = self._listen(_BEST_EFFORT)
                self._node.get_logger().info(f'{self._topic}: sent as best effort, heard as such')

    def _subscribe(self, qos: QoSProfile, events: SubscriptionEventCallbacks) -> Subscription:
        return self._node.inputs.create_subscription(
            self._type, self._topic, self._on_message, qos, event_callbacks=events,
            raw=True)  # what is not used is not deserialised
