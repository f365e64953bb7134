# SPDX-License-Identifier: Apache-2.0
"""A robot for the execution tests: joint states and controller actions, without physics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from control_msgs.action import FollowJointTrajectory, GripperCommand, ParallelGripperCommand
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import JointState

from fourdgen_ros.core.types import JointTrajectory
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes import conversions
from fourdgen_ros.sim.trajectory import TrajectoryFollower

ARM = tuple(f'panda_joint{i}' for i in range(1, 8))
FINGERS = ('panda_finger_joint1', 'panda_finger_joint2')
HOME = np.array([0.0, -0.35, 0.0, -2.3, 0.0, 1.98, 0.7853])


def move(q_end: np.ndarray, duration: float, q_start: np.ndarray = HOME) -> JointTrajectory:
    """Smooth motion from rest to rest."""
    times = np.linspace(0.0, duration, max(11, round(duration / 0.1) + 1))
    u = times / duration
    s, ds, dds = (u**3 * (10 - 15 * u + 6 * u**2), 30 * u**2 * (1 - u)**2 / duration,
                  60 * u * (1 - u) * (1 - 2 * u) / duration**2)
    d = q_end - q_start
    return JointTrajectory(ARM, times, q_start + np.outer(s, d), np.outer(ds, d), np.outer(dds, d))


class Robot(Node):
    """Follows trajectories exactly; holds where it is when a goal is canceled.

    `reject`, `abort` (code, text), `ignore` (accept and never move), `skips` (calls a motion done
    that it has not begun), `offset` (7,) rad (something pushes it aside), `late` s, `slow_grip` (a
    gripper that does not end), `stubborn` (rejects cancel requests), `mute` (answers no goal
    request while set), `drops` (the gripper aborts) and `max_width` m (it aborts what is wider, as
    franka_gripper does) make it misbehave. `asked` is set once a goal has come in.
    """

    def __init__(self, gripper_type: str = 'GripperCommand', config: str = 'panda') -> None:
        super().__init__('robot')
        self.config = RobotConfig.named(config)
        group = ReentrantCallbackGroup()
        self.q, self.opening = self.config.home.copy(), self.config.opening[1]
        self.goals: list[Any] = []
        self.gripper_goals: list[Any] = []
        self.moving = False
        self.reject, self.ignore, self.stalls, self.drops = False, False, False, False
        self.skips = False
        self.abort: tuple[int, str] | None = None
        self.offset, self.late = np.zeros(len(self.config.joints)), 0.0
        self.slow_grip, self.stubborn = False, False
        self.max_width = np.inf
        self.mute, self.asked = threading.Event(), threading.Event()
        self.canceled: list[str] = []  # names of the actions whose goals were canceled
        self._states = self.create_publisher(JointState, '/joint_states', 10)
        self._timer = self.create_timer(0.02, self._publish, callback_group=group)
        self._busy = threading.Lock()
        accept = {'goal_callback': self._accept, 'callback_group': group,
                  'cancel_callback': lambda _: (CancelResponse.REJECT if self.stubborn
                                                else CancelResponse.ACCEPT)}
        names = self.config.controllers
        ActionServer(self, FollowJointTrajectory, names.arm_action, self._follow, **accept)
        kind = GripperCommand if gripper_type == 'GripperCommand' else ParallelGripperCommand
        ActionServer(self, kind, names.gripper_action, self._grip,
                     **{**accept, 'goal_callback': self._accept_grip})

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Answer no goal request meanwhile, or until `mute` is cleared."""
        self.mute.set()
        try:
            yield
        finally:
            self.mute.clear()

    def silence(self) -> None:
        """Publish no joint states any more."""
        self._timer.cancel()

    def _accept(self, _: Any) -> GoalResponse:
        self.asked.set()
        while self.mute.is_set():
            time.sleep(0.005)
        return GoalResponse.REJECT if self.reject else GoalResponse.ACCEPT

    def _accept_grip(self, goal: Any) -> GoalResponse:
        # As parallel_gripper_action_controller does.
        if isinstance(goal, ParallelGripperCommand.Goal) and len(goal.command.position) != 1:
            return GoalResponse.REJECT
        return self._accept(goal)

    def _publish(self) -> None:
        fingers = self.config.finger_joints
        position = [*self.q.tolist(),
                    *[self.config.finger_position(self.opening)] * len(fingers)]
        message = JointState(name=[*self.config.joints, *fingers], position=position,
                             velocity=[0.0] * len(position))
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def _follow(self, handle: Any) -> Any:
        result = FollowJointTrajectory.Result()
        self.goals.append(handle.request)
        if self.skips:
            handle.succeed()
            return result
        follower = TrajectoryFollower(
            conversions.joint_trajectory_from_msg(handle.request.trajectory))
        try:
            return self._track(handle, follower, result)
        finally:
            self.moving = False

    def _track(self, handle: Any, follower: TrajectoryFollower, result: Any) -> Any:
        start = time.monotonic()
        while self.ignore or time.monotonic() - start < follower.duration + self.late:
            if handle.is_cancel_requested:
                self.canceled.append('arm')
                handle.canceled()
                return result
            if self.abort is not None and time.monotonic() - start > 0.1:
                result.error_code, result.error_string = self.abort
                handle.abort()
                return result
            if not self.ignore:
                t = time.monotonic() - start - self.late
                self.q = follower.sample(t)[0] + self.offset
                self.moving = True
            time.sleep(0.005)
        self.q = follower.sample(follower.duration)[0]
        handle.succeed()
        return result

    def _grip(self, handle: Any) -> Any:
        self.gripper_goals.append(handle.request)
        while self.slow_grip:
            if handle.is_cancel_requested:
                self.canceled.append('gripper')
                handle.canceled()
                return GripperCommand.Result()
            time.sleep(0.005)
        command = handle.request.command
        if self.drops or 2.0 * np.max(command.position) > self.max_width:
            handle.abort()
            return GripperCommand.Result()
        position = command.position
        self.opening = self.config.opening_at(np.atleast_1d(position))
        if isinstance(position, float):
            result = GripperCommand.Result(stalled=self.stalls, reached_goal=not self.stalls)
        else:
            result = ParallelGripperCommand.Result(stalled=self.stalls,
                                                   reached_goal=not self.stalls)
        (handle.abort if self.stalls else handle.succeed)()
        return result
