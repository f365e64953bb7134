# SPDX-License-Identifier: Apache-2.0
"""Action servers whose results say why, and calls of actions and services from inside callbacks."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.action.client import ClientGoalHandle
from rclpy.action.server import ServerGoalHandle
from rclpy.client import Client
from rclpy.task import Future as RosFuture

from fourdgen_ros.core.errors import ExecutionError, FourdgenError
from fourdgen_ros.nodes.base import STAGE_THREAD, StageNode

T = TypeVar('T')
POLL = 0.02  # s between looks at cancel requests
GONE_TIMEOUT = 2.0  # s that a server may be missing from the graph while it works on a goal
_STATUS = {getattr(GoalStatus, f'STATUS_{name}'): name for name in (
    'UNKNOWN', 'ACCEPTED', 'EXECUTING', 'CANCELING', 'SUCCEEDED', 'CANCELED', 'ABORTED')}


class ActionError(Exception):
    """Ends a goal with this `code` in its result; the message becomes `error_msg`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CanceledError(Exception):
    """The client canceled the goal, or the node stops."""


class Goal:
    """What the work of an action sees of its goal."""

    def __init__(self, handle: ServerGoalHandle, feedback_type: type, stopping: threading.Event,
                 ) -> None:
        self._handle, self._feedback_type, self._stopping = handle, feedback_type, stopping
        self.request = handle.request

    @property
    def by_client(self) -> bool:
        """Whether the client asked for the end."""
        return self._handle.is_cancel_requested

    @property
    def canceled(self) -> bool:
        """Whether the goal shall end."""
        return self.by_client or self._stopping.is_set()

    def check(self) -> None:
        """Raise `CanceledError` when the goal shall end."""
        if self.canceled:
            raise CanceledError

    def feedback(self, **fields: Any) -> None:
        """Publish feedback with these fields."""
        self._handle.publish_feedback(self._feedback_type(**fields))


def serve_action(node: StageNode, action_type: type, name: str,
                 work: Callable[[Goal, Any], None], *, unexpected: int, canceled: int,
                 codes: Mapping[type[Exception], int] | None = None,
                 busy: int | None = None) -> ActionServer:
    """Create an action server that runs one goal at a time; no error passes silently.

    `work(goal, result)` fills the result. What it raises becomes `error_code` and `error_msg`:
    `ActionError` with its own code, `CanceledError` with `canceled`, an error in `codes` with the
    code of the first class that matches, any other with `unexpected` and a traceback in the log.
    A second goal ends at once with code `busy`, or is rejected where the action has no such code.
    While `node.stopping` is set every goal is rejected.
    """
    running = threading.Lock()

    def fail(result: Any, code: int, message: str) -> None:
        result.error_code, result.error_msg = code, message
        node.get_logger().error(f'{name}: {message}')

    def attempt(goal: Goal, result: Any) -> bool:
        try:
            goal.check()
            work(goal, result)
            return True
        except CanceledError:
            fail(result, canceled, 'canceled' if goal.by_client else
                 'the node was deactivated or shut down')
        except ActionError as error:
            fail(result, error.code, str(error))
        except Exception as error:
            for kind, code in (codes or {}).items():
                if isinstance(error, kind):
                    fail(result, code, str(error))
                    return False
            if not isinstance(error, FourdgenError):
                node.get_logger().error(f'{name}:\n{traceback.format_exc()}')
            fail(result, unexpected, f'{type(error).__name__}: {error}')
        return False

    def execute(handle: ServerGoalHandle) -> Any:
        result = action_type.Result()
        if not running.acquire(blocking=busy is None):
            fail(result, busy, f'{name} is busy with another goal; cancel it or wait')
            handle.abort()
            return result
        with node.open_goal():
            try:
                start = time.monotonic()
                done = attempt(Goal(handle, action_type.Feedback, node.stopping), result)
                if hasattr(result, 'seconds'):
                    result.seconds = time.monotonic() - start
            finally:
                running.release()
            if done:
                handle.succeed()
            elif handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
        return result

    def accept(_: Any) -> GoalResponse:
        if node.stopping.is_set():
            node.get_logger().error(f'{name}: goal rejected, the node is not active')
            return GoalResponse.REJECT
        if busy is None and running.locked():
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    return ActionServer(node, action_type, name, execute, callback_group=node.group,
                        goal_callback=accept, cancel_callback=lambda _: CancelResponse.ACCEPT)


