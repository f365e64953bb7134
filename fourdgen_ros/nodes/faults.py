# SPDX-License-Identifier: Apache-2.0
"""The topic `fault`: the execution node tells of faults and of their ends, others hear of them."""

from __future__ import annotations

import threading
import time

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import String

from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import FAULTS

TOPIC = 'fault'
CLOCKS_DIFFER_NS = 2 * 10**9  # at most, those of the execution node's machine and a listener's
HISTORY_COMES_WITHIN = 1.0  # s, all of what a late listener is told


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
    """Remembers a fault also after its reset, until the next `begin`.

    Who starts late is told the last faults and their ends, one after the other. What was sent
    before `begin` has ended no task of this listener; of that, only a fault that lasts counts.
    """

    def __init__(self, node: StageNode) -> None:
        self._lock = threading.Lock()
        self._present = self._heard = ''
        self._settled = 0.0  # steady s from which on the present fault counts as one that lasts
        self._begun = time.time_ns()
        # One message after the other, or a fault could seem newer than its end.
        node.create_subscription(String, TOPIC, self._on_fault, FAULTS,
                                 callback_group=MutuallyExclusiveCallbackGroup())

    @property
    def heard(self) -> str:
        """The last fault since `begin`, or that of before which lasts; '': none."""
        with self._lock:
            return self._heard or self._lasting()

    def begin(self) -> None:
        """Forget what has been reset."""
        with self._lock:
            self._heard = self._lasting()
            self._begun = time.time_ns()

    def _lasting(self) -> str:
        return self._present if time.monotonic() >= self._settled else ''

    def _on_fault(self, message: String, info: dict[str, int]) -> None:
        with self._lock:
            # 0: the middleware does not tell
            told_late = 0 < info['source_timestamp'] < self._begun - CLOCKS_DIFFER_NS
            if not told_late:  # so what was there until now has lasted beyond `begin`
                self._heard = message.data or self._present or self._heard
            self._present = message.data
            # The end of a fault of before may be the next message.
            self._settled = time.monotonic() + (HISTORY_COMES_WITHIN if told_late else 0.0)
