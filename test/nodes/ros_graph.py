# SPDX-License-Identifier: Apache-2.0
"""Nodes of a test in one executor, talking over real DDS, and calls of their interfaces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from fourdgen_ros.nodes.actions import SafeActionClient, call_service, send_goal
from fourdgen_ros.nodes.base import StageNode, destroy_actions
from fourdgen_ros.nodes.inputs import spin


def parameters(**values: Any) -> dict[str, Any]:
    """Node options that override parameters."""
    return {'parameter_overrides': [Parameter(name, value=v) for name, v in values.items()]}


def eventually(condition: Callable[[], bool], timeout: float = 30.0) -> bool:
    """Whether the condition becomes true within `timeout` s."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def elsewhere() -> Iterator[Node]:
    """A node as another process has it, in a context of its own; it does not spin."""
    context = Context()
    context.init()
    try:
        node = Node('elsewhere', context=context)
        try:
            yield node
        finally:
            destroy_actions(node)
            node.destroy_node()
    finally:
        context.try_shutdown()


class Graph:
    """A ROS context with a client node; `add` puts nodes under test beside it."""

    def __init__(self) -> None:
        rclpy.init()
        self.client = StageNode('test_client')
        self._executor = MultiThreadedExecutor(num_threads=20)
        self._nodes: list[Node] = []
        self._executor.add_node(self.client)
        self._thread = threading.Thread(
            target=spin, args=(self._executor.spin, self.client, self.client.closing))
        self._thread.start()
        self._action_clients: dict[str, SafeActionClient] = {}

    def add(self, node: Node) -> Any:
        self._nodes.append(node)
        self._executor.add_node(node)
        if isinstance(node, StageNode):
            node.start()
        return node

    def remove(self, node: Node) -> None:
        """End a node as its own process would."""
        self._nodes.remove(node)
        if isinstance(node, StageNode):
            node.close()
        self._executor.remove_node(node)
        destroy_actions(node)
        node.destroy_node()

    def start(self, action_type: type, name: str, goal: Any, **options: Any) -> Any:
        """Send a goal; returns a RunningGoal."""
        if name not in self._action_clients:
            self._action_clients[name] = SafeActionClient(self.client, action_type, name)
        return send_goal(self._action_clients[name], goal, timeout=30.0, **options)

    def act(self, action_type: type, name: str, goal: Any, timeout: float = 60.0) -> Any:
        """Send a goal and return its result."""
        running = self.start(action_type, name, goal)
        assert running.wait(timeout), f'{name} did not end within {timeout} s'
        return running.result

    def call(self, service_type: type, name: str, request: Any = None,
             timeout: float = 30.0) -> Any:
        client = self.client.create_client(service_type, name, callback_group=self.client.group)
        request = service_type.Request() if request is None else request
        try:
            return call_service(client, request, timeout=timeout)
        finally:
            self.client.destroy_client(client)

    def change(self, node: str, transition: str | int) -> bool:
        """Whether a lifecycle transition, by label or id, succeeded."""
        request = ChangeState.Request()
        if isinstance(transition, int):
            request.transition.id = transition
        else:
            request.transition.label = transition
        return self.call(ChangeState, f'{node}/change_state', request).success

    def listen(self, message_type: type, topic: str, qos: Any = 10) -> list[Any]:
        """A list that the topic's messages are appended to."""
        messages: list[Any] = []
        self.client.create_subscription(message_type, topic, messages.append, qos,
                                        callback_group=self.client.group)
        return messages

    def close(self) -> None:
        for node in list(self._nodes):
            if isinstance(node, StageNode):
                node.close()
        self.client.close()
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(timeout=5.0)
        for node in [*self._nodes, self.client]:
            destroy_actions(node)
            node.destroy_node()
        rclpy.try_shutdown()
