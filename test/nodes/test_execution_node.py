# SPDX-License-Identifier: Apache-2.0
"""Node `execution` over real DDS: nothing moves that should not, and a stop stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from action_msgs.srv import CancelGoal
from control_msgs.action import FollowJointTrajectory, ParallelGripperCommand
from control_msgs.action import GripperCommand as GripperCommandAction
from execution_bench import GOAL, LONG, PATIENT, Bench, FixedPlanner, planning_goal
from rclpy.action import ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from robot_server import ARM, FINGERS, HOME, Robot, move
from ros_graph import Graph, elsewhere, eventually, parameters
from std_msgs.msg import Empty, String
from std_srvs.srv import Trigger

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core.errors import ExecutionError, PlanningError
from fourdgen_ros.core.types import GripperCommand
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.msg import MotionPlan as MotionPlanMsg
from fourdgen_ros.nodes import controllers, conversions
from fourdgen_ros.nodes.actions import CanceledError, SafeActionClient, send_goal
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.nodes.qos import FAULTS, LATCHED
from fourdgen_ros.srv import ConfirmPlan

Result = ExecutePlan.Result


@pytest.fixture
def bench(graph: Graph) -> Callable[..., Bench]:
    return lambda *args, **values: Bench(graph, *args, **values)


def test_plans_from_the_joint_states_and_publishes(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.3)))
    result = b.plan(frames=2)
    assert (result.error_code, result.error_msg) == (0, '')
    assert result.seconds > 0
    call = b.planner.calls[0]
    np.testing.assert_allclose(call['joints'], HOME)
    assert call['opening'] == pytest.approx(0.08)
    assert call['frames'] == 2
    plans = graph.listen(MotionPlanMsg, 'plan', LATCHED)
    assert eventually(lambda: bool(plans))
    assert plans[0].plan_id == result.plan.plan_id
    assert plans[0].check_names == ['workspace']
    assert plans[0].check_values == ['inside']


def test_planning_says_what_is_wrong(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner())
    b.planner.error = PlanningError('no inverse kinematics', got='0 solutions')
    result = b.plan()
    assert result.error_code == PlanMotion.Result.PLANNING_FAILED
    assert result.error_msg == 'no inverse kinematics; got 0 solutions'
    empty = graph.act(PlanMotion, 'plan_motion', PlanMotion.Goal())
    assert empty.error_code == PlanMotion.Result.INVALID_TRAJECTORY


def test_planning_without_joint_states(bench: Any) -> None:
    b = bench(FixedPlanner(), joint_state_timeout=0.2)
    b.robot.silence()
    assert eventually(lambda: b.joints_age() > 0.2)
    result = b.plan()
    assert result.error_code == PlanMotion.Result.NO_JOINT_STATE
    assert '/joint_states' in result.error_msg


def test_executes_arm_and_gripper_in_order(bench: Any) -> None:
    back = move(HOME, 0.3, GOAL)
    b = bench(FixedPlanner(move(GOAL, 0.3), GripperCommand(0.03, 25.0), back))
    feedback: list[str] = []
    running = b.start(feedback=lambda f: feedback.append(f'{f.stage} {f.segment}/{f.segments}'))
    assert running.wait(30.0)
    assert (running.result.error_code, running.result.error_msg) == (0, '')
    assert running.result.seconds >= 0.6
    assert feedback == ['arm 0/3', 'gripper 1/3', 'arm 2/3']
    np.testing.assert_allclose(b.robot.q, HOME, atol=1e-6)
    assert len(b.robot.goals) == 2
    command = b.robot.gripper_goals[0].command
    assert (command.position, command.max_effort) == (0.015, 25.0)  # per finger


def test_parallel_gripper_command(bench: Any) -> None:
    b = bench(FixedPlanner(GripperCommand(0.03, 25.0)), Robot('ParallelGripperCommand'),
              gripper_action_type='ParallelGripperCommand')
    assert b.execute().error_code == 0
    command = b.robot.gripper_goals[0].command
    assert command.name == [FINGERS[0]]  # the controller takes one joint, the other follows
    assert list(command.position) == [0.015]
    assert list(command.effort) == [25.0]


@pytest.mark.parametrize('action', ['GripperCommand', 'ParallelGripperCommand'])
def test_a_gripper_whose_joint_turns(bench: Any, action: str) -> None:
    """Widths stay in m; the joint is commanded and read in rad, and closes as it grows."""
    b = bench(FixedPlanner(GripperCommand(0.02125, 25.0)), Robot(action, 'ur5e_robotiq_2f85'),
              robot_name='ur5e_robotiq_2f85', gripper_action_type=action,
              deviation_distance=0.0, deviation_angle=0.0)
    assert b.execute().error_code == 0
    assert b.planner.calls[0]['opening'] == pytest.approx(0.085)
    command = b.robot.gripper_goals[0].command
    if action == 'GripperCommand':
        assert (command.position, command.max_effort) == (pytest.approx(0.6), 25.0)
    else:
        assert command.name == ['robotiq_85_left_knuckle_joint']
        assert list(command.position) == [pytest.approx(0.6)]
    assert eventually(lambda: b.plan().error_code == 0
                      and b.planner.calls[-1]['opening'] == pytest.approx(0.02125))


def test_a_gripper_that_stalls_holds_something(bench: Any) -> None:
    b = bench(FixedPlanner(GripperCommand(0.0)))
    b.robot.stalls = True
    assert b.execute().error_code == 0


def test_a_gripper_that_aborts(bench: Any) -> None:
    b = bench(FixedPlanner(GripperCommand(0.0)))
    b.robot.drops = True
    result = b.execute()
    assert result.error_code == Result.CONTROLLER_ABORTED
    assert 'default_grasp_epsilon' in result.error_msg  # what franka_gripper needs to grasp


@pytest.mark.parametrize('name', ['fr3', 'panda'])
def test_a_franka_hand_opens_as_wide_as_homing_has_measured(bench: Any, name: str) -> None:
    """Homing may measure less than 80 mm, and nothing before it: franka_gripper aborts the rest."""
    b = bench(FixedPlanner(GripperCommand(RobotConfig.named(name).opening[1])), Robot(config=name),
              robot_name=name, deviation_distance=0.0, deviation_angle=0.0)
    b.robot.opening, b.robot.max_width = 0.0, 0.0799
    result = b.execute()
    assert (result.error_code, result.error_msg) == (Result.NONE, '')
    assert b.robot.opening == pytest.approx(0.078)
    b.robot.max_width = 0.0
    result = b.execute()
    assert result.error_code == Result.CONTROLLER_ABORTED
    assert '78.0 mm' in result.error_msg
    assert 'franka_gripper/homing' in result.error_msg
    assert 'default_grasp_epsilon' not in result.error_msg


def test_dry_run_is_the_default_and_sends_nothing(graph: Graph) -> None:
    robot = graph.add(Robot())
    node = graph.add(ExecutionNode(FixedPlanner(move(GOAL, 0.2), GripperCommand(0.0))))
    assert eventually(lambda: node._joints.age(list(FINGERS)) < 0.5)
    plan = graph.act(PlanMotion, 'plan_motion', planning_goal()).plan
    result = graph.act(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id=plan.plan_id))
    assert result.error_code == Result.DRY_RUN
    assert 'execution_mode' in result.error_msg
    time.sleep(0.1)
    assert robot.goals == []
    assert robot.gripper_goals == []


def test_confirm_waits_for_this_plan_only(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)), execution_mode='confirm')
    stages: list[str] = []
    plan_id = b.plan().plan.plan_id
    running = b.start(plan_id, feedback=lambda f: stages.append(f.stage))
    assert eventually(lambda: stages == ['waiting_for_confirmation'])
    answer = graph.call(ConfirmPlan, 'confirm_plan', ConfirmPlan.Request(plan_id='another'))
    assert not answer.success
    assert "'another'" in answer.message
    assert not running.wait(0.2)
    assert b.robot.goals == []
    assert graph.call(ConfirmPlan, 'confirm_plan', ConfirmPlan.Request(plan_id=plan_id)).success
    assert running.wait(30.0)
    assert running.result.error_code == 0
    assert len(b.robot.goals) == 1


def test_confirm_expires(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2), lifetime=2.0), execution_mode='confirm')
    plan_id = b.plan().plan.plan_id
    assert b.execute(plan_id).error_code == Result.NOT_CONFIRMED
    answer = graph.call(ConfirmPlan, 'confirm_plan', ConfirmPlan.Request(plan_id=plan_id))
    assert not answer.success
    assert 'expir' in answer.message
    assert b.robot.goals == []


def test_refuses_unknown_used_and_superseded_plans(bench: Any) -> None:
    b = bench(FixedPlanner(GripperCommand(0.05)))
    assert b.execute('no such plan').error_code == Result.UNKNOWN_PLAN
    first = b.plan().plan.plan_id
    second = b.plan().plan.plan_id
    assert b.execute(first).error_code == Result.EXPIRED
    assert b.execute(second).error_code == Result.NONE
    assert b.execute(second).error_code == Result.EXPIRED
    assert len(b.robot.gripper_goals) == 1


def test_a_second_goal_is_busy(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, 1.0)))
    running = b.start_moving()
    assert b.execute('any').error_code == Result.BUSY
    assert running.wait(30.0)
    assert running.result.error_code == 0


def test_checks_the_start_just_before_sending(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)))
    plan_id = b.plan().plan.plan_id
    b.robot.q = HOME + 0.05
    assert eventually(lambda: np.allclose(b.node._joints.positions(ARM, PATIENT), b.robot.q))
    result = b.execute(plan_id)
    assert result.error_code == Result.CHECK_FAILED
    assert 'start state' in result.error_msg
    assert b.robot.goals == []


@pytest.mark.parametrize(('after', 'code', 'text'), [
    ((move(GOAL, 0.2),), Result.CHECK_FAILED, 'start state'),
    ((), Result.DEVIATED, 'the tool is not where it was imagined')])
def test_the_fingers_do_not_move_where_the_arm_does_not_stand(
        bench: Any, after: tuple, code: int, text: str) -> None:
    b = bench(FixedPlanner(GripperCommand(0.0), *after))
    plan_id = b.plan().plan.plan_id
    b.robot.q = HOME + 0.2
    assert eventually(lambda: np.allclose(b.node._joints.positions(ARM, PATIENT), b.robot.q))
    result = b.execute(plan_id)
    assert result.error_code == code
    assert text in result.error_msg
    assert b.robot.gripper_goals == []


def test_the_fingers_do_not_move_after_a_motion_that_did_not_happen(bench: Any) -> None:
    """A controller that calls it a success at once, as one whose speed is scaled to 0 may."""
    b = bench(FixedPlanner(move(GOAL, 2.0), GripperCommand(0.0)))
    b.robot.skips = True
    result = b.execute()
    assert result.error_code == Result.DEVIATED
    assert '(segment 2 of 2' in result.error_msg
    assert b.robot.gripper_goals == []


def test_stop_is_answered_at_once_holds_and_latches(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)))
    running = b.start_moving()
    assert graph.call(Trigger, 'execution/stop').success
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.STOPPED
    assert b.holds()
    assert eventually(lambda: [e.data for e in b.events][:1] == ['stop'])

    assert b.plan().error_code == PlanMotion.Result.FAULT
    result = b.execute('any')
    assert result.error_code == Result.FAULT
    assert 'reset_fault' in result.error_msg
    assert graph.call(Trigger, 'execution/reset_fault').success
    b.planner.segments = (move(GOAL, 0.2, b.robot.q.copy()),)
    assert b.execute().error_code == 0


def test_stop_works_when_nothing_moves(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)))
    plan_id = b.plan().plan.plan_id
    assert graph.call(Trigger, 'execution/stop').success
    assert b.execute(plan_id).error_code == Result.FAULT
    assert b.robot.goals == []


def test_cancel_holds_the_arm_and_latches_nothing(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)))
    running = b.start_moving()
    running.cancel()
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.STOPPED
    assert b.holds()
    b.planner.segments = (GripperCommand(0.05),)
    assert b.execute().error_code == 0


@pytest.mark.parametrize('source', ['joint states', 'heartbeat'])
def test_silence_stops_the_arm(bench: Any, graph: Graph, source: str) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)), joint_state_timeout=2.0, heartbeat_timeout=2.0)
    heartbeat = graph.client.create_publisher(Empty, 'heartbeat', 10)
    beat = graph.client.create_timer(0.05, lambda: heartbeat.publish(Empty()))
    running = b.start_moving()
    assert not running.wait(2.5)  # all is well so far
    b.robot.silence() if source == 'joint states' else beat.cancel()
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.WATCHDOG
    assert f'no {source}' in running.result.error_msg
    assert b.holds()
    assert b.execute('any').error_code == Result.FAULT


@pytest.mark.parametrize('segment', [move(GOAL, 0.3), GripperCommand(0.03)])
def test_nothing_begins_without_a_heartbeat(bench: Any, graph: Graph, segment: Any) -> None:
    b = bench(FixedPlanner(segment), heartbeat_timeout=0.5)
    result = b.execute()
    assert result.error_code == Result.WATCHDOG
    assert 'no heartbeat' in result.error_msg
    assert 'expected one within 0.50 s' in result.error_msg
    assert b.robot.goals == b.robot.gripper_goals == []
    assert b.plan().error_code == PlanMotion.Result.NONE  # nothing was stopped: no fault


def test_a_heartbeat_that_is_discovered_late_is_waited_for(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.3)), heartbeat_timeout=10.0)
    running = b.start()
    assert eventually(lambda: b.node._doing == 'waiting for a heartbeat')
    assert b.robot.goals == []
    heartbeat = graph.client.create_publisher(Empty, 'heartbeat', 10)
    graph.client.create_timer(0.05, lambda: heartbeat.publish(Empty()))
    assert running.wait(30.0)
    assert running.result.error_code == Result.NONE
    assert len(b.robot.goals) == 1


def test_a_stop_ends_the_wait_for_a_heartbeat(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.3)), heartbeat_timeout=10.0)
    running = b.start()
    assert eventually(lambda: b.node._doing == 'waiting for a heartbeat')
    assert graph.call(Trigger, 'execution/stop').success
    assert running.wait(30.0)
    assert running.result.error_code == Result.FAULT
    assert b.robot.goals == []


def test_stop_reaches_every_channel(bench: Any, graph: Graph) -> None:
    """Whoever sent them: a motion of somebody else and our gripper command end together."""
    b = bench(FixedPlanner(GripperCommand(0.0)))
    b.robot.slow_grip = True
    other = graph.start(FollowJointTrajectory, b.robot.config.controllers.arm_action,
                        FollowJointTrajectory.Goal(trajectory=conversions.joint_trajectory_to_msg(
                            move(GOAL, LONG))))
    running = b.start()
    assert eventually(lambda: b.robot.moving and bool(b.robot.gripper_goals))
    assert graph.call(Trigger, 'execution/stop').success
    assert running.wait(LONG / 2)
    assert other.wait(LONG / 2)
    assert running.result.error_code == Result.STOPPED
    assert set(b.robot.canceled) == {'arm', 'gripper'}
    assert b.holds()
    assert eventually(lambda: [e.data for e in b.events][:1] == ['stop'])


def test_what_was_stopped_before_it_is_sent_is_not_sent(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner())
    name = b.robot.config.controllers.arm_action
    with pytest.raises(CanceledError):
        send_goal(SafeActionClient(graph.client, FollowJointTrajectory, name),
                  FollowJointTrajectory.Goal(trajectory=conversions.joint_trajectory_to_msg(
                      move(GOAL, 0.2))), timeout=30.0, interrupted=lambda: True)
    graph.act(FollowJointTrajectory, name, FollowJointTrajectory.Goal(
        trajectory=conversions.joint_trajectory_to_msg(move(HOME, 0.2))))
    assert len(b.robot.goals) == 1  # that of the second call, which is behind the first


def test_a_stop_voids_what_was_planned_and_confirmed(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(GripperCommand(0.05)), execution_mode='confirm')
    plan_id = b.plan().plan.plan_id
    confirm = ConfirmPlan.Request(plan_id=plan_id)
    assert graph.call(ConfirmPlan, 'confirm_plan', confirm).success
    assert graph.call(Trigger, 'execution/stop').success
    answer = graph.call(ConfirmPlan, 'confirm_plan', confirm)
    assert not answer.success
    assert 'stopped on request' in answer.message
    assert graph.call(Trigger, 'execution/reset_fault').success
    assert b.execute(plan_id).error_code == Result.UNKNOWN_PLAN
    assert not graph.call(ConfirmPlan, 'confirm_plan', confirm).success
    assert b.robot.gripper_goals == []


@pytest.mark.parametrize('reset', [False, True])
def test_a_stop_while_planning_leaves_no_plan(bench: Any, graph: Graph, reset: bool) -> None:
    b = bench(FixedPlanner(GripperCommand(0.05)))
    plans = graph.listen(MotionPlanMsg, 'plan', LATCHED)
    b.planner.thinks.set()
    running = graph.start(PlanMotion, 'plan_motion', planning_goal())
    assert eventually(lambda: bool(b.planner.calls))
    assert graph.call(Trigger, 'execution/stop').success
    assert not reset or graph.call(Trigger, 'execution/reset_fault').success
    b.planner.thinks.clear()
    assert running.wait(30.0)
    assert running.result.error_code == PlanMotion.Result.FAULT
    assert 'stopped on request' in running.result.error_msg
    assert running.result.plan.plan_id == ''
    assert reset or graph.call(Trigger, 'execution/reset_fault').success
    assert b.execute().error_code == Result.NONE
    assert eventually(lambda: len(plans) == 1)  # of the last call


def test_a_stop_and_a_reset_end_the_wait_for_a_confirmation(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(GripperCommand(0.05)), execution_mode='confirm')
    running = b.start()
    assert eventually(lambda: b.node._doing.startswith('waiting'))
    assert graph.call(Trigger, 'execution/stop').success
    assert graph.call(Trigger, 'execution/reset_fault').success
    assert running.wait(30.0)
    assert running.result.error_code == Result.FAULT
    assert 'stopped on request' in running.result.error_msg


def test_tells_of_every_fault_and_of_its_end(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)), joint_state_timeout=2.0)
    faults = graph.listen(String, 'fault', FAULTS)
    assert eventually(lambda: [f.data for f in faults] == [''])
    running = b.start_moving()
    b.robot.silence()
    assert running.wait(LONG / 2)
    assert graph.call(Trigger, 'execution/reset_fault').success
    assert graph.call(Trigger, 'execution/stop').success
    assert eventually(lambda: len(faults) == 4)
    assert [f.data[:15] for f in faults] == ['', 'no joint states', '', 'stopped on requ']


def test_a_stop_ends_the_wait_for_a_confirmation(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)), execution_mode='confirm')
    stages: list[str] = []
    plan_id = b.plan().plan.plan_id
    running = b.start(plan_id, feedback=lambda f: stages.append(f.stage))
    assert eventually(lambda: stages == ['waiting_for_confirmation'])
    assert graph.call(Trigger, 'execution/stop').success
    assert running.wait(30.0)
    assert running.result.error_code == Result.FAULT
    graph.call(ConfirmPlan, 'confirm_plan', ConfirmPlan.Request(plan_id=plan_id))
    assert b.execute(plan_id).error_code == Result.FAULT
    assert b.robot.goals == []


def test_no_reset_while_something_moves(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)))
    running = b.start_moving()
    answer = graph.call(Trigger, 'execution/reset_fault')
    assert (answer.success, answer.message) == (False, 'a motion is still under way')
    running.cancel()
    assert running.wait(LONG / 2)


def test_the_watchdog_needs_no_ros_clock(bench: Any) -> None:
    """With simulated time and nobody who sends it, the clock stands still: silence still counts."""
    b = bench(FixedPlanner(move(GOAL, LONG)), joint_state_timeout=2.0, use_sim_time=True)
    running = b.start_moving()
    b.robot.silence()
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.WATCHDOG
    assert b.holds()


def test_joint_states_that_are_no_numbers_are_silence(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)), joint_state_timeout=2.0)
    running = b.start_moving()
    b.robot.offset = np.full(7, np.nan)
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.WATCHDOG
    assert not b.robot.moving
    b.robot.q = HOME.copy()


def test_an_arm_that_leaves_the_plan_is_stopped_without_a_fault(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG), GripperCommand(0.0)), deviation_lag=PATIENT)
    running = b.start_moving()
    b.robot.offset = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert running.wait(LONG / 2)
    result = running.result
    assert result.error_code == Result.DEVIATED
    assert 'the tool is not where it was imagined; expected within 30.0 mm' in result.error_msg
    assert '(segment 1 of 2, stopped)' in result.error_msg
    assert 0.03 < result.deviation < 0.1
    assert b.holds()
    assert b.robot.canceled == ['arm']
    assert b.robot.gripper_goals == []
    assert eventually(lambda: [e.data for e in b.events][:1] == ['stop'])
    b.robot.offset[:] = 0.0
    b.planner.segments = (move(HOME, 0.5, b.robot.q.copy()),)
    assert b.execute().error_code == Result.NONE


@pytest.mark.parametrize(('limits', 'offset', 'late'), [
    ({}, 0.03, 0.2), ({'deviation_distance': 0.0}, 0.2, 0.0),
    ({'deviation_distance': 0.0, 'deviation_angle': 0.0}, 1.0, 0.0)])
def test_a_deviation_within_its_limits_stops_nothing(bench: Any, limits: dict, offset: float,
                                                     late: float) -> None:
    b = bench(FixedPlanner(move(GOAL, 1.0)), deviation_lag=PATIENT, **limits)
    b.robot.late = late
    running = b.start_moving()
    b.robot.offset = np.array([offset, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert running.wait(30.0)
    assert (running.result.error_code, running.result.error_msg) == (Result.NONE, '')


def test_an_arm_that_does_not_start_is_not_waited_for(bench: Any) -> None:
    """Nothing has left the path, but the plan has gone on: that is a deviation, too."""
    b = bench(FixedPlanner(move(GOAL, LONG)))
    b.robot.late = LONG
    running = b.start()
    assert running.wait(LONG)
    assert running.result.error_code == Result.DEVIATED
    assert b.robot.canceled == ['arm']
    np.testing.assert_array_equal(b.robot.q, HOME)


def test_a_controller_that_rejects(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)))
    b.robot.reject = True
    result = b.execute()
    assert result.error_code == Result.CONTROLLER_REJECTED
    assert 'panda_arm_controller/follow_joint_trajectory' in result.error_msg


def test_no_controller(graph: Graph, bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)), arm_action='elsewhere/follow_joint_trajectory')
    result = b.execute()
    assert result.error_code == Result.CONTROLLER_REJECTED
    assert 'elsewhere/follow_joint_trajectory' in result.error_msg


def test_a_controller_of_another_type(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ros2 action list` has the name, so the type has to be told."""
    monkeypatch.setattr(controllers, 'ACCEPT_TIMEOUT', 2.0)
    b = bench(FixedPlanner(GripperCommand(0.03)), gripper_action='other/gripper_cmd')
    with elsewhere() as node:
        ActionServer(node, ParallelGripperCommand, 'other/gripper_cmd', lambda _: None)
        result = b.execute()
    assert result.error_code == Result.CONTROLLER_REJECTED
    assert 'expected one of type control_msgs/action/GripperCommand' in result.error_msg
    assert 'got one of type control_msgs/action/ParallelGripperCommand' in result.error_msg
    assert 'gripper_action_type' in result.error_msg


