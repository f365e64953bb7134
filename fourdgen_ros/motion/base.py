# SPDX-License-Identifier: Apache-2.0
"""What a planner and an arm executor look like to the rest of the package."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.types import GripperCommand, GripperTrajectory, JointTrajectory, MotionPlan


class Planner(Protocol):
    """Turns a gripper trajectory into a checked motion. Nothing moves."""

    def plan(self, trajectory: GripperTrajectory, joints: NDArray[np.float64], opening: float, *,
             frames: int | None = None, now_ns: int, steady_ns: int | None = None) -> MotionPlan:
        """Plan from the robot's state now along the first `frames` poses (None: all).

        `trajectory` lies in the robot base frame and its pose 0 is where the robot is; `joints`
        (J,) rad; `opening` m. `now_ns` is read from the clock of `trajectory.stamp`; `steady_ns`
        from the clock in which the plan expires (None: the same clock). Raises PlanningError.
        """
        ...


class ArmExecutor(Protocol):
    """Moves one arm and its gripper. Calls block; `stop` may come from another thread."""

    def move(self, trajectory: JointTrajectory) -> None:
        """Follow the trajectory to its end. Raises ExecutionError."""
        ...

    def grip(self, command: GripperCommand) -> float:
        """Move the fingers and return the opening reached (m). Raises ExecutionError."""
        ...

    def stop(self) -> None:
        """End the motion under way as fast as the controller allows. Not an emergency stop."""
        ...
