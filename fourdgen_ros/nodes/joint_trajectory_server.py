# SPDX-License-Identifier: Apache-2.0
"""A FollowJointTrajectory action server that behaves as ros2_control's controller.

One difference: the real controller rejects an invalid goal without a word; this one accepts it and
aborts it at once, so that the client reads the code and the reason. A motion that runs meanwhile
goes on undisturbed in both.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from control_msgs.action import FollowJointTrajectory
from numpy.typing import NDArray
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from trajectory_msgs.msg import JointTrajectoryPoint

from fourdgen_ros.nodes.actions import wait_for_ready
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.conversions import header, seconds_to_duration
from fourdgen_ros.nodes.joint_trajectory_goal import (
    Codes,
    GoalError,
    Limits,
    SetPoint,
    make_follower,
)
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.trajectory import Status, TrajectoryFollower

Array = NDArray[np.float64]
FEEDBACK_PERIOD = 0.05  # s
_CODES = {Status.SUCCEEDED: Codes.SUCCESSFUL,
          Status.PATH_TOLERANCE_VIOLATED: Codes.PATH_TOLERANCE_VIOLATED,
          Status.GOAL_TOLERANCE_VIOLATED: Codes.GOAL_TOLERANCE_VIOLATED}


class _Motion:
    """A trajectory that is being followed, and how it ended.

    `start` is its time 0 in s of the cell's own time: that runs evenly even where stamps have to
    jump, because the machine is too slow.
    """

    def __init__(self, goal_id: bytes, follower: TrajectoryFollower, start: float) -> None:
        self.goal_id, self.follower, self.start = goal_id, follower, start
        self.done = threading.Event()
        self.code, self.message = Codes.SUCCESSFUL, ''
        self.canceled = False

    def finish(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        self.done.set()


def _goal_id(handle: ServerGoalHandle) -> bytes:
    return bytes(handle.goal_id.uuid)


class JointTrajectoryServer:
    """Moves the arm of a cell; a part of its loop.

    `update` runs in the physics thread every control period, everything else in executor threads;
    the lock guards the motion and the last state.
    """

    def __init__(self, node: StageNode, name: str, joints: Sequence[str], limits: Limits,
                 cell: Cell) -> None:
        self._node, self._joints, self._limits = node, tuple(joints), limits
        self._lock = threading.Lock()
        self._motion: _Motion | None = None
        self._stamp, self._time = 0, cell.time
        self.restart(cell, '')
        self._server = ActionServer(
            node, FollowJointTrajectory, name, self._execute, callback_group=node.group,
            goal_callback=self._accept, cancel_callback=self._cancel)

    def update(self, stamp_ns: int, cell: Cell) -> None:
        """Compare the state with the motion and command the next set point."""
        with self._lock:
            self._stamp, self._time = stamp_ns, cell.time
            self._measured, self._velocity = cell.joint_positions, cell.joint_velocities
            motion = self._motion
            if motion is None:
                return
            t = self._time - motion.start
            outcome = motion.follower.check(t, self._measured, self._velocity)
            if outcome.status in (Status.PATH_TOLERANCE_VIOLATED, Status.GOAL_TOLERANCE_VIOLATED):
                self._end(_CODES[outcome.status], outcome.message, cell)
                return
            self._q, self._qd, _ = motion.follower.sample(t)
            cell.set_arm_target(self._q, self._qd)
            if outcome.status is Status.SUCCEEDED:
                self._motion = None
                motion.finish(Codes.SUCCESSFUL, '')
            elif motion.canceled:
                self._end(Codes.SUCCESSFUL, 'canceled', cell)

    def restart(self, cell: Cell, reason: str) -> None:
        """Abort any motion and leave the arm to `cell`, which was just reset."""
        with self._lock:
            self._measured, self._velocity = cell.joint_positions, cell.joint_velocities
            self._finish(Codes.INVALID_GOAL, reason)

    def _end(self, code: int, message: str, cell: Cell) -> None:
        """End the motion and hold the present position."""
        self._finish(code, message)
        cell.set_arm_target(self._q, self._qd)

    def _finish(self, code: int, message: str) -> None:
        self._q, self._qd = self._measured, np.zeros(len(self._joints))
        motion, self._motion = self._motion, None
        if motion is not None:
            motion.finish(code, message)

    def _accept(self, _: FollowJointTrajectory.Goal) -> GoalResponse:
        return GoalResponse.REJECT if self._node.stopping.is_set() else GoalResponse.ACCEPT

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        # Here, not where the goal waits: the arm must stop with the next control period.
        with self._lock:
            if self._motion is not None and self._motion.goal_id == _goal_id(handle):
                self._motion.canceled = True
        return CancelResponse.ACCEPT

    def _execute(self, handle: ServerGoalHandle) -> FollowJointTrajectory.Result:
        try:
            motion = self._begin(handle)
        except GoalError as error:
            self._node.get_logger().error(f'goal refused: {error}')
            handle.abort()
            return FollowJointTrajectory.Result(error_code=error.code, error_string=str(error))
        while not motion.done.wait(FEEDBACK_PERIOD):
            if self._node.stopping.is_set():
                motion.finish(Codes.INVALID_GOAL, 'the cell is closing')
            motion.canceled |= handle.is_cancel_requested
            handle.publish_feedback(self._feedback(motion))
        if motion.canceled:
            # rclpy notes the cancel after `_cancel` has returned.
            wait_for_ready(lambda: handle.is_cancel_requested, 1.0)
        if handle.is_cancel_requested:
            handle.canceled()
        elif motion.code == Codes.SUCCESSFUL:
            handle.succeed()
        else:
            self._node.get_logger().error(f'motion aborted: {motion.message}')
            handle.abort()
        return FollowJointTrajectory.Result(error_code=motion.code, error_string=motion.message)

    def _begin(self, handle: ServerGoalHandle) -> _Motion:
        with self._lock:
            present = SetPoint(self._q, self._qd, self._measured)
            follower, start_ns = make_follower(handle.request, self._joints, present,
                                               self._limits, self._stamp)
            motion = _Motion(_goal_id(handle), follower,
                             self._time + (start_ns - self._stamp) * 1e-9)
            before, self._motion = self._motion, motion
        if before is not None:
            before.finish(Codes.INVALID_GOAL, 'preempted by a new goal')
        return motion

    def _feedback(self, motion: _Motion) -> FollowJointTrajectory.Feedback:
        with self._lock:
            stamp, measured, velocity = self._stamp, self._measured, self._velocity
            t = self._time - motion.start
        q, qd, _ = motion.follower.sample(t)
        elapsed = seconds_to_duration(t)

        def point(positions: Array, velocities: Array) -> JointTrajectoryPoint:
            return JointTrajectoryPoint(positions=positions.tolist(), time_from_start=elapsed,
                                        velocities=velocities.tolist())

        return FollowJointTrajectory.Feedback(
            header=header(stamp, ''), joint_names=list(self._joints), desired=point(q, qd),
            actual=point(measured, velocity), error=point(q - measured, qd - velocity))