class Worker:
    """Runs stage calls in a thread of its own, one at a time, so that a cancel is answered at once.

    A canceled call runs to its end unseen; the next one waits for it.
    """

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(1, STAGE_THREAD)

    def run(self, goal: Goal, call: Callable[[], T]) -> T:
        """Return the result of `call()`; raises what it raises, or `CanceledError`."""
        future = self._pool.submit(call)
        while not concurrent.futures.wait([future], timeout=POLL).done:
            if goal.canceled:
                future.cancel()
                raise CanceledError
        return future.result()

    def close(self) -> None:
        """Let a running call finish, start no other."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class SafeActionClient(ActionClient):
    """An `ActionClient` that may be used from any thread.

    rclpy sends a request first and notes its number afterwards; an answer that another thread of
    the executor handles in between is dropped as unexpected and the caller waits for ever. Here
    answers wait until the number is noted.
    """

    def __init__(self, node: StageNode, action_type: type, name: str) -> None:
        self._noting = threading.RLock()
        super().__init__(node, action_type, name, callback_group=node.group)

    @property
    def name(self) -> str:
        """Name of the action."""
        return self._action_name

    @property
    def type_name(self) -> str:
        """Type of the action, as `ros2 action list -t` shows it."""
        package = self._action_type.__module__.split('.')[0]
        return f'{package}/action/{self._action_type.__name__}'

    def types_there(self) -> list[str]:
        """Types of the servers of that name, whoever they are for."""
        found = self._node.get_publishers_info_by_topic(f'{self.name}/_action/feedback')
        return sorted({server.topic_type.removesuffix('_FeedbackMessage') for server in found})

    def send_goal_async(self, *args: Any, **kwargs: Any) -> RosFuture:
        """See `rclpy.action.ActionClient`."""
        with self._noting:
            return super().send_goal_async(*args, **kwargs)

    def _cancel_goal_async(self, goal_handle: ClientGoalHandle) -> RosFuture:
        with self._noting:
            return super()._cancel_goal_async(goal_handle)

    def _get_result_async(self, goal_handle: ClientGoalHandle) -> RosFuture:
        with self._noting:
            return super()._get_result_async(goal_handle)

    async def execute(self, taken_data: Any) -> None:
        """See `rclpy.action.ActionClient`."""
        with self._noting:
            pass
        await super().execute(taken_data)


def wait_for(future: RosFuture, timeout: float,
             interrupted: Callable[[], bool] = lambda: False) -> bool:
    """Whether the future is done within `timeout` s; returns early when `interrupted()`.

    Waits on an event that an executor's other thread sets, so it may be used in callbacks.
    """
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    end = time.monotonic() + timeout
    while not done.wait(min(POLL, max(0.0, end - time.monotonic()))):
        if interrupted() or time.monotonic() >= end:
            return future.done()
    return True


def wait_for_ready(ready: Callable[[], bool], timeout: float,
                   interrupted: Callable[[], bool] = lambda: False, *,
                   period: float = POLL) -> bool:
    """Poll `ready()` every `period` s for at most `timeout` s."""
    end = time.monotonic() + timeout
    while not ready():
        if interrupted() or time.monotonic() >= end:
            return False
        time.sleep(period)
    return True


class RunningGoal:
    """A goal that an action server has accepted."""

    def __init__(self, client: SafeActionClient, handle: ClientGoalHandle) -> None:
        self._client, self._handle = client, handle
        self._result = handle.get_result_async()

    def wait(self, timeout: float, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Whether the goal has ended within `timeout` s."""
        return wait_for(self._result, timeout, interrupted)

    @property
    def result(self) -> Any:
        """The action's result; only after `wait` has returned True."""
        return self._result.result().result

    @property
    def status(self) -> int:
        """`action_msgs/GoalStatus` at the end; only after `wait` has returned True."""
        return self._result.result().status

    @property
    def outcome(self) -> str:
        """The status by its name; only after `wait` has returned True."""
        return _STATUS.get(self.status, str(self.status))

    @property
    def succeeded(self) -> bool:
        """Whether the server called it a success; only after `wait` has returned True."""
        return self.status == GoalStatus.STATUS_SUCCEEDED

    @property
    def ended(self) -> bool:
        """Whether the result has arrived."""
        return self._result.done()

    def cancel(self) -> None:
        """Ask for the end and do not wait for the answer, which may come late or never."""
        self._handle.cancel_goal_async()


