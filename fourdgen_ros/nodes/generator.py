# SPDX-License-Identifier: Apache-2.0
"""Node `generator`: cameras -> Observation -> Future, on request (action `generate_future`)."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from fourdgen_ros.action import GenerateFuture
from fourdgen_ros.core.errors import ExecutionError, GenerationError, InputError
from fourdgen_ros.core.health import (
    CameraLimits,
    Latencies,
    Level,
    Status,
    camera_status,
    generator_status,
    synchronisation_status,
)
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.types import Observation
from fourdgen_ros.evaluation.own import OWN, is_own, load_own
from fourdgen_ros.generator.base import Generator
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import ActionError, Goal, Worker, call_service, serve_action
from fourdgen_ros.nodes.base import run_node
from fourdgen_ros.nodes.camera_inputs import CameraTopics, declare_cameras
from fourdgen_ros.nodes.camera_subscription import CameraSubscription
from fourdgen_ros.nodes.lifecycle import ManagedNode
from fourdgen_ros.nodes.qos import LATCHED
from fourdgen_ros.srv import GetCellState

Result = GenerateFuture.Result
ORACLE_SIZE = (96, 128)  # (height, width), as the bundled model has


class GeneratorNode(ManagedNode):
    """Keeps the newest synchronised RGB-D set; generates from one that is newer than the goal."""

    def __init__(self, generator: Generator | None = None, **options: Any) -> None:
        """`generator` overrides the one that the parameters name."""
        super().__init__('generator', **options)
        declare_cameras(self)
        self.parameter('input_depth', 5, 'QoS depth of the camera subscriptions: images that may '
                                         'wait to be taken', low=1, high=100)
        self.parameter(
            'listening', 'always', 'when the cameras are listened to: always, or on_demand, only '
            'while a goal waits for an observation, which is for cameras on another machine',
            choices=('always', 'on_demand'))
        self.parameter(
            'observation_timeout', 3.0, 'how long a goal waits for an observation [s]',
            low=0.01, high=60.0, dynamic=True)
        self.parameter(
            'max_observation_age', 0.0,
            'how much older than the goal an observation may be [s]; with 0 the robot has surely '
            'been at rest since its last motion', low=0.0, high=10.0, dynamic=True)
        self.parameter('steps', 0, 'denoising steps when the goal does not say; 0: the '
                                   'generator\'s default', low=0, high=1000, dynamic=True)
        self.parameter(
            'generator', 'tiny',
            'the generator: tiny (a model), oracle (simulated cell only: rolls the scripted expert '
            'ahead) or a class of your own as package.module:Class, made without arguments',
            choices=('tiny', 'oracle'), pattern=OWN)
        self.parameter('min_camera_rate', 5.0, 'a camera slower than this is a warning in '
                                               '/diagnostics; 0: any [Hz]', low=0.0, high=120.0,
                       dynamic=True)
        self.parameter('max_stamp_delay', 1.0, 'stamps further behind the clock are a warning in '
                                               '/diagnostics [s]', low=0.0, high=600.0,
                       dynamic=True)
        self.parameter('max_clamp_ratio', 0.05, 'a future with a larger share of points outside '
                                                'the generator\'s range is a warning in '
                                                '/diagnostics', low=0.0, high=1.0, dynamic=True)
        self.parameter('model', '', 'folder of the model; empty: the bundled one')
        self._given = generator
        self._generator: Generator | None = None
        self._latencies = Latencies()
        self._clamp_ratio: float | None = None  # of the last future
        self._listening: list[CameraSubscription] = []  # where it is always
        serve_action(self, GenerateFuture, 'generate_future', self._generate,
                     unexpected=Result.GENERATION_FAILED, canceled=Result.CANCELED,
                     codes={InputError: Result.NO_OBSERVATION,
                            GenerationError: Result.GENERATION_FAILED})
        self.report(self._report)

    def configure(self) -> None:
        """Load the model."""
        self._worker = Worker()
        self._cameras = CameraTopics(self)
        self._generator = self._given if self._given is not None else self._load()
        self._backend = self._generator.name

    def activate(self) -> None:
        """Listen to the cameras."""
        self._synchroniser = self._cameras.synchroniser()
        self._publisher = self.create_publisher(GeneratedFuture, 'future', LATCHED)
        self._always = self.value('listening') == 'always'
        if self._always:
            self._listening = self._cameras.subscribe(self._synchroniser,
                                                      self.value('input_depth'))

    def deactivate(self) -> None:
        """Hear no camera."""
        _close(self._listening)

    def cleanup(self) -> None:
        """Forget the model; a stage that computes runs on unseen."""
        self._worker.close()
        self._generator = None

    def _load(self) -> Generator:
        name, model = self.value('generator'), self.value('model')
        if name == 'oracle':
            return self._oracle()
        if is_own(name):
            if model:
                raise InputError('parameter model', expected=f'none with generator {name}',
                                 got=model, hint='The class finds its own weights.')
            return load_own(name)
        from fourdgen_ros.generator.load import load_generator

        return load_generator(model if model else share_directory() / 'models' / 'tiny')

    def _oracle(self) -> Generator:
        from fourdgen_ros.sim.cell import CellState
        from fourdgen_ros.sim.oracle import OracleGenerator

        client = self.create_client(GetCellState, 'cell/get_state', callback_group=self.group)

        def state() -> CellState:
            response = call_service(client, GetCellState.Request(), timeout=10.0,
                                    interrupted=lambda: self.stopping.is_set())
            if not response.success:
                raise ExecutionError('cell/get_state failed', got=response.message,
                                     hint='The oracle needs the simulated cell: see its log.')
            return CellState.from_array(response.state, response.task)

        return OracleGenerator(state, height=ORACLE_SIZE[0], width=ORACLE_SIZE[1])

    def _generate(self, goal: Goal, result: Any) -> None:
        request = goal.request
        goal.feedback(stage='observe')
        start = time.monotonic()
        observation = self._worker.run(goal, self._observe(goal))
        self._latencies.add('observe', time.monotonic() - start)
        result.observation_skew = observation.skew
        goal.feedback(stage='generate')
        steps = request.steps if request.steps > 0 else self.value('steps')
        start = time.monotonic()
        future = self._worker.run(goal, lambda: self._generator.generate(
            observation, task=request.task, seed=request.seed,
            steps=steps if steps > 0 else None))
        seconds = time.monotonic() - start  # a class of the user may tell no times of its own
        result.future_id = uuid.uuid4().hex[:12]
        self._publisher.publish(conversions.future_to_msg(future, result.future_id))
        self._clamp_ratio = future.clamp_ratio
        for step, taken in {**future.timings, 'generate': seconds}.items():
            self._latencies.add(step, taken)

    def _observe(self, goal: Goal) -> Callable[[], Observation]:
        """Wait for an observation from after the goal: the robot may have moved before it."""
        age = round(self.value('max_observation_age') * 1e9)
        oldest = self.get_clock().now().nanoseconds - age
        timeout = self.value('observation_timeout')

        def wait() -> Observation:
            listening: list[CameraSubscription] = []
            if not self._always:
                self._synchroniser = self._synchroniser.renewed()  # old images tell nothing
                listening = self._cameras.subscribe(self._synchroniser, self.value('input_depth'))
            try:
                synced = self._synchroniser.wait(oldest, timeout)
            finally:
                _close(listening)
            if synced is None:
                raise ActionError(Result.NO_OBSERVATION, f'{self._no_observation(oldest)}')
            return self._cameras.observation(synced)

        return wait

    def _no_observation(self, oldest: int) -> str:
        latest = self._synchroniser.latest()
        if latest is None or self._synchroniser.missing():
            return str(self._synchroniser.error())
        behind = (oldest - latest.oldest) * 1e-9
        return (f'cameras send, but stamps are {behind:.2f} s behind the goal; synchronise the '
                f'clocks of the machines, or raise max_observation_age')

    def _report(self) -> dict[str, Status]:
        stage = {'generator': generator_status(
            self._backend, self._clamp_ratio, self.value('max_clamp_ratio'), self._latencies)}
        if not self._always:
            return {'cameras': Status(Level.OK, 'listened to while a goal waits'), **stage}
        stats, gaps = self._synchroniser.stats(), self._synchroniser.missing()
        now = self.get_clock().now().nanoseconds
        limits = CameraLimits(min_rate=self.value('min_camera_rate'),
                              max_behind=self.value('max_stamp_delay'))
        latest = self._synchroniser.latest()
        cameras = {
            f'camera {name}': camera_status(
                name, stats, now, limits, self._cameras.topics,
                self._cameras.calibration_doubt(name, latest))
            for name in self._cameras.names}
        return {**cameras, 'synchronisation': synchronisation_status(stats, gaps), **stage}


def _close(subscriptions: list[CameraSubscription]) -> None:
    while subscriptions:
        subscriptions.pop().close()


def main() -> int:
    """Entry point of the executable `generator`."""
    return run_node(GeneratorNode)


if __name__ == '__main__':
    sys.exit(main())