def test_a_controller_that_aborts(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, 1.0), GripperCommand(0.0)))
    b.robot.abort = (-4, 'joint panda_joint2 is 0.3 rad off')
    result = b.execute()
    assert result.error_code == Result.CONTROLLER_ABORTED
    assert 'code -4 (PATH_TOLERANCE_VIOLATED)' in result.error_msg
    assert 'joint panda_joint2 is 0.3 rad off' in result.error_msg
    assert b.robot.gripper_goals == []  # what comes after is not sent


def test_a_controller_that_never_finishes(bench: Any) -> None:
    b = bench(FixedPlanner(move(GOAL, 0.2)), time_factor=1.0, time_margin=0.3,
              deviation_lag=PATIENT)
    b.robot.ignore = True
    result = b.execute()
    assert result.error_code == Result.CONTROLLER_ABORTED
    assert 'did not finish within 0.5 s' in result.error_msg


def test_a_controller_that_has_gone_is_not_waited_for(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(GripperCommand(0.0)), gripper_action='other/gripper_cmd',
              gripper_timeout=LONG)
    driver = graph.add(Node('other_driver'))
    at_work, ended = threading.Event(), threading.Event()

    def work(_: Any) -> GripperCommandAction.Result:
        at_work.set()
        ended.wait(LONG)
        return GripperCommandAction.Result()

    ActionServer(driver, GripperCommandAction, 'other/gripper_cmd', work,
                 callback_group=ReentrantCallbackGroup())
    running = b.start()
    assert at_work.wait(30.0)
    graph.remove(driver)
    ended.set()
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.CONTROLLER_ABORTED
    assert "'other/gripper_cmd' has gone" in running.result.error_msg
    assert 'the robot may move' in running.result.error_msg


