# SPDX-License-Identifier: Apache-2.0
"""The whole road in one process, without ROS: observe, generate, track, plan, execute, again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.core.types import Future, GripperTrajectory, MotionPlan, Observation
from fourdgen_ros.evaluation.execution import execute
from fourdgen_ros.evaluation.recording import Recorder, Recording
from fourdgen_ros.sim.tasks.base import STAGES

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator
    from fourdgen_ros.motion.base import Planner
    from fourdgen_ros.sim.cell import Cell
    from fourdgen_ros.tracker.base import Tracker

BASE_FRAME = 'panda_link0'
Cause = Literal['generation', 'tracking', 'planning', 'execution']
_CAUSES: dict[str, Cause] = {'generate': 'generation', 'track': 'tracking', 'plan': 'planning',
                             'execute': 'execution'}


FRAMES = 6  # of a future that are executed


@dataclass(frozen=True)
class RoadConfig:
    """Frames 0..`frames` - 1 of each future are executed, 0 being the present (None: `FRAMES`, or
    all of a shorter one); `steps` of denoising (None: the generator's default); cameras are
    rendered at (height, width)."""

    frames: int | None = None
    max_segments: int = 10
    retries: int = 2
    steps: int | None = None
    height: int = 480
    width: int = 640


@dataclass(frozen=True)
class Failure:
    """A stage that gave up, with the generator's seed of that attempt."""

    cause: Cause
    message: str
    seed: int


@dataclass
class Segment:
    """One turn of the loop.

    seconds: wall time by stage (generate, track, plan, execute) of the last attempt, and
    `observation_to_plan`; confidence: the least of the tracked frames that are executed; stage: how
    far the task was afterwards; motion: simulated seconds of execution; future and recording of the
    last attempt, only when the run is recorded.
    """

    index: int
    seconds: dict[str, float] = field(default_factory=dict)
    confidence: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    stage: str = 'none'
    motion: float = 0.0
    future: Future | None = None
    recording: Recording | None = None


@dataclass
class RoadResult:
    """cause is None on success, 'not_done' when no stage failed but the task was not finished;
    stage is the furthest one that was reached."""

    success: bool
    stage: str
    cause: str | None
    message: str
    segments: list[Segment]
    seconds: float
    simulated: float


class _StageError(Exception):
    def __init__(self, cause: Cause, error: FourdgenError) -> None:
        super().__init__(str(error))
        self.cause = cause


class Road:
    """Runs a task on a cell with the given stages; `on_stage(segment, stage)` hears of progress."""

    def __init__(self, cell: Cell, generator: Generator, tracker: Tracker, planner: Planner,
                 config: RoadConfig | None = None,
                 on_stage: Callable[[int, str], None] = lambda segment, stage: None) -> None:
        self.cell, self.generator, self.tracker, self.planner = cell, generator, tracker, planner
        self.config = RoadConfig() if config is None else config
        self._on_stage = on_stage
        self._reached = 0

    def run(self, seed: int = 0, *, record: bool = False) -> RoadResult:
        """From the cell's present state until success or `max_segments`.

        `seed` is the first seed of the generator. With `record` each segment keeps its future and
        what happened. The errors of stages end up in the result; others are raised, as InputError
        for a future with fewer frames than are to be executed.
        """
        start, started = time.perf_counter(), self.cell.time
        segments: list[Segment] = []
        recorder = Recorder(self.cell) if record else None
        self._reached = 0
        cause, message = None, ''
        success = self._look()
        while not success and cause is None and len(segments) < self.config.max_segments:
            segment = Segment(len(segments))
            segments.append(segment)
            seed, failure = self._segment(segment, seed, recorder)
            success = self._look()
            segment.stage = self.cell.stage()
            if failure is not None and not success:
                cause, message = failure.cause, failure.message
        if not success and cause is None:
            cause, message = 'not_done', f'not done after {len(segments)} segments'
        return RoadResult(success, STAGES[self._reached], None if success else cause, message,
                          segments, time.perf_counter() - start, self.cell.time - started)

    def _look(self) -> bool:
        self._reached = max(self._reached, STAGES.index(self.cell.stage()))
        return self.cell.success()

    def _segment(self, segment: Segment, seed: int,
                 recorder: Recorder | None) -> tuple[int, Failure | None]:
        """Attempts with successive seeds, each from a new observation: after a failed execution
        the arm holds wherever it met something. Returns the next seed and the failure that ended
        it."""
        for _ in range(self.config.retries + 1):
            try:
                self._attempt(segment, seed, recorder)
            except _StageError as gave:
                failure = Failure(gave.cause, str(gave), seed)
                segment.failures.append(failure)
                seed += 1
            else:
                return seed + 1, None
        return seed, failure

    def _attempt(self, segment: Segment, seed: int, recorder: Recorder | None) -> None:
        cell, config = self.cell, self.config
        observation = cell.observe(config.height, config.width)
        future, trajectory = self._imagine(segment, observation, seed, recorder)
        n = len(trajectory.poses)
        frames = min(FRAMES, n) if config.frames is None else config.frames
        if frames > n:
            raise InputError('frames of each future to execute', got=str(frames),
                             expected=f'at most {n}, as many as there are',
                             hint='`fourdgen rollout` has --frames.')
        segment.confidence = float(trajectory.confidence[:frames].min())
        with self._stage(segment, 'plan'):
            plan = self.planner.plan(trajectory, cell.joint_positions, cell.opening,
                                     frames=frames, now_ns=round(cell.time * 1e9),
                                     steady_ns=time.monotonic_ns())
        segment.seconds['observation_to_plan'] = sum(
            segment.seconds.get(stage, 0.0) for stage in ('generate', 'track', 'plan'))
        self._execute(segment, future, trajectory, plan, recorder)

    def _imagine(self, segment: Segment, observation: Observation, seed: int,
                 recorder: Recorder | None) -> tuple[Future, GripperTrajectory]:
        """The future and the gripper's path through it, in the base frame."""
        with self._stage(segment, 'generate'):
            future = self.generator.generate(observation, task=self.cell.task, seed=seed,
                                             steps=self.config.steps)
        if recorder is not None:
            segment.future, segment.recording = future, None
        with self._stage(segment, 'track'):
            T_base_ref = self.cell.T_base_camera(observation.reference.camera)
            first = se3.inverse(T_base_ref) @ self.cell.tcp_pose()
            trajectory = self.tracker.track(future, first, self.cell.opening)
            return future, trajectory.transformed(T_base_ref, BASE_FRAME)

    def _execute(self, segment: Segment, future: Future, trajectory: GripperTrajectory,
                 plan: MotionPlan, recorder: Recorder | None) -> None:
        before = self.cell.time
        if recorder is not None:
            recorder.start()
        try:
            with self._stage(segment, 'execute'):
                if recorder is None:
                    execute(self.cell, plan)
                else:
                    execute(self.cell, plan, recorder.sample)
        finally:
            segment.motion = self.cell.time - before
            if recorder is not None:
                segment.recording = recorder.finish(future, trajectory, plan.frames)

    @contextmanager
    def _stage(self, segment: Segment, stage: str) -> Iterator[None]:
        self._on_stage(segment.index, stage)
        start = time.perf_counter()
        try:
            yield
        except FourdgenError as error:
            raise _StageError(_CAUSES[stage], error) from error
        finally:
            segment.seconds[stage] = time.perf_counter() - start
