# SPDX-License-Identifier: Apache-2.0
"""What every node shares: described parameters, diagnostics, a clean start and a clean end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.nodes.inputs import InputNode, spin

# One thread per goal that may be open at a time, and some for topics, services and cancels. The
# default of rclpy, the number of cores, would let two open goals block everything else.
EXECUTOR_THREADS = 10
SWITCH_INTERVAL = 2e-4  # s
STAGE_THREAD = 'stage'  # how the names of threads begin in which stages compute
# Ctrl-C, `kill`, and a terminal that is closed or an ssh connection that drops.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

RCLError = rclpy_implementation.RCLError
Report = Callable[[], Mapping[str, Status]]
N = TypeVar('N', bound='StageNode')


class StageNode(Node):
    """A node that runs stages; `close` ends what it does before it is destroyed.

    While `stopping` is set no goal is accepted and open ones end; `closing` ends the node.
    """

    reconfigurable = False  # whether parameters that are not dynamic may change between runs

    def __init__(self, name: str, **options: Any) -> None:
        """`options` go to `rclpy.node.Node`."""
        super().__init__(name, **options)
        self.closing = threading.Event()
        self.stopping = threading.Event()
        self.group = ReentrantCallbackGroup()
        self._open_goals = 0
        self._goals_changed = threading.Condition()
        self._fixed: set[str] = set()
        self._choices: dict[str, tuple[Sequence[str], str]] = {}
        self._reports: list[Report] = []
        self.add_on_set_parameters_callback(self._check_choices)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.steady_timer(1.0, self._publish_diagnostics)

    @cached_property
    def inputs(self) -> InputNode:
        """Where to subscribe to topics with many messages a second; see there."""
        return InputNode(self)

    def parameter(self, name: str, default: Any, description: str, *, low: float | None = None,
                  high: float | None = None, choices: Sequence[str] = (), pattern: str = '',
                  dynamic: bool = False) -> Any:
        """Declare a parameter and return its value.

        `low` and `high` are inclusive bounds, `choices` the allowed strings, beside which others
        may match the regular expression `pattern`. Only a `dynamic` parameter can be set while the
        node works. A value outside its bounds stops the start.
        """
        descriptor = ParameterDescriptor(
            description=description, read_only=not (dynamic or self.reconfigurable))
        if not dynamic:
            self._fixed.add(name)
        if low is not None and high is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        if choices:
            names = ', '.join(choice or 'empty' for choice in choices)
            descriptor.additional_constraints = f'one of {names}' + (
                f', or what matches {pattern}' if pattern else '')
            self._choices[name] = tuple(choices), pattern
        return self.declare_parameter(name, default, descriptor).value

    def steady_timer(self, period: float, callback: Callable[[], None]) -> None:
        """Call back every `period` s, also while a simulation's `/clock` stands still."""
        self.create_timer(period, callback, callback_group=self.group,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def value(self, name: str) -> Any:
        """Present value of a declared parameter."""
        return self.get_parameter(name).value

    def _check_choices(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name not in self._choices:
                continue
            allowed, pattern = self._choices[parameter.name]
            if parameter.value not in allowed and not (
                    pattern and re.fullmatch(pattern, str(parameter.value))):
                also = f' or what matches {pattern}' if pattern else ''
                return SetParametersResult(
                    successful=False, reason=f'{parameter.name} is {parameter.value!r}, expected '
                                             f'one of {", ".join(allowed)}{also}')
        return SetParametersResult(successful=True)

    def report(self, statuses: Report) -> None:
        """Publish `statuses()`, by part, as '<node>: <part>' at 1 Hz (REP 107)."""
        self._reports.append(statuses)

    def reports(self) -> list[Report]:
        """What tells the present statuses of the node's parts."""
        return self._reports

    def _publish_diagnostics(self) -> None:
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        for report in self.reports():
            for part, status in self._reported(report).items():
                array.status.append(DiagnosticStatus(
                    level=bytes([status.level]), name=f'{self.get_name()}: {part}',
                    message=status.message, hardware_id=self.get_namespace(),
                    values=[KeyValue(key=k, value=str(v)) for k, v in status.values.items()]))
        if array.status:
            self._diagnostics.publish(array)

    def _reported(self, report: Report) -> Mapping[str, Status]:
        """What a report says, or that it failed: that must hide no other."""
        try:
            return report()
        except Exception as error:
            self.get_logger().error(f'diagnostics:\n{traceback.format_exc()}',
                                    throttle_duration_sec=60.0)
            return {'diagnostics': Status(Level.ERROR, f'{type(error).__name__}: {error}')}

    @contextlib.contextmanager
    def open_goal(self) -> Iterator[None]:
        """Mark a goal as being worked on."""
        with self._goals_changed:
            self._open_goals += 1
        try:
            yield
        finally:
            with self._goals_changed:
                self._open_goals -= 1
                self._goals_changed.notify_all()

    def goals_have_ended(self, timeout: float) -> bool:
        """Whether no goal is being worked on any more within `timeout` s."""
        with self._goals_changed:
            return self._goals_changed.wait_for(lambda: self._open_goals == 0, timeout)

    def start(self) -> None:
        """Begin to work. Called once, when the node is spun; raises what makes that impossible."""

    def close(self) -> None:
        """End open goals. Called once, before the executor stops, also on Ctrl-C."""
        self.closing.set()
        self.stopping.set()

    def destroy_node(self) -> None:
        """Take the node off the graph, its actions included, which rclpy leaves there."""
        destroy_actions(self)
        if 'inputs' in self.__dict__:
            self.inputs.destroy_node()
        super().destroy_node()


def destroy_actions(node: Node) -> None:
    """Destroy the action servers and clients of a node."""
    for waitable in list(node.waitables):
        if isinstance(waitable, (ActionServer, ActionClient)):
            waitable.destroy()


@contextlib.contextmanager
def spinning(factory: Callable[[], N], args: Sequence[str] | None = None) -> Iterator[N]:
    """Initialise rclpy, spin and start the node that `factory` makes; at the end destroy it.

    rclpy's own signal handlers would close the connection at once; then nobody could cancel what
    the controllers do. So signals are the caller's, `close` does its work over a living connection,
    and only then everything is shut down. Raises InputError for ROS arguments that rcl refuses.
    """
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except (RCLError, rclpy_implementation.UnknownROSArgsError) as error:
        hint = ('Each section of it is the name of a node, in it `ros__parameters`, and in that at '
                'least one.' if 'params file' in str(error) else '')
        raise InputError('ROS arguments', expected='what rcl can read', got=str(error),
                         hint=hint) from error
    try:
        node = factory()
        executor = MultiThreadedExecutor(num_threads=EXECUTOR_THREADS)
        executor.add_node(node)
        thread = threading.Thread(
            target=spin, args=(executor.spin, node, node.closing), daemon=True)
        thread.start()
        try:
            node.start()
            yield node
        finally:
            node.close()
            executor.shutdown(timeout_sec=2.0)
            thread.join(timeout=2.0)
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


@contextlib.contextmanager
def signals(handler: Any) -> Iterator[None]:
    """Handle the signals `ENDING` with `handler` for a while; only in the main thread.

    A SIGHUP that is ignored stays so: under nohup the process is to outlive its terminal.
    """
    before = {number: signal.signal(number, handler) for number in ENDING
              if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def run_node(factory: Callable[[], StageNode], args: Sequence[str] | None = None) -> int:
    """Run one node in this process until a signal ends it; returns the exit code."""
    # A stage's worker gives Python's lock away at every numpy call and waits this long to get it
    # back while callbacks come in; with Python's default of 5 ms tracking took a third longer.
    sys.setswitchinterval(SWITCH_INTERVAL)
    stop = threading.Event()
    with signals(lambda *_: stop.set()), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(spinning(factory, args))
        except (FourdgenError, rclpy.exceptions.ParameterException, ImportError) as error:
            rclpy.logging.get_logger('fourdgen_ros').fatal(f'cannot start: {error}')
            return 1
        stop.wait()
    # A second signal while Python winds up must not look like a crash.
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    _end_without_waiting(0)
    return 0


def _end_without_waiting(code: int) -> None:
    """End the process where a stage still computes: Python would wait until it has finished."""
    for thread in threading.enumerate():
        if thread.name.startswith(STAGE_THREAD):
            thread.join(timeout=0.5)
            if thread.is_alive():
                os._exit(code)