@pytest.mark.parametrize(('segment', 'action'), [
    (move(GOAL, LONG), 'panda_arm_controller/follow_joint_trajectory'),
    (GripperCommand(0.0), 'panda_hand_controller/gripper_cmd')])
def test_what_another_client_canceled_is_told_as_such(
        bench: Any, graph: Graph, segment: Any, action: str) -> None:
    """RViz, a pendant, a second node: the code of the controller is that of a success then."""
    b = bench(FixedPlanner(segment))
    b.robot.slow_grip = True
    running = b.start()
    assert eventually(lambda: b.robot.moving or bool(b.robot.gripper_goals))
    graph.call(CancelGoal, f'{action}/_action/cancel_goal')
    assert running.wait(LONG / 2)
    assert running.result.error_code == Result.CONTROLLER_ABORTED
    assert f'controller {action!r}: goal CANCELED' in running.result.error_msg
    assert 'not by this node' in running.result.error_msg
    assert 'SUCCESSFUL' not in running.result.error_msg


@pytest.mark.parametrize('end', ['stop', 'cancel', 'time limit'])
def test_a_controller_that_does_not_stop_is_a_fault_until_it_has(
        bench: Any, graph: Graph, end: str) -> None:
    limited = end == 'time limit'
    b = bench(FixedPlanner(move(GOAL, 0.2 if limited else LONG)), time_factor=1.0,
              time_margin=0.2, deviation_lag=PATIENT)
    b.robot.stubborn, b.robot.ignore = True, limited
    running = b.start() if limited else b.start_moving()
    if end == 'stop':
        assert graph.call(Trigger, 'execution/stop').success
    elif end == 'cancel':
        running.cancel()
    assert running.wait(30.0)
    assert running.result.error_code == Result.CONTROLLER_ABORTED
    assert 'the robot may move' in running.result.error_msg
    assert 'the robot may move' in b.plan().error_msg
    answer = graph.call(Trigger, 'execution/reset_fault')
    assert not answer.success
    assert 'panda_arm_controller/follow_joint_trajectory' in answer.message
    b.robot.abort = (-4, 'somebody pressed the button')
    assert eventually(lambda: graph.call(Trigger, 'execution/reset_fault').success)
    assert not b.robot.moving


