# SPDX-License-Identifier: Apache-2.0
"""The whole road without ROS: oracle to success, and what happens when a stage gives up."""

from __future__ import annotations

import numpy as np
import pytest

from fourdgen_ros.core.errors import (
    ExecutionError,
    GenerationError,
    PlanningError,
    TrackingError,
)
from fourdgen_ros.core.types import GripperCommand, JointTrajectory, MotionPlan
from fourdgen_ros.evaluation.execution import execute
from fourdgen_ros.evaluation.recording import executed_errors
from fourdgen_ros.evaluation.road import FRAMES, Road, RoadConfig
from fourdgen_ros.evaluation.rollout import run_seed
from fourdgen_ros.evaluation.stack import build_road
from fourdgen_ros.motion.deviation import DeviationError
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.sim.trajectory import TrajectoryFollower

TASK = 'PlaceAppleFromBowlIntoBin'


@pytest.fixture(scope='module')
def road() -> Road:
    return build_road(TASK, 'oracle')


def test_oracle_does_the_task(road: Road) -> None:
    road.cell.reset(0)
    result = road.run(0, record=True)
    assert (result.success, result.cause, result.stage) == (True, None, 'place'), result.message
    assert road.cell.success()
    assert 2 <= len(result.segments) <= 6
    for segment in result.segments:
        assert {'generate', 'track', 'plan', 'execute', 'observation_to_plan'} == set(
            segment.seconds)
        assert segment.confidence > 0.3
        assert segment.motion > 0.3
        recording = segment.recording
        assert recording.real.shape[1] == len(recording.executed) <= FRAMES
        mm, degrees = executed_errors(recording).T
        assert np.median(mm) < 10.0
        assert np.median(degrees) < 3.0


class Failing:
    """A stage that always gives up, and counts the seeds with which it was tried."""

    name = 'failing'

    def __init__(self, error: Exception) -> None:
        self.error, self.seeds = error, []

    def generate(self, *_, seed: int, **__):
        self.seeds.append(seed)
        raise self.error

    def track(self, *_):
        raise self.error

    def plan(self, *_, **__):
        raise self.error


@pytest.mark.parametrize(('stage', 'error', 'cause'), [
    ('generator', GenerationError('a future'), 'generation'),
    ('tracker', TrackingError('the gripper'), 'tracking'),
    ('planner', PlanningError('a path'), 'planning'),
])
def test_a_stage_that_gives_up(road: Road, stage: str, error: Exception, cause: str) -> None:
    failing = Failing(error)
    stages = {name: getattr(road, name) for name in ('generator', 'tracker', 'planner')}
    broken = Road(road.cell, **stages | {stage: failing}, config=RoadConfig(retries=1))
    broken.cell.reset(1)
    before = broken.cell.joint_positions
    result = broken.run(seed=7)
    assert (result.success, result.cause, result.message) == (False, cause, str(error))
    assert [(f.cause, f.seed) for f in result.segments[0].failures] == [(cause, 7), (cause, 8)]
    if stage == 'generator':
        assert failing.seeds == [7, 8]
    np.testing.assert_allclose(broken.cell.joint_positions, before, atol=1e-3)  # nothing moved


def test_a_task_that_is_not_done_in_time(road: Road) -> None:
    short = Road(road.cell, road.generator, road.tracker, road.planner,
                 RoadConfig(frames=3, max_segments=1))
    short.cell.reset(1)
    result = short.run()
    assert (result.success, result.cause, len(result.segments)) == (False, 'not_done', 1)
    assert '1 segments' in result.message


def test_an_unexpected_error_costs_one_seed_only(road: Road) -> None:
    broken = Road(road.cell, Failing(ZeroDivisionError('oops')), road.tracker, road.planner)
    row = run_seed(broken, 1)
    assert (row['success'], row['cause'], row['stage']) == (False, 'error', 'none')
    assert 'oops' in row['message']


