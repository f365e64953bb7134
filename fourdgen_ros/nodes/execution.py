# SPDX-License-Identifier: Apache-2.0
"""Node `execution`: plans motions (action `plan_motion`) and executes them (`execute_plan`).

Nothing moves unless the mode allows it, and `~/stop` ends whatever moves. A software stop is not an
emergency stop: keep the robot's own one within reach.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core.errors import ExecutionError, InputError, PlanningError
from fourdgen_ros.core.health import Latencies, Status, execution_status
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.types import JointTrajectory, MotionPlan
from fourdgen_ros.motion.base import Kinematics, Planner
from fourdgen_ros.motion.deviation import DeviationLimits
from fourdgen_ros.motion.modes import ExecutionMode, LedgerError, PlanLedger, Refusal
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.motion.safety import CheckError, SafetyLimits, check_start
from fourdgen_ros.motion.watchdog import Watchdog
from fourdgen_ros.msg import MotionPlan as MotionPlanMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import POLL, ActionError, CanceledError, Goal, Worker, serve_action
from fourdgen_ros.nodes.base import run_node
from fourdgen_ros.nodes.controllers import Controllers, RejectedError, UnstoppedError
from fourdgen_ros.nodes.deviation_guard import DeviationGuard
from fourdgen_ros.nodes.execution_parameters import LIMITS, declare_execution
from fourdgen_ros.nodes.faults import FaultPublisher
from fourdgen_ros.nodes.joints import Joints
from fourdgen_ros.nodes.lifecycle import ManagedNode
from fourdgen_ros.nodes.planners import make_kinematics, make_planner
from fourdgen_ros.nodes.qos import LATCHED, SENSOR, qos_events
from fourdgen_ros.srv import ConfirmPlan

Result = ExecutePlan.Result
REFUSALS = {Refusal.UNKNOWN: Result.UNKNOWN_PLAN, Refusal.EXPIRED: Result.EXPIRED,
            Refusal.TAKEN: Result.EXPIRED, Refusal.NOT_CONFIRMED: Result.NOT_CONFIRMED,
            Refusal.DRY_RUN: Result.DRY_RUN}


class ExecutionNode(ManagedNode):
    """The only node that moves the robot."""

    def __init__(self, planner: Planner | None = None, **options: Any) -> None:
        """`planner` overrides the one of the parameters."""
        super().__init__('execution', **options)
        declare_execution(self)
        self._given = planner
        self._watchdog: Watchdog | None = None
        self._controllers: Controllers | None = None
        self._planner: Planner | None = None
        self._kinematics: Kinematics | None = None
        self._ledger = PlanLedger(ExecutionMode.DRY_RUN)
        self._stop_requested = False
        self._latching = threading.Lock()
        self._latched, self._last_fault = 0, ''  # how often a fault was latched, and the last
        self._faults = FaultPublisher(self)
        self._executing = threading.Event()
        self._doing = 'ready'
        self._latencies = Latencies()
        # Answered at once whatever else goes on: a group of its own.
        self.create_service(Trigger, '~/stop', self._on_stop,
                            callback_group=MutuallyExclusiveCallbackGroup())
        self.create_service(Trigger, '~/reset_fault', self._on_reset, callback_group=self.group)
        self.create_service(ConfirmPlan, 'confirm_plan', self._on_confirm,
                            callback_group=self.group)
        serve_action(self, PlanMotion, 'plan_motion', self._plan,
                     unexpected=PlanMotion.Result.PLANNING_FAILED,
                     canceled=PlanMotion.Result.PLANNING_FAILED,
                     codes={CheckError: PlanMotion.Result.CHECK_FAILED,
                            PlanningError: PlanMotion.Result.PLANNING_FAILED,
                            InputError: PlanMotion.Result.INVALID_TRAJECTORY})
        serve_action(self, ExecutePlan, 'execute_plan', self._execute,
                     unexpected=Result.CONTROLLER_ABORTED, canceled=Result.STOPPED,
                     codes={CheckError: Result.CHECK_FAILED, InputError: Result.CHECK_FAILED},
                     busy=Result.BUSY)
        self.report(lambda: {'execution': self._status()})

    def configure(self) -> None:
        """Read the robot and the limits, load the planner, look for the controllers.

        A fault that was latched stays until it is reset, whatever transitions come.
        """
        self._worker = Worker()
        self._robot = RobotConfig.from_yaml(
            share_directory() / 'config' / 'robots' / f'{self.value("robot")}.yaml')
        self._limits = SafetyLimits(**{key: self.value(key) for key in LIMITS})
        self._joint_timeout = self.value('joint_state_timeout')
        self._heartbeat_timeout = self.value('heartbeat_timeout')
        fault = None if self._watchdog is None else self._watchdog.fault
        self._watchdog = Watchdog(self._joint_timeout, self._heartbeat_timeout or None)
        if fault is not None:
            self._watchdog.stop(fault)
        self._ledger = PlanLedger(ExecutionMode(self.value('execution_mode')))
        self._deviation = DeviationLimits(
            **{name: self.value(f'deviation_{name}') for name in ('distance', 'angle', 'lag')})
        # Its own: the planner's is used by another thread.
        self._kinematics = make_kinematics(self, self._robot) if self._deviation.watched else None
        self._planner = self._given if self._given is not None else make_planner(
            self, self._robot, self._limits)
        names = self._robot.controllers
        self._controllers = Controllers(
            self, robot=self._robot, arm_action=self.value('arm_action') or names.arm_action,
            gripper_action=self.value('gripper_action') or names.gripper_action,
            gripper_type=self.value('gripper_action_type') or names.gripper_action_type,
            execute_action=self.value('execute_action'), time_factor=self.value('time_factor'),
            time_margin=self.value('time_margin'), gripper_timeout=self.value('gripper_timeout'))

    def activate(self) -> None:
        """Listen to the robot and the heartbeat."""
        watchdog = self._watchdog
        self._joints = Joints(self, self._robot.joints,
                              lambda: watchdog.joint_states(time.monotonic_ns()))
        self._publisher = self.create_publisher(MotionPlanMsg, 'plan', LATCHED)
        self.inputs.subscribe(
            Empty, 'heartbeat', lambda _: watchdog.heartbeat(time.monotonic_ns()), SENSOR,
            event_callbacks=qos_events(self, 'heartbeat'))

    def deactivate(self) -> None:
        """Stop a motion under way; the plans are void."""
        self._ledger.void()
        if self._executing.is_set():
            self._controllers.stop()

    def cleanup(self) -> None:
        """Forget planner and controllers."""
        self._controllers = self._planner = self._kinematics = None
        self._worker.close()

    # --- planning -----------------------------------------------------------------------------

    def _plan(self, goal: Goal, result: Any) -> None:
        since = self._latched
        self._require_no_fault(PlanMotion.Result.FAULT, since)
        trajectory = conversions.gripper_trajectory_from_msg(goal.request.trajectory)
        try:
            joints = self._joints.positions(self._robot.joints, self._joint_timeout)
            fingers = self._joints.positions(self._robot.finger_joints, self._joint_timeout)
        except InputError as error:
            raise ActionError(PlanMotion.Result.NO_JOINT_STATE, str(error)) from error
        frames = goal.request.frames if goal.request.frames > 0 else None
        goal.feedback(stage='plan')
        start = time.monotonic()
        plan = self._worker.run(goal, lambda: self._planner.plan(
            trajectory, joints, self._robot.opening_at(fingers), frames=frames,
            now_ns=self.get_clock().now().nanoseconds, steady_ns=time.monotonic_ns(),
            skip_passed=goal.request.skip_passed))
        self._latencies.add('plan', time.monotonic() - start)
        with self._latching:
            self._require_no_fault(PlanMotion.Result.FAULT, since)
            self._ledger.register(plan)
        result.plan = conversions.motion_plan_to_msg(
            plan, self._robot.base_link, ros_now_ns=self.get_clock().now().nanoseconds,
            steady_now_ns=time.monotonic_ns())
        self._publisher.publish(result.plan)

    # --- execution ----------------------------------------------------------------------------

    def _execute(self, goal: Goal, result: Any) -> None:
        since = self._latched
        try:
            plan = self._take(goal, since)
            self._wait_for_heartbeat(goal, since, plan)
        finally:
            self._doing = 'ready'
        guard = self._guard(plan)
        self._executing.set()
        self._watchdog.arm(time.monotonic_ns())
        start = time.monotonic()
        try:
            self._require_no_fault(Result.FAULT, since)  # from here on there is no reset
            for i, segment in enumerate(plan.segments):
                arm = isinstance(segment, JointTrajectory)
                self._doing = (f'executing {"arm" if arm else "gripper"} segment {i + 1} of '
                               f'{len(plan.segments)} of plan {plan.plan_id}')
                goal.feedback(segment=i, segments=len(plan.segments),
                              stage='arm' if arm else 'gripper')
                self._run(goal, plan, i, guard)
        finally:
            self._watchdog.disarm()
            if self._watchdog.fault is not None:
                self._latch(self._watchdog.fault)
            self._executing.clear()
            if guard is not None:
                result.deviation, result.deviation_angle = guard.worst
            self._doing = 'ready'
            self._latencies.add('execute', time.monotonic() - start)

    def _take(self, goal: Goal, since: int) -> MotionPlan:
        """Take the plan of the goal; waits for its confirmation where the mode asks for one."""
        plan_id, waiting = goal.request.plan_id, False
        while True:
            goal.check()
            self._require_no_fault(Result.FAULT, since)
            try:
                return self._ledger.take(plan_id, time.monotonic_ns())
            except LedgerError as error:
                if error.refusal is not Refusal.NOT_CONFIRMED:
                    code = Result.NOT_CONFIRMED if waiting else REFUSALS[error.refusal]
                    raise ActionError(code, str(error)) from error
            if not waiting:
                waiting = True
                self._doing = f'waiting for the confirmation of plan {plan_id}'
                goal.feedback(stage='waiting_for_confirmation')
            time.sleep(POLL)

    def _wait_for_heartbeat(self, goal: Goal, since: int, plan: MotionPlan) -> None:
        """Wait until somebody is heard who watches over the motion: discovery may be late.

        Raises ActionError when nobody is within `heartbeat_timeout`, or before the plan expires.
        """
        end = min(time.monotonic_ns() + round(self._heartbeat_timeout * 1e9), plan.expiry)
        while not self._watchdog.heartbeat_heard(time.monotonic_ns()):
            self._doing = 'waiting for a heartbeat'
            goal.check()
            self._require_no_fault(Result.FAULT, since)
            if time.monotonic_ns() > end:
                error = ExecutionError(
                    f'no heartbeat on topic {self.resolve_topic_name("heartbeat")!r}',
                    expected=f'one within {self._heartbeat_timeout:.2f} s',
                    got='none, so nothing was sent to the robot',
                    hint='The task loop sends it: does it run, and here? Then plan again.')
                raise ActionError(Result.WATCHDOG, str(error))
            time.sleep(POLL)

    def _guard(self, plan: MotionPlan) -> DeviationGuard | None:
        if self._kinematics is None:
            return None
        return DeviationGuard(plan, self._deviation, self._kinematics, self._joints,
                              self._robot.joints)

    def _run(self, goal: Goal, plan: MotionPlan, index: int, guard: DeviationGuard | None) -> None:
        def interrupted() -> bool:
            return (goal.canceled or self._watchdog.check(time.monotonic_ns()) is not None
                    or (guard is not None and guard.exceeded()))

        segment = plan.segments[index]
        arm = isinstance(segment, JointTrajectory)
        if guard is not None and not arm:
            guard.begin(index)  # before the fingers are told: what they let go is gone
        if arm or index == 0:
            # Just before sending, and against this segment: what came before may have ended early.
            joints = self._joints.positions(self._robot.joints, self._joint_timeout)
            check_start(replace(plan, segments=plan.segments[index:]), joints, self._limits)
        try:
            self._controllers.run(segment, interrupted,
                                  lambda: None if guard is None else guard.begin(index))
        except RejectedError as error:
            raise ActionError(Result.CONTROLLER_REJECTED, str(error)) from error
        except UnstoppedError as error:
            self._latch(error.problem)
            raise ActionError(Result.CONTROLLER_ABORTED, str(error)) from error
        except ExecutionError as error:
            raise ActionError(Result.CONTROLLER_ABORTED, str(error)) from error
        except CanceledError:
            fault = self._watchdog.fault
            if fault is not None:
                code = Result.STOPPED if self._stop_requested else Result.WATCHDOG
                raise ActionError(code, self._fault_text()) from None
            if guard is None or guard.error is None or goal.canceled:
                raise
        except Exception:
            self._controllers.stop()  # whatever went wrong here, nothing may go on moving
            raise
        finally:
            if guard is not None:
                guard.end()
        if guard is not None and guard.error is not None:
            raise ActionError(Result.DEVIATED, f'{guard.error} (segment {index + 1} of '
                                               f'{len(plan.segments)}, stopped)')

    # --- faults -------------------------------------------------------------------------------

    def _latch(self, reason: str) -> None:
        """Latch a fault; what was planned before it is not executed, also after a reset."""
        with self._latching:
            self._watchdog.stop(reason)
            self._ledger.void()
            self._latched, self._last_fault = self._latched + 1, self._watchdog.fault
            self._faults.tell(self._last_fault)

    def _require_no_fault(self, code: int, since: int) -> None:
        """Raise ActionError when there is a fault, or was one since `_latched` was `since`."""
        if self._watchdog.fault is not None:
            raise ActionError(code, self._fault_text())
        if self._latched != since:
            raise ActionError(code, f'{self._last_fault}; reset meanwhile. Begin anew.')

    def _fault_text(self) -> str:
        return (f'{self._watchdog.fault}. Look at the robot, then call '
                f'{self.get_fully_qualified_name()}/reset_fault.')

    # --- services -----------------------------------------------------------------------------

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        controllers = self._controllers
        if controllers is None:
            response.message = (f'{self.get_fully_qualified_name()} is {self.state}: it moves '
                                f'nothing and knows no controllers; use the robot\'s own stop')
            self.get_logger().error(response.message)
            return response
        self._stop_requested = True
        self._latch('stopped on request')
        controllers.stop()
        response.success = True
        response.message = 'stopped; call reset_fault before the next motion'
        self.get_logger().warning(response.message)
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._executing.is_set():
            response.message = 'a motion is still under way'
            return response
        unstopped = '' if self._controllers is None else self._controllers.unstopped
        if unstopped:
            response.message = (
                f'controller {unstopped!r} has not ended what it was told to end: the robot may '
                f'move. Use the emergency stop, look at the driver; where the controller was '
                f'started anew, deactivate, clean up, configure and activate this node')
            return response
        with self._latching:
            fault = self._watchdog.reset() if self._watchdog is not None else None
            self._faults.tell('')
        self._stop_requested = False
        response.success = True
        response.message = 'there was no fault' if fault is None else f'cleared: {fault}'
        self.get_logger().warning(response.message)
        return response

    def _on_confirm(self, request: ConfirmPlan.Request,
                    response: ConfirmPlan.Response) -> ConfirmPlan.Response:
        if self._watchdog is not None and self._watchdog.fault is not None:
            response.message = self._fault_text()
            return response
        try:
            self._ledger.confirm(request.plan_id, time.monotonic_ns())
            response.success, response.message = True, 'confirmed'
        except LedgerError as error:
            response.message = str(error)
        return response

    def _status(self) -> Status:
        return execution_status(
            self._doing, mode=self._ledger.mode.value, fault=self._watchdog.fault,
            joint_age=self._joints.age(self._robot.joints), joint_timeout=self._joint_timeout,
            velocity_scaling=self._limits.velocity_scaling, latencies=self._latencies)


def main() -> int:
    """Entry point of the executable `execution`."""
    return run_node(ExecutionNode)


if __name__ == '__main__':
    sys.exit(main())