def test_a_goal_request_without_an_answer_is_no_rejection(
        bench: Any, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllers, 'ACCEPT_TIMEOUT', 0.5)
    b = bench(FixedPlanner(move(GOAL, LONG)))
    plan_id = b.plan().plan.plan_id
    with b.robot.muted():
        result = b.execute(plan_id)
        assert result.error_code == Result.CONTROLLER_ABORTED
        assert 'did not answer' in result.error_msg
        assert 'the robot may move' in result.error_msg
        assert eventually(lambda: [e.data for e in b.events][:1] == ['stop'])
        assert 'the robot may move' in b.plan().error_msg
        answer = graph.call(Trigger, 'execution/reset_fault')
        assert not answer.success
        assert 'panda_arm_controller/follow_joint_trajectory' in answer.message
    assert eventually(lambda: b.robot.canceled == ['arm'])  # it was accepted after all
    assert eventually(lambda: graph.call(Trigger, 'execution/reset_fault').success)


@pytest.mark.parametrize('answers', [True, False])
def test_a_stop_before_the_controller_answers_waits_for_the_end(
        bench: Any, graph: Graph, monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    if not answers:
        monkeypatch.setattr(controllers, 'HOLD_TIMEOUT', 0.5)
    b = bench(FixedPlanner(move(GOAL, LONG)))
    plan_id = b.plan().plan.plan_id
    with b.robot.muted():
        running = b.start(plan_id)
        assert eventually(b.robot.asked.is_set)
        running.cancel()
        assert eventually(lambda: [e.data for e in b.events][:1] == ['stop'])
        if answers:
            b.robot.mute.clear()
        assert running.wait(30.0)
        if answers:
            assert running.result.error_code == Result.STOPPED
            assert b.robot.canceled == ['arm']
            assert not b.robot.moving
        else:
            assert running.result.error_code == Result.CONTROLLER_ABORTED
            assert 'the robot may move' in running.result.error_msg
            assert not graph.call(Trigger, 'execution/reset_fault').success
    assert eventually(lambda: b.robot.canceled == ['arm'])


def test_a_stop_tells_which_controller_does_not_hear_it(
        bench: Any, graph: Graph, capfd: Any) -> None:
    bench(FixedPlanner(), gripper_action='elsewhere/gripper_cmd')
    assert graph.call(Trigger, 'execution/stop').success
    log = capfd.readouterr().err
    assert 'no service /elsewhere/gripper_cmd/_action/cancel_goal' in log
    assert 'panda_arm_controller' not in log


def test_the_node_stops_the_arm_when_it_ends(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)))
    b.start_moving()
    graph.remove(b.node)
    assert b.holds()


