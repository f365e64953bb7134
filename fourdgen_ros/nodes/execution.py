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
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.types import GripperCommand, JointTrajectory, MotionPlan
from fourdgen_ros.motion.base import Planner
from fourdgen_ros.motion.modes import ExecutionMode, LedgerError, PlanLedger, Refusal
from fourdgen_ros.motion.robot import GRIPPER_ACTIONS, RobotConfig
from fourdgen_ros.motion.safety import CheckError, SafetyLimits, check_start
from fourdgen_ros.motion.watchdog import Watchdog
from fourdgen_ros.msg import MotionPlan as MotionPlanMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import POLL, ActionError, CanceledError, Goal, Worker, serve_action
from fourdgen_ros.nodes.base import ERROR, OK, StageNode, Status, run_node
from fourdgen_ros.nodes.controllers import Controllers, RejectedError
from fourdgen_ros.nodes.joints import Joints
from fourdgen_ros.nodes.planners import declare_planning, make_planner
from fourdgen_ros.nodes.qos import LATCHED, SENSOR, qos_events
from fourdgen_ros.srv import ConfirmPlan

Result = ExecutePlan.Result
REFUSALS = {Refusal.UNKNOWN: Result.UNKNOWN_PLAN, Refusal.EXPIRED: Result.EXPIRED,
            Refusal.TAKEN: Result.EXPIRED, Refusal.NOT_CONFIRMED: Result.NOT_CONFIRMED,
            Refusal.DRY_RUN: Result.DRY_RUN}
LIMITS = {
    'velocity_scaling': (0.1, 0.01, 1.0, 'share of the robot\'s joint velocities that is used'),
    'acceleration_scaling': (0.1, 0.01, 1.0, 'share of the robot\'s joint accelerations'),
    'tcp_speed': (0.25, 0.001, 2.0, 'greatest speed of the tool centre point [m/s]'),
    'max_age': (30.0, 0.1, 600.0, 'greatest age of a trajectory\'s observation [s]'),
    'plan_lifetime': (30.0, 0.1, 600.0, 'how long a plan may be started [s]'),
    'min_confidence': (0.2, 0.0, 1.0, 'least tracking confidence of a pose that is followed'),
    'min_fraction': (0.5, 0.0, 1.0, 'least share of the path that must be reachable'),
    'start_distance': (0.03, 0.0, 0.2, 'between the tracked start and the robot [m]'),
    'start_angle': (0.35, 0.0, 3.2, 'between the tracked start and the robot [rad]'),
    'start_joints': (0.01, 0.0, 0.2, 'between a motion\'s start and the robot, per joint [rad]'),
}


