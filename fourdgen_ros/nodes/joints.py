# SPDX-License-Identifier: Apache-2.0
"""The newest positions of named joints, from any number of publishers of `/joint_states`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import SENSOR, qos_events

TOPIC = '/joint_states'


def heard(node: Node, message: JointState) -> dict[str, tuple[float, float]]:
    """Joint name -> (position, velocity) as `joint_state_to_dict`; nothing, and a warning, of a
    message whose positions are not those of its names."""
    try:
        return conversions.joint_state_to_dict(message)
    except InputError as error:
        node.get_logger().warning(f'ignoring a message of {TOPIC}: {error}',
                                  throttle_duration_sec=5.0)
        return {}


class Joints:
    """Arm and gripper may be published in separate messages: each joint has its own age."""

    def __init__(self, node: StageNode, watched: Sequence[str],
                 on_watched: Callable[[], None]) -> None:
        """`on_watched()` is called after each message that holds all joints in `watched` as finite
        numbers: a driver that does not know where the arm is says nothing."""
        self._node, self._watched, self._on_watched = node, frozenset(watched), on_watched
        self._lock = threading.Lock()
        self._positions: dict[str, tuple[float, float]] = {}
        node.inputs.subscribe(JointState, TOPIC, self._on_message, SENSOR,
                              event_callbacks=qos_events(node, TOPIC))

    def _on_message(self, message: JointState) -> None:
        now = time.monotonic()
        state = heard(self._node, message)
        with self._lock:
            self._positions.update({name: (q, now) for name, (q, _) in state.items()})
        if (self._watched <= state.keys()
                and all(np.isfinite(state[name][0]) for name in self._watched)):
            self._on_watched()

    def age(self, names: Sequence[str]) -> float:
        """Seconds since the longest silent of the joints was heard of; inf: never."""
        with self._lock:
            arrivals = [self._positions[n][1] if n in self._positions else -float('inf')
                        for n in names]
        return time.monotonic() - min(arrivals)

    def positions(self, names: Sequence[str], max_age: float) -> NDArray[np.float64]:
        """Positions (len(names),); raises InputError when one is unknown, old or not finite."""
        age = self.age(names)
        with self._lock:
            known = {n: self._positions[n][0] for n in names if n in self._positions}
        missing = [n for n in names if n not in known]
        if missing or age > max_age:
            raise InputError(
                f'{TOPIC}', expected=f'{list(names)} within {max_age:g} s',
                got=f'never {missing}' if missing else f'the last {age:.2f} s ago',
                hint='Check that the robot driver runs and how it names its joints.')
        q = np.array([known[n] for n in names])
        if not np.isfinite(q).all():
            raise InputError(f'{TOPIC}', expected='finite positions', got=str(q.tolist()))
        return q
