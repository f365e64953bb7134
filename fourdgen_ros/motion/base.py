# SPDX-License-Identifier: Apache-2.0
"""What a planner, its parts and an arm executor look like to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.types import GripperCommand, GripperTrajectory, JointTrajectory, MotionPlan

Array = NDArray[np.float64]


class Planner(Protocol):
    """Turns a gripper trajectory into a checked motion. Nothing moves."""

    def plan(self, trajectory: GripperTrajectory, joints: NDArray[np.float64], opening: float, *,
             frames: int | None = None, now_ns: int, steady_ns: int | None = None,
             skip_passed: bool = False) -> MotionPlan:
        """Plan from the robot's state now along the first `frames` poses (None: all).

        `trajectory` lies in the robot base frame and its pose 0 is where the robot is, or, with
        `skip_passed`, one of its poses: it has moved on since, and frames count from there.
        `joints` (J,) rad; `opening` m. `now_ns` is read from the clock of `trajectory.stamp`;
        `steady_ns` from the clock in which the plan expires (None: the same clock). Raises
        PlanningError.
        """
        ...


@dataclass(frozen=True, eq=False)
class TimedPath:
    """Joint positions (n, J) every `dt` s, at rest at both ends; `fraction` of the path reached."""

    positions: Array
    dt: float
    fraction: float


class Follower(Protocol):
    """Inverse kinematics and timing along a Cartesian path; there may be several ways to do it."""

    variants: int

    def follow(self, poses: Array, joints: Array, *, variant: int, velocity_scaling: float,
               acceleration_scaling: float) -> TimedPath:
        """Motion of the TCP along poses (n, 4, 4), the first of which is FK of `joints` (J,).

        `variant` counts from 0. When only a first part can be reached, that part. Raises
        PlanningError when there is none.
        """
        ...


class Kinematics(Protocol):
    """Where the TCP is."""

    def fk(self, joints: Array) -> Array:
        """T_base_tcp (4, 4) at joints (J,) rad."""
        ...

    def fk_path(self, path: Array) -> Array:
        """T_base_tcp (n, 4, 4) along joint positions (n, J)."""
        ...


@dataclass(frozen=True)
class Contact:
    """Bodies `a` and `b` touch at point `index` of a path."""

    index: int
    a: str
    b: str


class Bodies(Protocol):
    """What may not touch."""

    def first_contact(self, path: Array, opening: float) -> Contact | None:
        """Find the first contact along joint positions (n, J) with the gripper open by `opening` m.

        Raises PlanningError when it cannot be told.
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
