# SPDX-License-Identifier: Apache-2.0
"""Node `task_loop` over real DDS, with stages that do as they are told."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from ros_graph import Graph, eventually, parameters
from std_msgs.msg import Empty, String

from fourdgen_ros.action import ExecutePlan, GenerateFuture, PlanMotion, RunTask, TrackGripper
from fourdgen_ros.nodes import server_states
from fourdgen_ros.nodes.actions import serve_action
from fourdgen_ros.nodes.lifecycle import ManagedNode
from fourdgen_ros.nodes.qos import FAULTS
from fourdgen_ros.nodes.task_loop import TaskLoopNode
from fourdgen_ros.srv import CheckSuccess

Result = RunTask.Result
ACTIONS = {'generate_future': GenerateFuture, 'track_gripper': TrackGripper,
           'plan_motion': PlanMotion, 'execute_plan': ExecutePlan}
OTHERS = tuple(name for name in ACTIONS if name != 'track_gripper')


class Stages(Node):
    """All four stages. `fail[name]` are error codes of the next calls; `hang` never ends.

    `crash` ends in an error of its callback. With `ahead` these two hold for calls during a motion.
    """

    def __init__(self, names: tuple[str, ...] = tuple(ACTIONS)) -> None:
        super().__init__('stages')
        self.calls: list[tuple[str, Any]] = []
        self.fail: dict[str, list[int]] = {}
        self.hang = self.crash = ''
        self.ahead = self.moves = False
        self.canceled: list[str] = []
        self.done_after = 10**6
        self.motions, self.pipelined = ['arm'], False
        group = ReentrantCallbackGroup()
        for name in names:
            ActionServer(self, ACTIONS[name], name, functools.partial(self._run, name),
                         cancel_callback=lambda _: CancelResponse.ACCEPT, callback_group=group)
        self.create_service(CheckSuccess, 'cell/check_success', self._check, callback_group=group)

    def of(self, name: str) -> list[Any]:
        return [request for called, request in self.calls if called == name]

    def _run(self, name: str, handle: Any) -> Any:
        self.calls.append((name, handle.request))
        result = ACTIONS[name].Result()
        concerned = self.moves or not self.ahead
        if concerned and self.crash == name:
            raise RuntimeError(f'{name} crashes, as the test wants it')
        while concerned and self.hang == name:
            if not self.context.ok():
                return result  # the test is over; the process would wait for this thread for ever
            if handle.is_cancel_requested:
                self.canceled.append(name)
                handle.canceled()
                return result
            time.sleep(0.01)
        codes = self.fail.get(name)
        code = codes.pop(0) if codes else 0
        if name == 'execute_plan':
            self._move(handle)
        if code:
            result.error_code, result.error_msg = code, f'{name} has failed'
            handle.abort()
            return result
        if name == 'generate_future':
            result.future_id = f'future of seed {handle.request.seed}'
        elif name == 'track_gripper':
            result.trajectory.future_id = handle.request.future_id
            result.trajectory.confidence = [1.0, 0.75]
        elif name == 'plan_motion':
            result.plan.plan_id = f'plan {len(self.calls)}'
        handle.succeed()
        return result

    def _move(self, handle: Any) -> None:
        """Tell of the motions; where the loop looks ahead, the last lasts until it has."""
        before, self.moves = len(self.of('track_gripper')), True
        for i, stage in enumerate(self.motions):
            handle.publish_feedback(ExecutePlan.Feedback(
                stage=stage, segment=i, segments=len(self.motions)))
        assert not self.pipelined or eventually(lambda: len(self.of('track_gripper')) > before)
        self.moves = False

    def _check(self, _: Any, response: CheckSuccess.Response) -> CheckSuccess.Response:
        response.success = len(self.of('execute_plan')) >= self.done_after
        return response


@pytest.fixture
def loop(graph: Graph) -> Callable[..., Stages]:
    def start(*args: Any, **values: Any) -> Stages:
        stages = graph.add(Stages(*args))
        values = {'success_service': 'cell/check_success', **values}
        graph.add(TaskLoopNode(**parameters(**values)))
        return stages

    return start


def run(graph: Graph, **fields: Any) -> Any:
    return graph.act(RunTask, 'run_task', RunTask.Goal(task='T', **fields))


def test_goes_round_until_the_task_is_done(loop: Any, graph: Graph) -> None:
    stages = loop()
    stages.done_after = 2
    feedback: list[Any] = []
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T', seed=40),
                          feedback=feedback.append)
    assert running.wait(30.0)
    result = running.result
    assert (result.success, result.error_code, result.error_msg) == (True, Result.NONE, '')
    assert result.segments == 2
    assert [name for name, _ in stages.calls] == list(ACTIONS) * 2
    assert [g.seed for g in stages.of('generate_future')] == [40, 41]
    assert all(g.task == 'T' for g in stages.of('generate_future'))
    assert stages.of('track_gripper')[1].future_id == 'future of seed 41'
    plan = stages.of('plan_motion')[0]
    assert plan.frames == 6
    assert plan.trajectory.future_id == 'future of seed 40'
    assert stages.of('execute_plan')[0].plan_id == 'plan 3'
    timings = json.loads(result.timing_json)
    assert [t['segment'] for t in timings] == [0, 1]
    assert all(t[s] > 0 for t in timings for s in ('generate', 'track', 'plan', 'execute'))
    seen = [(f.stage, f.segment) for f in feedback]
    assert seen[:6] == [('check', 0), ('generate', 0), ('track', 0), ('plan', 0), ('execute', 0),
                        ('check', 1)]
    assert [f.confidence for f in feedback if f.stage == 'execute'] == [0.75, 0.75]


def test_a_task_that_is_done_needs_no_motion(loop: Any, graph: Graph) -> None:
    stages = loop()
    stages.done_after = 0
    result = run(graph)
    assert result.success
    assert result.segments == 0
    assert stages.calls == []


def test_gives_up_after_max_segments(loop: Any, graph: Graph) -> None:
    stages = loop(max_segments=3)
    result = run(graph)
    assert (result.success, result.error_code, result.segments) == (False, Result.NOT_DONE, 3)
    assert run(graph, max_segments=1).segments == 1
    assert len(stages.of('execute_plan')) == 4


def test_without_a_check_nobody_claims_success(loop: Any, graph: Graph) -> None:
    loop(success_service='')
    result = run(graph, max_segments=1)
    assert (result.success, result.error_code) == (False, Result.NOT_DONE)
    assert 'success_service' in result.error_msg


@pytest.mark.parametrize(('name', 'code'), [
    ('generate_future', GenerateFuture.Result.GENERATION_FAILED),
    ('track_gripper', TrackGripper.Result.TRACKING_FAILED),
    ('plan_motion', PlanMotion.Result.PLANNING_FAILED),
    ('plan_motion', PlanMotion.Result.CHECK_FAILED),
    ('execute_plan', ExecutePlan.Result.EXPIRED),
    ('execute_plan', ExecutePlan.Result.DEVIATED)])
def test_tries_again_with_another_seed(loop: Any, graph: Graph, name: str, code: int) -> None:
    stages = loop()
    stages.done_after = 2 if name == 'execute_plan' else 1
    stages.fail = {name: [code]}
    result = run(graph, seed=7)
    assert result.success
    assert result.segments == 1
    assert [g.seed for g in stages.of('generate_future')] == [7, 8]
    assert json.loads(result.timing_json)[0]['seeds'] == [7, 8]


@pytest.mark.parametrize(('name', 'code', 'expected', 'attempts'), [
    ('generate_future', GenerateFuture.Result.NO_OBSERVATION, Result.GENERATION, 1),
    ('track_gripper', TrackGripper.Result.TRACKING_FAILED, Result.TRACKING, 3),
    ('track_gripper', TrackGripper.Result.NO_TRANSFORM, Result.TRACKING, 1),
    ('plan_motion', PlanMotion.Result.PLANNING_FAILED, Result.PLANNING, 3),
    ('execute_plan', ExecutePlan.Result.CONTROLLER_ABORTED, Result.EXECUTION, 1),
    ('execute_plan', ExecutePlan.Result.DRY_RUN, Result.EXECUTION, 1),
    ('execute_plan', ExecutePlan.Result.STOPPED, Result.STOPPED, 1)])
def test_names_the_stage_that_failed(loop: Any, graph: Graph, name: str, code: int, expected: int,
                                     attempts: int) -> None:
    stages = loop(retries=2)
    stages.fail = {name: [code] * 9}
    result = run(graph)
    assert (result.success, result.error_code) == (False, expected)
    assert f'{name} has failed' in result.error_msg
    assert len(stages.of(name)) == attempts


@pytest.mark.parametrize('name', list(ACTIONS))
def test_a_cancel_goes_through_to_the_stage(loop: Any, graph: Graph, name: str) -> None:
    stages = loop()
    stages.hang = name
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    assert eventually(lambda: bool(stages.of(name)))
    running.cancel()
    assert running.wait(30.0)
    assert (running.result.success, running.result.error_code) == (False, Result.STOPPED)
    assert stages.canceled == [name]
    assert stages.calls[-1][0] == name  # nothing was called after it


def test_a_second_goal_is_busy(loop: Any, graph: Graph) -> None:
    stages = loop()
    stages.hang = 'generate_future'
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    assert run(graph).error_code == Result.BUSY
    running.cancel()
    assert running.wait(30.0)


def test_a_stage_that_does_not_run(loop: Any, graph: Graph) -> None:
    stages = loop(('generate_future',), server_timeout=0.3)
    result = run(graph)
    assert result.error_code == Result.TRACKING
    assert "no action server 'track_gripper'; start its node" in result.error_msg
    assert result.timing_json == '[]'
    assert stages.calls == []


@pytest.mark.parametrize('name', list(ACTIONS))
def test_a_fault_ends_the_task_also_when_it_is_reset_at_once(
        loop: Any, graph: Graph, name: str) -> None:
    stages = loop()
    stages.hang = name
    faults = graph.client.create_publisher(String, 'fault', FAULTS)
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    assert eventually(lambda: bool(stages.of(name)) and faults.get_subscription_count() == 1)
    faults.publish(String(data='stopped on request'))
    faults.publish(String(data=''))
    assert running.wait(30.0)
    assert (running.result.success, running.result.error_code) == (False, Result.STOPPED)
    assert 'stopped on request' in running.result.error_msg
    assert stages.canceled == [name]
    assert stages.calls[-1][0] == name  # nothing was called after it
    stages.hang, stages.done_after = '', len(stages.of('execute_plan')) + 1
    assert run(graph).success  # the fault was that of the last task


def test_no_task_begins_while_there_is_a_fault(loop: Any, graph: Graph) -> None:
    stages = loop()
    faults = graph.client.create_publisher(String, 'fault', FAULTS)
    assert eventually(lambda: faults.get_subscription_count() == 1)
    faults.publish(String(data='stopped on request'))
    assert eventually(lambda: run(graph, max_segments=1).error_code == Result.STOPPED)
    before = list(stages.calls)
    assert run(graph).error_code == Result.STOPPED
    assert stages.calls == before


@pytest.mark.parametrize(('name', 'code'), [
    ('plan_motion', PlanMotion.Result.FAULT), ('execute_plan', ExecutePlan.Result.FAULT),
    ('execute_plan', ExecutePlan.Result.WATCHDOG)])
def test_a_stage_that_tells_of_a_fault_ends_the_task(
        loop: Any, graph: Graph, name: str, code: int) -> None:
    stages = loop()
    stages.fail = {name: [code]}
    assert run(graph).error_code == Result.STOPPED
    assert len(stages.of(name)) == 1


def test_a_fault_while_a_future_is_imagined_ahead(loop: Any, graph: Graph) -> None:
    stages = loop(pipelined=True)
    stages.pipelined, stages.ahead, stages.hang = True, True, 'track_gripper'
    faults = graph.client.create_publisher(String, 'fault', FAULTS)
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    assert eventually(lambda: len(stages.of('track_gripper')) == 2
                      and faults.get_subscription_count() == 1)
    faults.publish(String(data='stopped on request'))
    assert running.wait(30.0)
    assert running.result.error_code == Result.STOPPED
    assert len(stages.of('plan_motion')) == 1


@pytest.mark.parametrize('name', list(ACTIONS))
def test_a_server_that_crashed_in_its_callback_has_not_succeeded(
        loop: Any, graph: Graph, name: str) -> None:
    stages = loop(retries=0)
    stages.crash = name
    result = run(graph)
    assert result.error_code in (Result.GENERATION, Result.TRACKING, Result.PLANNING,
                                 Result.EXECUTION)
    stage = {'generate_future': 'generate', 'track_gripper': 'track', 'plan_motion': 'plan',
             'execute_plan': 'execute'}[name]
    assert result.error_msg.startswith(f'{stage}: ')
    assert 'ABORTED' in result.error_msg
    assert stages.calls[-1][0] == name  # nothing was called after it


def test_a_future_of_a_crashed_server_is_not_used_ahead(loop: Any, graph: Graph) -> None:
    stages = loop(pipelined=True)
    stages.pipelined, stages.ahead, stages.crash = True, True, 'track_gripper'
    stages.done_after = 2
    assert run(graph).success
    assert [p.skip_passed for p in stages.of('plan_motion')] == [False, False]


def test_a_server_that_has_gone_is_not_waited_for(loop: Any, graph: Graph) -> None:
    stages = loop(OTHERS)
    other = graph.add(Stages(('track_gripper',)))
    other.hang = 'track_gripper'
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    assert eventually(lambda: bool(other.of('track_gripper')))
    graph.remove(other)
    other.hang = ''
    assert running.wait(30.0)
    assert running.result.error_code == Result.TRACKING
    assert "'track_gripper' has gone" in running.result.error_msg
    assert stages.of('plan_motion') == []


def test_a_stage_that_takes_too_long(loop: Any, graph: Graph) -> None:
    stages = loop(stage_timeout=1.0)
    stages.hang = 'track_gripper'
    result = run(graph)
    assert result.error_code == Result.TRACKING
    assert 'did not end within 1 s' in result.error_msg
    assert stages.canceled == ['track_gripper']


def test_beats(loop: Any, graph: Graph) -> None:
    beats = graph.listen(Empty, 'heartbeat')
    loop()
    assert eventually(lambda: len(beats) > 20, 3.0)


def test_beats_and_tells_of_itself_while_the_ros_clock_stands_still(
        loop: Any, graph: Graph) -> None:
    beats, told = graph.listen(Empty, 'heartbeat'), graph.listen(DiagnosticArray, '/diagnostics')
    loop(use_sim_time=True)
    assert eventually(lambda: len(beats) > 5, 10.0)
    assert eventually(lambda: any(s.name == 'task_loop: task' for m in told for s in m.status))


def test_looks_again_after_an_abort_where_that_is_allowed(loop: Any, graph: Graph) -> None:
    stages = loop(replan_after_abort=True)
    stages.done_after = 2
    stages.fail['execute_plan'] = [ExecutePlan.Result.CONTROLLER_ABORTED]
    assert run(graph).success
    assert len(stages.of('generate_future')) == 2


def test_deviations_are_counted_and_bounded(loop: Any, graph: Graph) -> None:
    stages = loop(max_deviations=3, retries=2)
    stages.fail['execute_plan'] = [ExecutePlan.Result.DEVIATED] * 2 + [0] + [
        ExecutePlan.Result.DEVIATED] * 9
    result = run(graph)
    assert (result.success, result.error_code, result.segments) == (False, Result.EXECUTION, 1)
    assert 'happened 4 times in this task, 3 are allowed (max_deviations)' in result.error_msg
    assert [t['deviations'] for t in json.loads(result.timing_json)] == [2, 2]
    # Every one of them was followed by a new observation.
    assert len(stages.of('generate_future')) == len(stages.of('execute_plan')) == 5


def test_without_transforms_nothing_is_planned_or_executed(loop: Any, graph: Graph) -> None:
    stages = loop()
    stages.fail['track_gripper'] = [TrackGripper.Result.NO_TRANSFORM]
    assert run(graph).error_code == Result.TRACKING
    assert stages.of('plan_motion') == stages.of('execute_plan') == []


def test_imagines_the_next_future_while_the_robot_moves(loop: Any, graph: Graph) -> None:
    stages = loop(pipelined=True)
    stages.pipelined, stages.done_after = True, 3
    result = run(graph, seed=5)
    assert result.success
    plans = stages.of('plan_motion')
    assert [p.skip_passed for p in plans] == [False, True, True]
    assert [p.trajectory.future_id for p in plans] == [f'future of seed {s}' for s in (5, 6, 7)]
    # Called while the execution before it had not ended.
    names = [name for name, _ in stages.calls]
    assert names[:7] == [*ACTIONS, 'generate_future', 'track_gripper', 'plan_motion']
    timings = json.loads(result.timing_json)
    assert [t.get('ahead') for t in timings] == [None, 'used', 'used']
    assert all(t['idle'] > 0.0 for t in timings[1:])


def test_a_future_that_does_not_fit_is_imagined_anew(loop: Any, graph: Graph) -> None:
    stages = loop(pipelined=True)
    stages.pipelined, stages.done_after = True, 2
    stages.fail['plan_motion'] = [0, PlanMotion.Result.CHECK_FAILED]
    result = run(graph, seed=5)
    assert result.success
    assert [p.skip_passed for p in stages.of('plan_motion')] == [False, True, False]
    assert json.loads(result.timing_json)[1]['ahead'].startswith('discarded: plan')
    assert len(stages.of('execute_plan')) == 2


@pytest.mark.parametrize('motions', [['arm', 'gripper'], ['gripper']])
def test_nothing_is_imagined_ahead_of_a_grasp(loop: Any, graph: Graph, motions: list[str]) -> None:
    stages = loop(pipelined=True)
    stages.motions, stages.done_after = motions, 2
    assert run(graph).success
    assert [p.skip_passed for p in stages.of('plan_motion')] == [False, False]


def test_after_a_deviation_the_future_imagined_ahead_is_discarded(loop: Any, graph: Graph) -> None:
    stages = loop(pipelined=True)
    stages.pipelined, stages.done_after = True, 2
    stages.fail['execute_plan'] = [ExecutePlan.Result.DEVIATED]
    assert run(graph).success
    assert [p.skip_passed for p in stages.of('plan_motion')] == [False, False]


class Sleeper(ManagedNode):
    """Serves `track_gripper` as a managed node does, once it is active."""

    def __init__(self) -> None:
        super().__init__('sleeper', **parameters(autostart=False))
        serve_action(self, TrackGripper, 'track_gripper', lambda goal, result: None,
                     unexpected=TrackGripper.Result.TRACKING_FAILED,
                     canceled=TrackGripper.Result.CANCELED)


def test_names_the_node_that_is_not_active(loop: Any, graph: Graph) -> None:
    stages = loop(OTHERS, server_timeout=1.0)
    graph.add(Sleeper())
    for transition, state, step in ((None, 'unconfigured', 'configure'),
                                    ('configure', 'inactive', 'activate')):
        assert transition is None or graph.change('sleeper', transition)
        result = run(graph)
        assert result.error_code == Result.TRACKING
        assert (f"node /sleeper, which serves 'track_gripper', is {state}, not active; "
                f'`ros2 lifecycle set /sleeper {step}`') in result.error_msg
    assert stages.calls == []


def test_waits_until_a_node_is_active(loop: Any, graph: Graph) -> None:
    stages = loop(OTHERS, server_timeout=60.0)
    stages.done_after = 1
    graph.add(Sleeper())
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    assert graph.change('sleeper', 'configure')
    assert not running.wait(0.2)
    assert graph.change('sleeper', 'activate')
    assert running.wait(60.0)
    assert running.result.success


def test_tries_a_server_whose_node_does_not_tell_its_state(
        loop: Any, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_states, 'ANSWER_TIMEOUT', 0.1)
    monkeypatch.setattr(server_states, 'UNKNOWN_TIMEOUT', 0.2)
    stages = loop(server_timeout=60.0)
    stages.done_after = 1
    asked, release = threading.Event(), threading.Event()

    def mute(_: GetState.Request, response: GetState.Response) -> GetState.Response:
        asked.set()
        release.wait(60.0)
        return response

    stages.create_service(GetState, 'stages/get_state', mute)
    client = graph.client.create_client(GetState, 'stages/get_state')
    assert client.wait_for_service(30.0)
    running = graph.start(RunTask, 'run_task', RunTask.Goal(task='T'))
    try:
        assert running.wait(60.0)
        assert asked.is_set()
        assert running.result.success
    finally:
        release.set()