def test_deactivating_stops_the_arm_and_voids_the_plans(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(move(GOAL, LONG)))
    running = b.start_moving()
    assert graph.change('execution', 'deactivate')
    assert not b.robot.moving
    assert b.holds()
    assert running.wait(30.0)
    assert running.result.error_code == Result.STOPPED
    assert running.result.error_msg == 'the node was deactivated or shut down'
    assert graph.change('execution', 'activate')
    assert eventually(lambda: b.joints_age() < 1.0)
    b.planner.segments = (GripperCommand(0.05),)
    plan_id = b.plan().plan.plan_id
    assert graph.change('execution', 'deactivate')
    with pytest.raises(ExecutionError, match='rejected the goal'):
        b.execute(plan_id)
    assert graph.change('execution', 'activate')
    assert b.execute(plan_id).error_code == Result.UNKNOWN_PLAN
    assert b.robot.gripper_goals == []


def test_a_fault_outlives_every_transition(bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(GripperCommand(0.05)))
    assert graph.call(Trigger, 'execution/stop').success
    for transition in ('deactivate', 'cleanup', 'configure', 'activate'):
        assert graph.change('execution', transition)
    assert eventually(lambda: b.joints_age() < 1.0)
    assert b.plan().error_code == PlanMotion.Result.FAULT
    assert b.execute('any').error_code == Result.FAULT
    assert graph.call(Trigger, 'execution/reset_fault').success
    assert b.execute().error_code == Result.NONE


