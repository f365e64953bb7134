# SPDX-License-Identifier: Apache-2.0
"""A GripperCommand action server for the fingers of a cell, as a Franka hand has it.

Positions are m per finger. A goal ends when the fingers have arrived (`reached_goal`) or when they
stand still elsewhere, because they hold something (`stalled`); both are successes. The simulated
gripper has a fixed force: `max_effort` has no effect and the reported effort is 0.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from control_msgs.action import GripperCommand
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle

from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.sim.cell import Cell

FEEDBACK_PERIOD = 0.05  # s
MAX_POSITION = 0.04  # m per finger
ROUNDING = 1e-4  # m by which a goal may lie outside 0..0.04
REACHED = 0.001  # m per finger
STALL_SPEED = 0.002  # m/s per finger
STALL_TIME = 0.25  # s


@dataclass(eq=False)
class _Grip:
    """One command and how it ended."""

    position: float
    done: threading.Event
    still_since: float | None = None  # s
    stalled: bool = False
    reached: bool = False
    canceled: bool = False


class GripperServer:
    """Moves the fingers of a cell; a part of its loop."""

    def __init__(self, node: StageNode, name: str, cell: Cell) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._grip: _Grip | None = None
        self._position = cell.opening / 2.0
        self._time: float | None = None
        self._server = ActionServer(
            node, GripperCommand, name, self._execute, callback_group=node.group,
            goal_callback=self._accept, cancel_callback=lambda _: CancelResponse.ACCEPT)

    def update(self, stamp_ns: int, cell: Cell) -> None:
        """Pass on the command and watch the fingers; in the physics thread."""
        with self._lock:
            before, time_before = self._position, self._time
            self._position, self._time = cell.opening / 2.0, cell.time
            grip = self._grip
            if grip is None or time_before is None:
                return
            if grip.canceled:
                cell.set_gripper_target(2.0 * self._position)
                self._grip = None
                grip.done.set()
                return
            cell.set_gripper_target(2.0 * grip.position)
            speed = abs(self._position - before) / (self._time - time_before)
            grip.reached = abs(self._position - grip.position) <= REACHED
            if speed > STALL_SPEED or cell.gripper_ramping:
                grip.still_since = None
            elif grip.still_since is None:
                grip.still_since = self._time
            grip.stalled = (not grip.reached and grip.still_since is not None
                            and self._time - grip.still_since >= STALL_TIME)
            if grip.stalled or (grip.reached and grip.still_since is not None):
                self._grip = None
                grip.done.set()

    def restart(self) -> None:
        """Abort any command; the cell was just reset."""
        with self._lock:
            grip, self._grip, self._time = self._grip, None, None
        if grip is not None:
            grip.done.set()

    def _accept(self, goal: GripperCommand.Goal) -> GoalResponse:
        position = goal.command.position
        if not -ROUNDING <= position <= MAX_POSITION + ROUNDING:
            self._node.get_logger().error(
                f'gripper goal rejected: position {position} m per finger, expected 0..'
                f'{MAX_POSITION}')
            return GoalResponse.REJECT
        return GoalResponse.REJECT if self._node.stopping.is_set() else GoalResponse.ACCEPT

    def _execute(self, handle: ServerGoalHandle) -> GripperCommand.Result:
        grip = _Grip(handle.request.command.position, threading.Event())
        with self._lock:
            before, self._grip = self._grip, grip
        if before is not None:
            before.done.set()
        while not grip.done.wait(FEEDBACK_PERIOD):
            if self._node.stopping.is_set():
                break
            grip.canceled = handle.is_cancel_requested
            handle.publish_feedback(GripperCommand.Feedback(
                position=self._position, stalled=grip.stalled, reached_goal=grip.reached))
        if handle.is_cancel_requested:
            handle.canceled()
        elif grip.reached or grip.stalled:
            handle.succeed()
        else:
            handle.abort()
        return GripperCommand.Result(position=self._position, stalled=grip.stalled,
                                     reached_goal=grip.reached)
