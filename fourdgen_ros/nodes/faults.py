# SPDX-License-Identifier: Apache-2.0
"""The topic `fault`: the execution node tells of faults and of their ends, others hear of them."""

from __future__ import annotations

import threading

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import String

from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import FAULTS

TOPIC = 'fault'


class FaultPublisher:
    """Tells each change once."""

    def __init__(self, node: StageNode) -> None:
        self._publisher = node.create_publisher(String, TOPIC, FAULTS)
        self._told: str | None = None
        self.tell('')

    def tell(self, fault: str) -> None:
        """Tell the present fault; '': there is none."""
        if fault != self._told:
            self._told = fault
            self._publisher.publish(String(data=fault))


class FaultListener:
    """Remembers a fault also after its reset, until the next `begin`."""

    def __init__(self, node: StageNode) -> None:
        self._lock = threading.Lock()
        self._present = self._heard = ''
        # One message after the other, or a fault could seem newer than its end.
        node.create_subscription(String, TOPIC, self._on_fault, FAULTS,
                                 callback_group=MutuallyExclusiveCallbackGroup())

    @property
    def heard(self) -> str:
        """The last fault since `begin`, or that of before which lasts; '': none."""
        with self._lock:
            return self._heard

    def begin(self) -> None:
        """Forget what has been reset."""
        with self._lock:
            self._heard = self._present

    def _on_fault(self, message: String) -> None:
        with self._lock:
            self._present = message.data
            self._heard = message.data or self._heard
