# SPDX-License-Identifier: Apache-2.0
"""Whether action servers take goals: they exist, and the nodes they belong to are active."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action import get_action_server_names_and_types_by_node
from rclpy.client import Client
from rclpy.node import NodeNameNonExistentError

from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.nodes.actions import SafeActionClient, call_service, wait_for_ready
from fourdgen_ros.nodes.base import StageNode

GET_STATE = 'lifecycle_msgs/srv/GetState'
ANSWER_TIMEOUT = 2.0  # s that a node may take to tell its state
UNKNOWN_TIMEOUT = 10.0  # s of silence after which a goal tells more than asking
PERIOD = 0.1  # s between questions
UNKNOWN = 'unknown'


@dataclass(frozen=True)
class ServerState:
    """An action server's node and that node's lifecycle state.

    `node` is empty where nobody serves the action or the graph does not tell who; `state` is
    'absent', 'unmanaged' (a node without lifecycle), UNKNOWN (the server is there, its node does
    not answer), or the label of a lifecycle state.
    """

    action: str
    node: str
    state: str

    @property
    def ready(self) -> bool:
        """Whether goals are surely taken."""
        return self.state in ('unmanaged', 'active')

    @property
    def usable(self) -> bool:
        """Whether a goal may be tried: a rejection will tell what could not be found out."""
        return self.ready or self.state == UNKNOWN

    def __str__(self) -> str:
        if self.state == 'absent':
            return f'no action server {self.action!r}; start its node'
        if self.state in (UNKNOWN, 'unmanaged', 'active'):
            return f'action server {self.action!r} of node {self.node or "?"}: {self.state}'
        text = f'node {self.node}, which serves {self.action!r}, is {self.state}, not active'
        step = {'inactive': 'activate', 'unconfigured': 'configure'}.get(self.state)
        return f'{text}; `ros2 lifecycle set {self.node} {step}`' if step else text


class ServerStates:
    """Asks for the states of the nodes behind action clients."""

    def __init__(self, node: StageNode) -> None:
        self._node = node
        self._clients: dict[str, Client] = {}

    def of(self, client: SafeActionClient,
           interrupted: Callable[[], bool] = lambda: False) -> ServerState:
        """State of the node that serves the client's action; waits only for that node's answer."""
        if not client.server_is_ready():
            return ServerState(client.name, '', 'absent')
        owner = self._owner(client.name)
        if owner is None:
            return ServerState(client.name, '', UNKNOWN)
        name, namespace = owner
        path = f'{namespace.rstrip("/")}/{name}'
        service = f'{path}/get_state'
        try:
            offered = dict(self._node.get_service_names_and_types_by_node(name, namespace))
        except NodeNameNonExistentError:
            return ServerState(client.name, path, UNKNOWN)
        if GET_STATE not in offered.get(service, ()):
            return ServerState(client.name, path, 'unmanaged')
        if service not in self._clients:
            self._clients[service] = self._node.create_client(
                GetState, service, callback_group=self._node.group)
        try:
            answer: State = call_service(self._clients[service], GetState.Request(),
                                         timeout=ANSWER_TIMEOUT,
                                         interrupted=interrupted).current_state
        except ExecutionError:
            return ServerState(client.name, path, UNKNOWN)
        return ServerState(client.name, path, answer.label)

    def wait(self, client: SafeActionClient, timeout: float,
             interrupted: Callable[[], bool] = lambda: False) -> ServerState:
        """State when the server has become ready, or the last one after about `timeout` s.

        A server that is there is waited for no longer than `UNKNOWN_TIMEOUT` s while nobody tells
        its state.
        """
        found = self.of(client, interrupted)
        known = time.monotonic()

        def done() -> bool:
            nonlocal found, known
            found = self.of(client, interrupted)
            now = time.monotonic()
            if found.state != UNKNOWN:
                known = now
            return found.ready or now - known > UNKNOWN_TIMEOUT

        if not found.ready:
            wait_for_ready(done, timeout, interrupted, period=PERIOD)
        return found

    def _owner(self, action: str) -> tuple[str, str] | None:
        """(name, namespace) of the node that serves the action."""
        wanted = self._node.resolve_topic_name(action)
        for name, namespace in self._node.get_node_names_and_namespaces():
            try:
                served = get_action_server_names_and_types_by_node(self._node, name, namespace)
            except NodeNameNonExistentError:
                continue
            if any(found == wanted for found, _ in served):
                return name, namespace
        return None