def _plan(road: Road, *segments: JointTrajectory | GripperCommand) -> MotionPlan:
    model = RobotModel(road.planner.robot)
    arm = [s.positions for s in segments if isinstance(s, JointTrajectory)]
    q = np.concatenate([road.cell.joint_positions[None], *arm])
    return MotionPlan('test', segments, {}, 0, 0, 2, model.fk_path(q))


def _motion(start: np.ndarray, end: np.ndarray, seconds: float) -> JointTrajectory:
    names, zero = tuple(f'panda_joint{i}' for i in range(1, 8)), np.zeros((2, 7))
    ends = JointTrajectory(names, np.array([0.0, seconds]), np.stack([start, end]), zero, zero)
    times = np.linspace(0.0, seconds, round(seconds / 0.01) + 1)
    samples = [TrajectoryFollower(ends).sample(t) for t in times]
    return JointTrajectory(names, times, *(np.stack(part) for part in zip(*samples, strict=True)))


def test_execution_arrives(road: Road) -> None:
    road.cell.reset(2)
    start = road.cell.joint_positions
    goal = start + np.array([0.2, 0, 0, 0, 0, 0, 0])
    times = []
    execute(road.cell, _plan(road, _motion(start, goal, 1.0), GripperCommand(0.03)),
            lambda: times.append(road.cell.time))
    np.testing.assert_allclose(road.cell.joint_positions, goal, atol=0.02)
    assert road.cell.opening == pytest.approx(0.03, abs=0.003)
    assert np.diff(times) == pytest.approx(0.002)


def test_execution_that_cannot_be_followed_stops(road: Road) -> None:
    road.cell.reset(2)
    start = road.cell.joint_positions
    goal = start + np.array([1.2, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ExecutionError, match='path tolerance'):
        execute(road.cell, _plan(road, _motion(start, goal, 0.1)))
    road.cell.step(0.5)
    at_rest = road.cell.joint_positions
    road.cell.step(0.5)
    np.testing.assert_allclose(road.cell.joint_positions, at_rest, atol=0.01)
    assert abs(at_rest[0] - goal[0]) > 0.2


def test_an_arm_that_is_pushed_aside_stops_and_looks_again(road: Road) -> None:
    cell = road.cell
    cell.reset(2)
    start = cell.joint_positions
    goal = start + np.array([0.5, 0, 0, 0, 0, 0, 0])
    cell.push('panda_hand', np.array([0.0, 0.0, 150.0]))
    plan = _plan(road, _motion(start, goal, 3.0), GripperCommand(0.0))
    with pytest.raises(DeviationError, match='not where it was imagined') as caught:
        execute(cell, plan)
    assert 0.03 < caught.value.deviation.distance < 0.1
    cell.push('panda_hand', np.zeros(3))
    cell.step(0.5)
    stopped = cell.joint_positions
    cell.step(0.5)
    np.testing.assert_allclose(cell.joint_positions, stopped, atol=0.01)
    assert abs(stopped - goal).max() > 0.1
    assert cell.opening == pytest.approx(0.08, abs=0.003)  # nothing after it is done


def test_the_road_replans_after_a_push(road: Road) -> None:
    """Pushed in its first motion only, the road looks again and does the task."""
    road.cell.reset(0)
    pushed = []

    def push(segment: int, stage: str) -> None:
        force = [0.0, 0.0, 150.0] if stage == 'execute' and not pushed else np.zeros(3)
        pushed.extend([segment] if stage == 'execute' else [])
        road.cell.push('panda_hand', np.array(force))

    again = Road(road.cell, road.generator, road.tracker, road.planner, on_stage=push)
    result = again.run(0)
    assert result.success, result.message
    causes = [(s.index, f.cause, f.message) for s in result.segments for f in s.failures]
    assert [c[:2] for c in causes] == [(0, 'execution')]
    assert 'not where it was imagined' in causes[0][2]
