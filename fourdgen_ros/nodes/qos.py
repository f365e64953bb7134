# SPDX-License-Identifier: Apache-2.0
"""The quality-of-service profiles of this package's topics."""

from __future__ import annotations

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)

# Inputs from sensors: best effort matches reliable and best-effort publishers alike.
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
# Camera outputs: reliable, so that either kind of subscriber matches; short, or old images pile up.
IMAGE = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
RESULT = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Late joiners get the last message; needs to be set on both ends.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Faults and their ends: late joiners get the last, and a fault is heard although its end follows.
FAULTS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE,
                    durability=DurabilityPolicy.TRANSIENT_LOCAL)
# As tf2_ros has them. Static transforms of many nodes come together, hence the depth.
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                       durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A second subscription for what may be latched: that most publishers do not match is no error.
UNHEARD = SubscriptionEventCallbacks(use_default_callbacks=False)


def qos_events(node: Node, topic: str, hint: str = '') -> SubscriptionEventCallbacks:
    """Events of a subscription: an incompatible publisher is an error in the log of `node`.

    Such a publisher and the subscription never connect; without this nothing arrives and nobody
    says why. `hint` says what to set on this side when the publisher's reliability does not match.
    """

    def incompatible(info: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(info.last_policy_kind)
        step = hint if hint and policy == 'RELIABILITY' else (
            f'compare both ends with `ros2 topic info -v {topic}`')
        node.get_logger().error(
            f'{topic}: {info.total_count} publisher(s) with a QoS that does not match '
            f'({policy}); nothing arrives from there: {step}')

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)
