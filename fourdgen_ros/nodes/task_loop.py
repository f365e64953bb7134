# SPDX-License-Identifier: Apache-2.0
"""Node `task_loop`: imagine, track, plan, execute, again and again (action `run_task`).

Each segment follows only the first frames of a future, then looks again: errors of the generator,
the tracker and the robot do not add up (receding horizon).
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from std_msgs.msg import Empty

from fourdgen_ros.action import ExecutePlan, GenerateFuture, PlanMotion, RunTask, TrackGripper
from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.core.health import Latencies, Level, Status
from fourdgen_ros.msg import GripperTrajectory
from fourdgen_ros.nodes.actions import (
    ActionError,
    CanceledError,
    Goal,
    SafeActionClient,
    call_action,
    call_service,
    serve_action,
)
from fourdgen_ros.nodes.ahead import Ahead
from fourdgen_ros.nodes.base import StageNode, run_node
from fourdgen_ros.nodes.faults import FaultListener
from fourdgen_ros.nodes.qos import RESULT
from fourdgen_ros.nodes.server_states import ServerStates
from fourdgen_ros.srv import CheckSuccess

Result = RunTask.Result


class RetryError(ActionError):
    """Nothing moves, and another future may do better."""


class DeviatedError(RetryError):
    """The robot was stopped because it was not where the plan had it."""


class TaskLoopNode(StageNode):
    """Calls the four stages in turn until the task is done."""

    def __init__(self, **options: Any) -> None:
        super().__init__('task_loop', **options)
        self.parameter('frames', 6, 'frames of each future that are followed, frame 0 included; '
                       '0: all', low=0, high=1000, dynamic=True)
        self.parameter('max_segments', 20, 'segments before a task counts as not done',
                       low=1, high=1000, dynamic=True)
        self.parameter('retries', 2, 'further futures, with other seeds, after a generation, '
                                     'tracking or planning failure', low=0, high=20, dynamic=True)
        self.parameter('replan_after_abort', False, 'whether a motion that the controller aborted, '
                       'for instance at a contact, is followed by another future instead of the '
                       'end of the task')
        self.parameter('max_deviations', 5, 'how many times in one task a motion may be stopped '
                       'because the robot is not where it was imagined, and be followed by another '
                       'future; each is one of the retries of its segment', low=0, high=1000,
                       dynamic=True)
        self.parameter('pipelined', False, 'whether the next future is imagined while the last arm '
                       'motion of a segment runs, from an image taken then; it is discarded when '
                       'the robot does not come to rest on it')
        self.parameter('stage_timeout', 120.0, 'time limit of one generation, tracking or planning '
                                               '[s]', low=1.0, high=3600.0, dynamic=True)
        self.parameter('execution_timeout', 600.0, 'time limit of one execution, waiting for '
                                                   'confirmation included [s]',
                       low=1.0, high=3600.0, dynamic=True)
        self.parameter('server_timeout', 5.0, 'how long to wait for a stage\'s server [s]',
                       low=0.1, high=60.0, dynamic=True)
        success = self.parameter('success_service', '', 'service (CheckSuccess) that says whether '
                                                        'the task is done; empty: nobody knows')
        rate = self.parameter('heartbeat_rate', 20.0, 'rate of the topic `heartbeat`, which the '
                                                      'execution node watches [Hz]',
                              low=1.0, high=100.0)
        self._generate = SafeActionClient(self, GenerateFuture, 'generate_future')
        self._track = SafeActionClient(self, TrackGripper, 'track_gripper')
        self._plan = SafeActionClient(self, PlanMotion, 'plan_motion')
        self._execute = SafeActionClient(self, ExecutePlan, 'execute_plan')
        self._ahead = Ahead(self._generate, self._track, self.get_logger().warning)
        self._rest_since: float | None = None  # steady s, since the last motion of the task ended
        self._servers = ServerStates(self)
        self._faults = FaultListener(self)
        self._check = self.create_client(
            CheckSuccess, success, callback_group=self.group) if success else None
        self._state = 'idle'
        self._task: dict[str, str] = {}  # the last one, and how it ended
        self._deviations = 0
        self._latencies = Latencies()
        self._heartbeat = self.create_publisher(Empty, 'heartbeat', RESULT)
        self.steady_timer(1.0 / rate, lambda: self._heartbeat.publish(Empty()))
        serve_action(self, RunTask, 'run_task', self._run, unexpected=Result.EXECUTION,
                     canceled=Result.STOPPED, busy=Result.BUSY)
        self.report(lambda: {'task': Status(
            Level.OK, self._state, {**self._task, **self._latencies.values()})})

    def close(self) -> None:
        """End goals, and what is imagined ahead."""
        super().close()
        self._ahead.close()

    def _run(self, goal: Goal, result: Any) -> None:
        self._faults.begin()
        self._deviations, self._rest_since = 0, None
        self._ahead.discard()
        limit = goal.request.max_segments
        limit = limit if limit > 0 else self.value('max_segments')
        timings: list[dict[str, Any]] = []
        self._task = {'task': goal.request.task, 'outcome': ''}
        try:
            with self._ended_by_faults(goal):
                self._follow(goal, result, limit, timings)
            result.success = True
            self._task['outcome'] = f'done after {result.segments} segments'
        except Exception as error:
            reason = str(error)
            self._task['outcome'] = f'not done: {reason if reason else "canceled"}'
            raise
        finally:
            self._state = 'idle'
            result.timing_json = json.dumps(timings)
            self._ahead.discard()

    def _follow(self, goal: Goal, result: Any, limit: int, timings: list[dict[str, Any]]) -> None:
        """Run segments until the task is done."""
        seed = goal.request.seed
        self._require_servers(goal)
        while not self._done(goal, result.segments):
            if result.segments >= limit:
                reason = 'the task is not done' if self._check is not None else (
                    'no success_service is configured that could tell whether the task is done')
                raise ActionError(Result.NOT_DONE, f'after {limit} segments {reason}')
            timing: dict[str, Any] = {'segment': result.segments, 'seeds': []}
            timings.append(timing)
            seed = self._segment(goal, result.segments, seed, timing)
            result.segments += 1

    @contextlib.contextmanager
    def _ended_by_faults(self, goal: Goal) -> Iterator[None]:
        """Say so where a fault of the execution node, and not the client, has ended the goal."""
        try:
            yield
        except CanceledError:
            fault = self._faults.heard
            if goal.canceled or not fault:
                raise
            raise ActionError(Result.STOPPED, f'{self._state}: {fault}. Look at the robot, reset '
                              'the fault, begin the task anew.') from None

    def _interrupted(self, goal: Goal) -> bool:
        return goal.canceled or bool(self._faults.heard)

    def _check_wanted(self, goal: Goal) -> None:
        if self._interrupted(goal):
            raise CanceledError

    def _require_servers(self, goal: Goal) -> None:
        """Fail before anything is generated when a stage is not there or not active."""
        self._state = 'waiting for the stages'
        timeout = self.value('server_timeout')
        for code, client in ((Result.GENERATION, self._generate), (Result.TRACKING, self._track),
                             (Result.PLANNING, self._plan), (Result.EXECUTION, self._execute)):
            server = self._servers.wait(client, timeout, lambda: self._interrupted(goal))
            self._check_wanted(goal)
            if not server.usable:
                raise ActionError(code, f'after {timeout:g} s: {server}')

    def _segment(self, goal: Goal, segment: int, seed: int, timing: dict[str, Any]) -> int:
        """Run one segment and return the next unused seed."""
        last = self.value('retries')
        for attempt in range(last + 1):
            timing['seeds'].append(seed)
            try:
                self._attempt(goal, segment, seed, timing)
                return seed + 1
            except RetryError as failure:
                if isinstance(failure, DeviatedError):
                    self._count_deviation(failure, timing)
                if attempt == last:
                    raise
                self.get_logger().warning(
                    f'segment {segment}: {failure}; trying again with another seed')
                seed += 1
        raise AssertionError('unreachable: the last attempt returns or raises')

    def _count_deviation(self, failure: DeviatedError, timing: dict[str, Any]) -> None:
        """Let the task go on after a deviation, unless there were too many."""
        timing['deviations'] = timing.get('deviations', 0) + 1
        self._deviations += 1
        most = self.value('max_deviations')
        if self._deviations > most:
            raise ActionError(failure.code, f'{failure}; this has happened {self._deviations} '
                              f'times in this task, {most} are allowed (max_deviations)'
                              ) from failure

    def _attempt(self, goal: Goal, segment: int, seed: int, timing: dict[str, Any]) -> None:
        planned = self._plan_ahead(goal, segment, timing)
        if planned is None:
            planned = self._plan_anew(goal, segment, seed, timing)
        plan_id, confidence = planned
        retry = [ExecutePlan.Result.CHECK_FAILED, ExecutePlan.Result.EXPIRED,
                 ExecutePlan.Result.DEVIATED]
        if self.value('replan_after_abort'):
            retry.append(ExecutePlan.Result.CONTROLLER_ABORTED)
        if self._rest_since is not None:
            timing['idle'] = time.monotonic() - self._rest_since
        try:
            executed = self._stage(
                goal, segment, timing, 'execute', Result.EXECUTION, self._execute,
                ExecutePlan.Goal(plan_id=plan_id), retry=retry,
                stopped=(ExecutePlan.Result.STOPPED, ExecutePlan.Result.WATCHDOG,
                         ExecutePlan.Result.FAULT), confidence=confidence,
                feedback=lambda f: self._on_motion(f, goal.request.task, seed + 1))
        except (ActionError, CanceledError):
            self._ahead.discard()
            raise
        finally:
            self._rest_since = time.monotonic()
        timing['deviation_m'], timing['deviation_rad'] = (executed.deviation,
                                                          executed.deviation_angle)

    def _plan_anew(self, goal: Goal, segment: int, seed: int,
                   timing: dict[str, Any]) -> tuple[str, float]:
        """Id of a plan from an observation of the robot at rest, and its least confidence."""
        generated = self._stage(
            goal, segment, timing, 'generate', Result.GENERATION, self._generate,
            GenerateFuture.Goal(task=goal.request.task, seed=seed),
            retry=(GenerateFuture.Result.GENERATION_FAILED,))
        tracked = self._stage(
            goal, segment, timing, 'track', Result.TRACKING, self._track,
            TrackGripper.Goal(future_id=generated.future_id),
            retry=(TrackGripper.Result.TRACKING_FAILED,))
        return self._planned(goal, segment, timing, tracked.trajectory, passed=False)

    def _plan_ahead(self, goal: Goal, segment: int,
                    timing: dict[str, Any]) -> tuple[str, float] | None:
        """The same from the future that was imagined ahead; None when there is none that fits."""
        trajectory = self._ahead.take(lambda: self._interrupted(goal))
        if trajectory is None:
            return None
        try:
            planned = self._planned(goal, segment, timing, trajectory, passed=True)
        except RetryError as failure:
            timing['ahead'] = f'discarded: {failure}'
            self.get_logger().info(f'segment {segment}: the future imagined ahead is discarded: '
                                   f'{failure}')
            return None
        timing['ahead'] = 'used'
        return planned

    def _planned(self, goal: Goal, segment: int, timing: dict[str, Any],
                 trajectory: GripperTrajectory, *, passed: bool) -> tuple[str, float]:
        confidence = min(trajectory.confidence, default=0.0)
        planned = self._stage(
            goal, segment, timing, 'plan', Result.PLANNING, self._plan,
            PlanMotion.Goal(trajectory=trajectory, frames=self.value('frames'),
                            skip_passed=passed),
            retry=(PlanMotion.Result.INVALID_TRAJECTORY, PlanMotion.Result.PLANNING_FAILED,
                   PlanMotion.Result.CHECK_FAILED),
            stopped=(PlanMotion.Result.FAULT,), confidence=confidence)
        return planned.plan.plan_id, confidence

    def _on_motion(self, feedback: ExecutePlan.Feedback, task: str, seed: int) -> None:
        """Look ahead once only arm motion is left: what a grasp does, nobody has seen yet."""
        if (self.value('pipelined') and feedback.stage == 'arm'
                and feedback.segment + 1 == feedback.segments):
            self._ahead.begin(task, seed, self.value('stage_timeout'))

    def _stage(self, goal: Goal, segment: int, timing: dict[str, Any], stage: str, code: int,
               client: SafeActionClient, request: Any, *, retry: Collection[int],
               stopped: Collection[int] = (), confidence: float = 0.0,
               feedback: Callable[[Any], None] | None = None) -> Any:
        """Call one stage; a failure gets the RunTask `code` of the stage.

        Result codes in `retry` raise `RetryError`; those in `stopped` fail with code STOPPED.
        """
        self._check_wanted(goal)
        self._state = f'segment {segment}: {stage}'
        goal.feedback(stage=stage, segment=segment, confidence=confidence)
        limit = self.value('execution_timeout' if stage == 'execute' else 'stage_timeout')
        start = time.monotonic()
        try:
            answer = call_action(client, request, timeout=limit,
                                 accept_timeout=self.value('server_timeout'),
                                 interrupted=lambda: self._interrupted(goal),
                                 feedback=feedback)
        except ExecutionError as error:
            raise ActionError(code, f'{stage}: {error}') from error
        finally:
            seconds = time.monotonic() - start
            timing[stage] = timing.get(stage, 0.0) + seconds
            self._latencies.add(stage, seconds)
        if answer.error_code == 0:
            return answer
        message = f'{stage}: {answer.error_msg}'
        if answer.error_code in stopped:
            raise ActionError(Result.STOPPED, message)
        if answer.error_code not in retry:
            raise ActionError(code, message)
        deviated = stage == 'execute' and answer.error_code == ExecutePlan.Result.DEVIATED
        raise (DeviatedError if deviated else RetryError)(code, message)

    def _done(self, goal: Goal, segment: int) -> bool:
        if self._check is None:
            return False
        self._check_wanted(goal)
        goal.feedback(stage='check', segment=segment)
        try:
            return call_service(self._check, CheckSuccess.Request(),
                                timeout=self.value('server_timeout'),
                                interrupted=lambda: self._interrupted(goal)).success
        except ExecutionError as error:
            self._check_wanted(goal)
            raise ActionError(Result.NOT_DONE, f'check: {error}') from error


def main() -> int:
    """Entry point of the executable `task_loop`."""
    return run_node(TaskLoopNode)


if __name__ == '__main__':
    sys.exit(main())
