# SPDX-License-Identifier: Apache-2.0
"""Subscriptions to topics with many messages a second."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription


class InputNode(Node):
    """A hidden node beside `owner` that only subscribes, with an executor and a thread of its own.

    rclpy's executors look at all that their nodes have for every single message, the
    MultiThreadedExecutor of a stage at its actions, services and parameters too; what nodes cost
    now: scripts/bench_nodes.py. tf2_ros gives TF a node and a thread as well. Callbacks are called
    one at a time and must not wait for anything.
    """

    def __init__(self, owner: Node) -> None:
        """Spins at once; errors are logged under the name of `owner`, which destroys it."""
        super().__init__(f'_{owner.get_name()}_inputs', namespace=owner.get_namespace(),
                         context=owner.context, use_global_arguments=False,
                         start_parameter_services=False, enable_rosout=False,
                         parameter_overrides=[
                             Parameter('start_type_description_service', value=False)])
        self._owner = owner
        # rclpy leaves a group that excludes others occupied when it fails to take a message
        self.group = ReentrantCallbackGroup()
        self._closing = threading.Event()
        self._wake_up = self.create_guard_condition(lambda: None, self.group)
        self._executor = SingleThreadedExecutor(context=owner.context)
        self._executor.add_node(self)
        self._thread = threading.Thread(
            target=spin, args=(self._executor.spin_once, owner, self._closing), name='inputs',
            daemon=True)
        self._thread.start()

    def subscribe(self, msg_type: Any, topic: str, *args: Any, **options: Any) -> Subscription:
        """As `create_subscription`; `topic` is resolved and remapped as the owner's topics are."""
        return self.create_subscription(
            msg_type, self._owner.resolve_topic_name(topic), *args, **options)

    def create_subscription(self, *args: Any, **options: Any) -> Subscription:
        """See `rclpy.node.Node`; a topic is taken as it is, without remapping."""
        return super().create_subscription(*args, **{'callback_group': self.group} | options)

    def destroy_node(self) -> None:
        """End the thread, after the callback that runs, then the subscriptions; once."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake_up.trigger()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._executor.shutdown(timeout_sec=0.0)
        super().destroy_node()


def spin(work: Callable[[], None], node: Node, closing: threading.Event) -> None:
    """Call `spin` or `spin_once` of an executor while ROS is up and `closing` is not set; an error
    in one callback never ends the node."""
    while rclpy.ok(context=node.context) and not closing.is_set():
        try:
            work()
        except ExternalShutdownException:
            return
        except InvalidHandle as error:
            # What the executor was about to look at was just taken away.
            node.get_logger().debug(f'looking again: {error}')
        except Exception:
            if closing.is_set():
                return  # rclpy takes the executor's parts away while it still looks at them
            node.get_logger().error(f'unexpected error in a callback:\n{traceback.format_exc()}')