def test_stop_is_heard_while_inactive_and_honest_while_unconfigured(
        bench: Any, graph: Graph) -> None:
    b = bench(FixedPlanner(GripperCommand(0.05)))
    assert graph.change('execution', 'deactivate')
    assert graph.call(Trigger, 'execution/stop').success
    assert eventually(lambda: [e.data for e in b.events] == ['stop'])
    assert graph.change('execution', 'cleanup')
    answer = graph.call(Trigger, 'execution/stop')
    assert not answer.success
    assert '/execution is unconfigured: it moves nothing' in answer.message


def test_an_unknown_robot_is_a_failure_to_configure(graph: Graph, capfd: Any) -> None:
    graph.add(ExecutionNode(FixedPlanner(), **parameters(autostart=False, robot='no_such')))
    assert not graph.change('execution', 'configure')
    log = capfd.readouterr().err
    assert 'cannot configure' in log
    assert 'no_such.yaml' in log


@pytest.mark.parametrize(('name', 'value'), [
    ('velocity_scaling', 0.0), ('velocity_scaling', 1.5), ('acceleration_scaling', 0.0),
    ('acceleration_scaling', 1.5), ('deviation_distance', -0.01), ('deviation_angle', 4.0),
    ('execution_mode', 'yolo')])
def test_a_dangerous_parameter_stops_the_start(graph: Graph, name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterValueException, match=name):
        ExecutionNode(FixedPlanner(), **parameters(**{name: value}))


def test_speeds_start_at_a_tenth(graph: Graph) -> None:
    node = graph.add(ExecutionNode(FixedPlanner()))
    assert (node._limits.velocity_scaling, node._limits.acceleration_scaling) == (0.1, 0.1)
