# SPDX-License-Identifier: Apache-2.0
"""Managed nodes (ROS 2 lifecycle): what the generator, the tracker and the execution node share.

    unconfigured --configure--> inactive --activate--> active --deactivate--> inactive --cleanup-->

`configure` loads models and reads parameters, `activate` opens topics and lets goals in,
`deactivate` ends goals and motion and closes topics, `cleanup` frees the models. Action and service
servers are there in every state, so that a client can find out whose state keeps its goal out;
goals are rejected unless the node is active.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from fourdgen_ros.core.errors import FourdgenError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.nodes.base import RCLError, Report, StageNode

GOALS_TIMEOUT = 5.0  # s that open goals may take to end when the node is deactivated
TRANSITION_TIMEOUT = 10.0  # s that a transition under way may take when the process ends


class TransitionError(FourdgenError):
    """A transition of a managed node failed."""


class ManagedNode(LifecycleNodeMixin, StageNode):
    """A stage node with a lifecycle; subclasses override `configure` ... `cleanup`.

    Topics, clients and timers that `activate` creates are destroyed when the node is deactivated,
    those of `configure` at cleanup. What a method raises is logged, undone and ends the transition:
    with FAILURE, back to the state before, in `configure` and `activate`; with ERROR, down to
    unconfigured, in `deactivate` and `cleanup`, which cannot leave a node half at work.
    """

    reconfigurable = True

    def __init__(self, name: str, **options: Any) -> None:
        """`options` go to `rclpy.node.Node`."""
        StageNode.__init__(self, name, **options)
        LifecycleNodeMixin.__init__(self, callback_group=self.group)
        self.stopping.set()
        self.failure: Exception | None = None
        self._has_configured = self._has_activated = False
        self._configured: list[Any] = []
        self._activated: list[Any] = []
        self._changing = threading.Lock()
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change
        self.add_on_set_parameters_callback(self._check_fixed)
        self.parameter('autostart', True, 'whether the node configures and activates itself; '
                                          'false: somebody else does, as `ros2 lifecycle set` can')

    # --- for subclasses -----------------------------------------------------------------------

    def configure(self) -> None:
        """Read parameters, load models, create clients."""

    def activate(self) -> None:
        """Open topics; goals are let in when this returns."""

    def deactivate(self) -> None:
        """Stop what moves; goals have been told to end, topics are still open.

        Called also where `activate` raised.
        """

    def cleanup(self) -> None:
        """Free what `configure` loaded; called also where it raised."""

    # --- state --------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Label of the present state: 'unconfigured', 'inactive', 'active', 'activating', ..."""
        return self._state_machine.current_state[1]

    def start(self) -> None:
        """Configure and activate when `autostart` is set; raises what a transition raised."""
        if not self.value('autostart'):
            self.get_logger().info('unconfigured: waits for the transition configure')
            return
        with self._changing:
            for transition in (self.trigger_configure, self.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    raise self.failure

    def close(self) -> None:
        """Stop whatever moves, free everything and end."""
        super().close()
        if not self._changing.acquire(timeout=TRANSITION_TIMEOUT):
            self.get_logger().error(f'still {self.state} after {TRANSITION_TIMEOUT:g} s: '
                                    f'ending without a shutdown transition')
            return
        try:
            if self._state_machine.current_state[0] != State.PRIMARY_STATE_FINALIZED:
                self.trigger_shutdown()
        except RCLError as error:  # the connection is gone; nobody needs to hear of the transition
            self.get_logger().debug(f'shutdown transition: {error}')
        finally:
            self._changing.release()

    def destroy_node(self) -> None:
        """Take the node off the graph, its state machine included, whose services rclpy leaves
        there: clients of a node of the same name would wait for two servers."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def reports(self) -> list[Report]:
        """The lifecycle state; other parts have something to tell only while active."""
        others = super().reports() if self.state == 'active' else []
        return [self._lifecycle_report, *others]

    def _lifecycle_report(self) -> dict[str, Status]:
        state = self.state
        if state == 'active':
            return {'lifecycle': Status(Level.OK, state)}
        if self.failure is None:
            return {'lifecycle': Status(Level.WARN, state)}
        return {'lifecycle': Status(Level.ERROR, f'{state}: {self.failure}')}

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `rclpy.lifecycle.LifecycleNode`."""
        return self._attempt('configure', self._configure, self._free)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `rclpy.lifecycle.LifecycleNode`."""
        return self._attempt('activate', self._activate, self._halt)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `rclpy.lifecycle.LifecycleNode`."""
        return self._attempt('deactivate', self._halt)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `rclpy.lifecycle.LifecycleNode`."""
        return self._attempt('clean up', self._free)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `rclpy.lifecycle.LifecycleNode`; ends in `finalized` whatever happens."""
        self._attempt('shut down', self._halt)
        self._attempt('shut down', self._free)
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `rclpy.lifecycle.LifecycleNode`; ends in `unconfigured`."""
        self._attempt('recover', self._halt)
        self._attempt('recover', self._free)
        return TransitionCallbackReturn.SUCCESS

    # --- transitions --------------------------------------------------------------------------

    def _configure(self) -> None:
        self._has_configured = True
        with self._owning(self._configured):
            self.configure()

    def _activate(self) -> None:
        self._has_activated = True
        with self._owning(self._activated):
            self.activate()
        self.stopping = threading.Event()  # a goal of an earlier activation keeps its own
        self.get_logger().info('active')

    def _halt(self) -> None:
        self.stopping.set()
        if not self._has_activated:
            return
        self._has_activated = False
        try:
            self.deactivate()
            if not self.goals_have_ended(GOALS_TIMEOUT):
                raise TransitionError(f'a goal goes on after {GOALS_TIMEOUT:g} s',
                                      expected='none after the node was told to stop')
        finally:
            self._destroy(self._activated)

    def _free(self) -> None:
        if not self._has_configured:
            return
        self._has_configured = False
        try:
            self.cleanup()
        finally:
            self._destroy(self._configured)

    def _attempt(self, what: str, work: Callable[[], None],
                 undo: Callable[[], None] | None = None) -> TransitionCallbackReturn:
        """Do the work of a transition; what it raises, which rclpy drops, is logged and undone."""
        try:
            work()
        except Exception as error:
            self.failure = error
            known = isinstance(error, (FourdgenError, ImportError))
            details = str(error) if known else traceback.format_exc()
            self.get_logger().error(f'cannot {what}: {details}')
            if undo is None:
                return TransitionCallbackReturn.ERROR
            with contextlib.suppress(Exception):  # the first error is the one that matters
                undo()
            return TransitionCallbackReturn.FAILURE
        self.failure = None
        return TransitionCallbackReturn.SUCCESS

    def _on_change(self, request: ChangeState.Request,
                   response: ChangeState.Response) -> ChangeState.Response:
        """Answer also what rclpy leaves unanswered: a transition that this state does not have."""
        if not self._changing.acquire(blocking=False):
            self.get_logger().error(f'refused a transition: {self.state}, wait until it is done')
            return response
        try:
            return self._change_state(request, response)
        except RCLError:
            wanted = request.transition.label or request.transition.id
            self.get_logger().error(f'refused transition {wanted!r}: there is none from '
                                    f'state {self.state!r}')
            response.success = False
            return response
        finally:
            self._changing.release()

    def _check_fixed(self, parameters: list[Parameter]) -> SetParametersResult:
        state = self.state
        fixed = [p.name for p in parameters if p.name in self._fixed]
        if fixed and state != 'unconfigured':
            return SetParametersResult(
                successful=False, reason=f'{", ".join(fixed)}: read when the node is configured, '
                                         f'and it is {state}; deactivate and clean up first')
        return SetParametersResult(successful=True)

    # --- what belongs to a state --------------------------------------------------------------

    @contextlib.contextmanager
    def _owning(self, owned: list[Any]) -> Iterator[None]:
        """Add to `owned` what is created meanwhile, also when it ends with an error."""
        before = self._entities()
        try:
            yield
        finally:
            owned.extend(e for e in self._entities() if all(e is not b for b in before))

    def _entities(self) -> list[Any]:
        clients = [w for w in self.waitables if isinstance(w, ActionClient)]
        return [*self.publishers, *self.subscriptions, *self.inputs.subscriptions, *self.clients,
                *self.services, *self.timers, *clients]

    def _destroy(self, owned: list[Any]) -> None:
        destroyers = {Publisher: self.destroy_publisher, Subscription: self._unsubscribe,
                      Client: self.destroy_client, Service: self.destroy_service,
                      Timer: self.destroy_timer, ActionClient: lambda client: client.destroy()}
        while owned:
            entity = owned.pop()
            kind = next(kind for kind in destroyers if isinstance(entity, kind))
            destroyers[kind](entity)

    def _unsubscribe(self, subscription: Subscription) -> None:
        if not self.inputs.destroy_subscription(subscription):
            self.destroy_subscription(subscription)
