# SPDX-License-Identifier: Apache-2.0
"""Holds the robot against the plan that it executes: FK of joint states, in steady time."""

from __future__ import annotations

import time

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import MotionPlan
from fourdgen_ros.motion.base import Kinematics
from fourdgen_ros.motion.deviation import PERIOD, DeviationError, DeviationLimits, DeviationMonitor
from fourdgen_ros.nodes.joints import Joints


class DeviationGuard:
    """Watches one plan, segment by segment; used by the one thread that executes it."""

    def __init__(self, plan: MotionPlan, limits: DeviationLimits, kinematics: Kinematics,
                 joints: Joints, names: tuple[str, ...]) -> None:
        """`names` of the arm's joints. Raises InputError for a plan without its TCP path."""
        self._kinematics, self._joints, self._names = kinematics, joints, names
        self._monitors = [DeviationMonitor(*path, limits) for path in plan.tcp_paths()]
        self._monitor: DeviationMonitor | None = None
        self._start = self._next = 0.0
        self.error: DeviationError | None = None

    @property
    def worst(self) -> tuple[float, float]:
        """Greatest distance (m) and angle (rad) so far."""
        return (max((m.distance for m in self._monitors), default=0.0),
                max((m.angle for m in self._monitors), default=0.0))

    def begin(self, segment: int) -> None:
        """The time of this segment counts from now, when its controller has accepted it; a gripper
        command, during which the arm stands, is looked at from before it is sent."""
        self._monitor, self._start = self._monitors[segment], time.monotonic()
        self._next = 0.0

    def end(self) -> None:
        """The segment is over: the arm is not watched until the next begins."""
        self._monitor = None

    def exceeded(self) -> bool:
        """Whether the robot is, or was, not where the plan has it; looks at most every 20 ms."""
        now = time.monotonic()
        if self.error is None and self._monitor is not None and now >= self._next:
            self._next = now + PERIOD
            try:
                joints = self._joints.positions(self._names, float('inf'))
            except InputError:
                return False  # the watchdog stops an arm that does not tell where it is
            try:
                self._monitor.check(self._kinematics.fk(joints), now - self._start)
            except DeviationError as error:
                self.error = error
        return self.error is not None