class SentGoal:
    """A goal whose server has not said yet whether it takes it."""

    def __init__(self, client: SafeActionClient, future: RosFuture) -> None:
        self._client, self._answer = client, future
        self._running: RunningGoal | None = None

    def wait(self, timeout: float, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Whether the server has answered within `timeout` s."""
        return wait_for(self._answer, timeout, interrupted)

    def accepted(self) -> RunningGoal:
        """The goal at work; only after `wait` has returned True. Raises ExecutionError when it was
        rejected."""
        handle = self._answer.result()
        if not handle.accepted:
            raise ExecutionError(f'action server {self._client.name!r} rejected the goal',
                                 hint='It is busy, or not active.')
        return RunningGoal(self._client, handle)

    def abandon(self) -> None:
        """Cancel the goal as soon as it is accepted."""
        self._answer.add_done_callback(self._cancel)

    def _cancel(self, future: RosFuture) -> None:
        handle = future.result()
        if handle is not None and handle.accepted:
            self._running = RunningGoal(self._client, handle)
            self._running.cancel()

    @property
    def ended(self) -> bool:
        """Whether the abandoned goal was rejected, or accepted and its result has arrived."""
        if not self._answer.done():
            return False
        if not self._answer.result().accepted:
            return True
        return self._running is not None and self._running.ended


def request_goal(client: SafeActionClient, goal: Any, *, timeout: float,
                 interrupted: Callable[[], bool] = lambda: False,
                 feedback: Callable[[Any], None] | None = None) -> SentGoal:
    """Send a goal and do not wait for the answer.

    Raises ExecutionError when there is no server within `timeout` s, and `CanceledError` when
    interrupted before: nothing has been sent then.
    """
    if not wait_for_ready(client.server_is_ready, timeout, interrupted) and not interrupted():
        raise _no_server(client, timeout)
    if interrupted():
        raise CanceledError  # what is not sent cannot start
    on_feedback = None if feedback is None else (lambda message: feedback(message.feedback))
    return SentGoal(client, client.send_goal_async(goal, feedback_callback=on_feedback))


def _no_server(client: SafeActionClient, timeout: float) -> ExecutionError:
    what = f'no action server {client.name!r} within {timeout:g} s'
    others = [name for name in client.types_there() if name != client.type_name]
    if others:
        return ExecutionError(
            what, expected=f'one of type {client.type_name}',
            got=f'one of type {" and ".join(others)}',
            hint='Compare with `ros2 action list -t`; the type of a gripper is gripper_action_type '
                 'in the robot file.')
    return ExecutionError(what, hint='Start the node or controller that provides it, and compare '
                                     'names with `ros2 action list`.')


def send_goal(client: SafeActionClient, goal: Any, *, timeout: float,
              interrupted: Callable[[], bool] = lambda: False,
              feedback: Callable[[Any], None] | None = None) -> RunningGoal:
    """Send a goal and wait until it is accepted.

    Raises ExecutionError when there is no server, the goal is rejected or no answer comes, and
    `CanceledError` when interrupted. A goal accepted after that is canceled as soon as it is known.
    """
    sent = request_goal(client, goal, timeout=timeout, interrupted=interrupted, feedback=feedback)
    if not sent.wait(timeout, interrupted):
        sent.abandon()
        if interrupted():
            raise CanceledError
        raise ExecutionError(f'action server {client.name!r} did not answer within {timeout:g} s',
                             hint='See the log of its node; is the machine overloaded?')
    return sent.accepted()


def call_action(client: SafeActionClient, goal: Any, *, timeout: float, accept_timeout: float = 5.0,
                interrupted: Callable[[], bool] = lambda: False,
                feedback: Callable[[Any], None] | None = None) -> Any:
    """Send a goal of an action with `error_code` and return its result.

    When `interrupted()`, the goal is canceled and its end awaited for up to 5 s, then
    `CanceledError` is raised. Raises ExecutionError as `send_goal`; when the goal takes more than
    `timeout` s (it is then canceled); when its server goes; and when it did not succeed and yet has
    no error code, as a server's that crashed in its callback or was started anew.
    """
    running = send_goal(client, goal, timeout=accept_timeout, interrupted=interrupted,
                        feedback=feedback)
    gone = server_gone(client)
    if running.wait(timeout, lambda: interrupted() or gone()):
        if running.succeeded or running.result.error_code != 0:
            return running.result
        if interrupted():
            raise CanceledError
        raise ExecutionError(f'action {client.name!r} ended without a result',
                             expected='status SUCCEEDED or an error code',
                             got=f'status {running.outcome}',
                             hint='Its server crashed or was started anew: see the log of its '
                                  'node.')
    if gone() and not interrupted():
        raise ExecutionError(f'action server {client.name!r} has gone while it worked on a goal',
                             hint='See the log of its node, and what it may have left under way.')
    running.cancel()
    running.wait(5.0)
    if interrupted():
        raise CanceledError
    raise ExecutionError(f'action {client.name!r} did not end within {timeout:g} s: canceled',
                         hint='See the log of its node, or give it more time.')


def server_gone(client: SafeActionClient) -> Callable[[], bool]:
    """What says whether the server has been missing for GONE_TIMEOUT s whenever it was asked."""
    seen = time.monotonic()

    def gone() -> bool:
        nonlocal seen
        now = time.monotonic()
        if client.server_is_ready():
            seen = now
        return now - seen > GONE_TIMEOUT

    return gone


def call_service(client: Client, request: Any, *, timeout: float,
                 interrupted: Callable[[], bool] = lambda: False) -> Any:
    """Response of a service; raises ExecutionError when there is none within `timeout` s."""
    if not wait_for_ready(client.service_is_ready, timeout, interrupted):
        raise ExecutionError(f'no service {client.service_name!r} within {timeout:g} s',
                             hint='Start the node that provides it.')
    future = client.call_async(request)
    if not wait_for(future, timeout, interrupted):
        client.remove_pending_request(future)
        raise ExecutionError(f'service {client.service_name!r} did not answer within '
                             f'{timeout:g} s', hint='See the log of its node.')
    return future.result()
