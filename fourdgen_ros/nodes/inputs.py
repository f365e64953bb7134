# SPDX-License-Identifier: Apache-2.0
"""Subscriptions to topics with many messages a second."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription


class InputNode(Node):
    """A hidden node beside `owner` that only subscribes, with an executor and a thread of its own.

    rclpy's executors look at all that their nodes have for every single message. Beside the
    actions, services and parameters of a stage, in a MultiThreadedExecutor, one message of /tf cost
    5 ms of a core; here it costs 0.6. tf2_ros gives TF a node and a thread too. Callbacks are
    called one at a time and must not wait for anything.
    """

    def __init__(self, owner: Node) -> None:
        """Spins at once; errors are logged under the name of `owner`, which destroys it."""
        super().__init__(f'_{owner.get_name()}_inputs', namespace=owner.get_namespace(),
                         context=owner.context, use_global_arguments=False,
                         start_parameter_services=False, enable_rosout=False,
                         parameter_overrides=[
                             Parameter('start_type_description_service', value=False)])
        self._owner = owner
        self.closing = threading.Event()
        self._executor = SingleThreadedExecutor(context=owner.context)
        self._executor.add_node(self)
        self._thread = threading.Thread(
            target=spin, args=(self._executor, owner, self.closing), name='inputs', daemon=True)
        self._thread.start()

    def create_subscription(self, msg_type: Any, topic: str, *args: Any,
                            **options: Any) -> Subscription:
        """See `rclpy.node.Node`; `topic` is resolved and remapped as the owner's topics are."""
        return super().create_subscription(
            msg_type, self._owner.resolve_topic_name(topic), *args, **options)

    def destroy_node(self) -> None:
        """End the thread, then the subscriptions."""
        self.closing.set()
        self._executor.shutdown(timeout_sec=2.0)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        super().destroy_node()


def spin(executor: Executor, node: Node, closing: threading.Event) -> None:
    """Spin until the executor is shut down; an error in one callback never ends the node."""
    while rclpy.ok(context=executor.context) and not closing.is_set():
        try:
            executor.spin()
        except ExternalShutdownException:
            return
        except InvalidHandle as error:
            # What the executor was about to look at was just taken away.
            node.get_logger().debug(f'looking again: {error}')
        except Exception:
            if closing.is_set():
                return  # rclpy takes the executor's parts away while it still looks at them
            node.get_logger().error(f'unexpected error in a callback:\n{traceback.format_exc()}')
