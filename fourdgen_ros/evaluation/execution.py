# SPDX-License-Identifier: Apache-2.0
"""Execute a plan on a simulated cell in this process, as fast as physics goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.core.types import GripperCommand, JointTrajectory, MotionPlan
from fourdgen_ros.motion.deviation import PERIOD, DeviationError, DeviationLimits, DeviationMonitor
from fourdgen_ros.sim.trajectory import Status, Tolerances, TrajectoryFollower

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

STEP = 0.002  # s, one step of physics
PATH_TOLERANCE = 0.2  # rad
GOAL_TOLERANCE = 0.02  # rad
GOAL_TIME = 1.0  # s
STOPPED = 0.05  # rad/s
_SETTLED = 5e-4  # m of finger motion within one window
_WINDOW = 0.1  # s
_GRIPPER_LIMIT = 2.5  # s


def execute(cell: Cell, plan: MotionPlan, observe: Callable[[], None] = lambda: None) -> None:
    """Run all segments of a plan; `observe` is called after every 2 ms of simulated time.

    Raises DeviationError when the tool is not where it was imagined, and ExecutionError when a
    joint leaves its tolerance or the fingers do not come to rest; the arm then holds where it is.
    """
    for segment, (times, poses) in zip(plan.segments, plan.tcp_paths(), strict=True):
        look = _every(cell, DeviationMonitor(times, poses, DeviationLimits()), observe)
        try:
            if isinstance(segment, JointTrajectory):
                _move(cell, segment, look)
            else:
                _grip(cell, segment, look)
        except DeviationError:
            _hold(cell)
            raise


def _every(cell: Cell, monitor: DeviationMonitor,
           observe: Callable[[], None]) -> Callable[[], None]:
    """`observe`, and a look at the tool at the rate at which the execution node looks."""
    start, period, steps = cell.time, round(PERIOD / STEP), itertools.count(1)

    def look() -> None:
        observe()
        if next(steps) % period == 0:
            monitor.check(cell.tcp_pose(), cell.time - start)

    return look


def _hold(cell: Cell) -> None:
    cell.set_arm_target(cell.joint_positions, np.zeros(len(cell.joint_positions)))


def _move(cell: Cell, trajectory: JointTrajectory, observe: Callable[[], None]) -> None:
    joints = len(trajectory.joint_names)
    follower = TrajectoryFollower(trajectory, tolerances=Tolerances(
        np.full(joints, PATH_TOLERANCE), np.full(joints, GOAL_TOLERANCE), GOAL_TIME, STOPPED))
    step = 0
    while True:
        step += 1
        q, qd, _ = follower.sample(step * STEP)
        cell.set_arm_target(q, qd)
        cell.step(STEP)
        observe()
        outcome = follower.check(step * STEP, cell.joint_positions, cell.joint_velocities)
        if outcome.status is Status.SUCCEEDED:
            return
        if outcome.status is not Status.RUNNING:
            _hold(cell)
            raise ExecutionError(f'arm motion: {outcome.status.value}', got=outcome.message,
                                 hint='Something is in the way, or the motion is too fast.')


def _grip(cell: Cell, command: GripperCommand, observe: Callable[[], None]) -> None:
    """Fingers count as arrived when their servo asks for no more and they rest, at the goal or on
    an object."""
    cell.set_gripper_target(command.opening)
    window = round(_WINDOW / STEP)
    before = cell.opening
    for step in range(1, round(_GRIPPER_LIMIT / STEP) + 1):
        cell.step(STEP)
        observe()
        if step % window == 0:
            now = cell.opening
            if abs(now - before) < _SETTLED and not cell.gripper_ramping:
                return
            before = now
    raise ExecutionError('gripper', expected=f'at rest after {_GRIPPER_LIMIT} s',
                         got=f'still moving at opening {1e3 * before:.1f} mm',
                         hint='Something moves between the fingers: look at the scene.')