class ExecutionNode(StageNode):
    """The only node that moves the robot."""

    def __init__(self, planner: Planner | None = None, **options: Any) -> None:
        """Start; `planner` overrides the one of the parameters."""
        super().__init__('execution', **options)
        name = self.parameter('robot', 'panda', 'robot: the name of a file in config/robots')
        self._robot = RobotConfig.from_yaml(
            share_directory() / 'config' / 'robots' / f'{name}.yaml')
        self._ledger = PlanLedger(ExecutionMode(self.parameter(
            'execution_mode', 'dry_run', 'dry_run: nothing is ever sent; confirm: every plan needs '
            'confirm_plan with its id; auto: plans are executed on request',
            choices=[mode.value for mode in ExecutionMode])))
        self._limits = SafetyLimits(**{
            key: self.parameter(key, default, description, low=low, high=high)
            for key, (default, low, high, description) in LIMITS.items()})
        self._joint_timeout = self.parameter(
            'joint_state_timeout', 0.5, 'no joint states for this long stop the robot [s]',
            low=0.05, high=5.0)
        heartbeat = self.parameter(
            'heartbeat_timeout', 1.0, 'no `heartbeat` for this long stops the robot; 0: no '
            'heartbeat is asked for [s]', low=0.0, high=10.0)
        self._watchdog = Watchdog(self._joint_timeout, heartbeat if heartbeat > 0.0 else None)
        self._stop_requested = False
        self._executing = threading.Event()
        self._worker = Worker()
        declare_planning(self)
        self._planner = planner if planner is not None else make_planner(
            self, self._robot, self._limits)
        self._controllers = self._make_controllers()
        self._joints = Joints(self, self._robot.joints,
                              lambda: self._watchdog.joint_states(time.monotonic_ns()))
        self._publisher = self.create_publisher(MotionPlanMsg, 'plan', LATCHED)
        self.create_subscription(
            Empty, 'heartbeat', lambda _: self._watchdog.heartbeat(time.monotonic_ns()), SENSOR,
            callback_group=self.group, event_callbacks=qos_events(self, 'heartbeat'))
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
        self.report('execution', self._status)

    def _make_controllers(self) -> Controllers:
        names = self._robot.controllers
        arm = self.parameter('arm_action', '', 'FollowJointTrajectory action of the arm '
                             'controller; empty: that of the robot file')
        gripper = self.parameter('gripper_action', '', 'action of the gripper controller; empty: '
                                 'that of the robot file')
        gripper_type = self.parameter(
            'gripper_action_type', '', 'type of the gripper action, of control_msgs; empty: that '
            'of the robot file', choices=['', *GRIPPER_ACTIONS])
        execute = self.parameter('execute_action', '', 'action of move_group that passes arm '
                                 'motions on; empty: they go to arm_action directly')
        factor = self.parameter('time_factor', 1.5, 'an arm motion may take this many times its '
                                'duration ...', low=1.0, high=10.0)
        margin = self.parameter('time_margin', 3.0, '... and this much more [s]',
                                low=0.1, high=60.0)
        timeout = self.parameter('gripper_timeout', 5.0, 'time limit of a gripper command [s]',
                                 low=0.1, high=60.0)
        return Controllers(
            self, arm_action=arm or names.arm_action,
            gripper_action=gripper or names.gripper_action,
            gripper_type=gripper_type or names.gripper_action_type,
            robot=self._robot, time_factor=factor, time_margin=margin, gripper_timeout=timeout,
            execute_action=execute)

    # --- planning -----------------------------------------------------------------------------

    def _plan(self, goal: Goal, result: Any) -> None:
        if self._watchdog.fault is not None:
            raise ActionError(PlanMotion.Result.FAULT, self._fault_text())
        trajectory = conversions.gripper_trajectory_from_msg(goal.request.trajectory)
        try:
            joints = self._joints.positions(self._robot.joints, self._joint_timeout)
            fingers = self._joints.positions(self._robot.finger_joints, self._joint_timeout)
        except InputError as error:
            raise ActionError(PlanMotion.Result.NO_JOINT_STATE, str(error)) from error
        frames = goal.request.frames if goal.request.frames > 0 else None
        goal.feedback(stage='plan')
        plan = self._worker.run(goal, lambda: self._planner.plan(
            trajectory, joints, self._robot.opening_at(fingers), frames=frames,
            now_ns=self.get_clock().now().nanoseconds, steady_ns=time.monotonic_ns()))
        self._ledger.register(plan)
        result.plan = conversions.motion_plan_to_msg(
            plan, self._robot.base_link, ros_now_ns=self.get_clock().now().nanoseconds,
            steady_now_ns=time.monotonic_ns())
        self._publisher.publish(result.plan)

    # --- execution ----------------------------------------------------------------------------

    def _execute(self, goal: Goal, result: Any) -> None:
        plan = self._take(goal)
        self._executing.set()
        self._watchdog.arm(time.monotonic_ns())
        try:
            for i, segment in enumerate(plan.segments):
                arm = isinstance(segment, JointTrajectory)
                goal.feedback(segment=i, segments=len(plan.segments),
                              stage='arm' if arm else 'gripper')
                self._run(goal, plan, i, segment)
        finally:
            self._watchdog.disarm()
            self._executing.clear()

    def _take(self, goal: Goal) -> MotionPlan:
        """Take the plan of the goal; waits for its confirmation where the mode asks for one."""
        plan_id, waiting = goal.request.plan_id, False
        while True:
            goal.check()
            self._require_no_fault()
            try:
                return self._ledger.take(plan_id, time.monotonic_ns())
            except LedgerError as error:
                if error.refusal is not Refusal.NOT_CONFIRMED:
                    code = Result.NOT_CONFIRMED if waiting else REFUSALS[error.refusal]
                    raise ActionError(code, str(error)) from error
            if not waiting:
                waiting = True
                goal.feedback(stage='waiting_for_confirmation')
            time.sleep(POLL)

    def _run(self, goal: Goal, plan: MotionPlan, index: int,
             segment: JointTrajectory | GripperCommand) -> None:
        def interrupted() -> bool:
            return goal.canceled or self._watchdog.check(time.monotonic_ns()) is not None

        if isinstance(segment, JointTrajectory):
            # Just before sending, and against this segment: what came before may have ended early.
            joints = self._joints.positions(self._robot.joints, self._joint_timeout)
            check_start(replace(plan, segments=plan.segments[index:]), joints, self._limits)
        try:
            self._controllers.run(segment, interrupted)
        except RejectedError as error:
            raise ActionError(Result.CONTROLLER_REJECTED, str(error)) from error
        except ExecutionError as error:
            raise ActionError(Result.CONTROLLER_ABORTED, str(error)) from error
        except CanceledError:
            fault = self._watchdog.fault
            if fault is None:
                raise
            code = Result.STOPPED if self._stop_requested else Result.WATCHDOG
            raise ActionError(code, self._fault_text()) from None

    def _require_no_fault(self) -> None:
        if self._watchdog.fault is not None:
            raise ActionError(Result.FAULT, self._fault_text())

    def _fault_text(self) -> str:
        return (f'{self._watchdog.fault}. Look at the robot, then call '
                f'{self.get_fully_qualified_name()}/reset_fault.')

    # --- services -----------------------------------------------------------------------------

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop_requested = True
        self._watchdog.stop('stopped on request')
        self._controllers.stop()
        response.success = True
        response.message = 'stopped; call reset_fault before the next motion'
        self.get_logger().warning(response.message)
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._executing.is_set():
            response.message = 'a motion is still under way'
            return response
        fault = self._watchdog.reset()
        self._stop_requested = False
        response.success = True
        response.message = 'there was no fault' if fault is None else f'cleared: {fault}'
        self.get_logger().warning(response.message)
        return response

    def _on_confirm(self, request: ConfirmPlan.Request,
                    response: ConfirmPlan.Response) -> ConfirmPlan.Response:
        try:
            self._ledger.confirm(request.plan_id, time.monotonic_ns())
            response.success, response.message = True, 'confirmed'
        except LedgerError as error:
            response.message = str(error)
        return response

    def _status(self) -> Status:
        fault = self._watchdog.fault
        values: dict[str, object] = {
            'mode': self._ledger.mode.value, 'executing': self._executing.is_set(),
            'joint state age [s]': f'{self._joints.age(self._robot.joints):.2f}',
            'velocity scaling': self._limits.velocity_scaling}
        return (OK, 'ready', values) if fault is None else (ERROR, fault, values)

    def close(self) -> None:
        """Stop a motion under way and wait until it has been told to hold."""
        executing = self._executing.is_set()
        super().close()
        if executing:
            self._controllers.stop()
            end = time.monotonic() + 2.0
            while self._executing.is_set() and time.monotonic() < end:
                time.sleep(POLL)
        self._worker.close()


def main() -> int:
    """Entry point of the executable `execution`."""
    return run_node(ExecutionNode)


if __name__ == '__main__':
    sys.exit(main())
