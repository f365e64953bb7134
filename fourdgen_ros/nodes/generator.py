# SPDX-License-Identifier: Apache-2.0
"""Node `generator`: cameras -> Observation -> Future, on request (action `generate_future`)."""

from __future__ import annotations

import functools
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

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
from fourdgen_ros.core.synchroniser import Synchroniser
from fourdgen_ros.core.types import Observation
from fourdgen_ros.evaluation.own import OWN, is_own, load_own
from fourdgen_ros.generator.base import Generator
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import ActionError, Goal, Worker, call_service, serve_action
from fourdgen_ros.nodes.base import run_node
from fourdgen_ros.nodes.lifecycle import ManagedNode
from fourdgen_ros.nodes.qos import LATCHED, qos_events
from fourdgen_ros.nodes.serialised import deserialised, serialised_stamp
from fourdgen_ros.srv import GetCellState

Result = GenerateFuture.Result
ORACLE_SIZE = (96, 128)  # (height, width), as the bundled model has
TRANSPORTS = {'color': ('raw', 'compressed'), 'depth': ('raw', 'compressed', 'compressedDepth')}
TOPICS = {'color': '{camera}/color/image_raw',
          'depth': '{camera}/aligned_depth_to_color/image_raw',
          'info': '{camera}/color/camera_info'}


class GeneratorNode(ManagedNode):
    """Keeps the newest synchronised RGB-D set; generates from one that is newer than the goal."""

    def __init__(self, generator: Generator | None = None, **options: Any) -> None:
        """`generator` overrides the one that the parameters name."""
        super().__init__('generator', **options)
        self.parameter('cameras', ['cam_left', 'cam_right'],
                       'names of the cameras, the reference first')
        for kind, topic in TOPICS.items():
            self.parameter(f'{kind}_topic', topic,
                           f'topic of a camera\'s {kind}; {{camera}} is the name')
        for kind, names in TRANSPORTS.items():
            self.parameter(
                f'{kind}_transport', 'raw', f'how {kind} images are sent, as image_transport calls '
                'it; other than raw, images come on <topic>/<transport>', choices=names)
        self.parameter(
            'slop', 0.05, 'largest stamp difference within one observation [s]', low=0.0, high=1.0)
        self.parameter(
            'input_reliability', 'best_effort',
            'QoS reliability of the camera subscriptions; best_effort matches every publisher',
            choices=('best_effort', 'reliable'))
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
        serve_action(self, GenerateFuture, 'generate_future', self._generate,
                     unexpected=Result.GENERATION_FAILED, canceled=Result.CANCELED,
                     codes={InputError: Result.NO_OBSERVATION,
                            GenerationError: Result.GENERATION_FAILED})
        self.report(self._report)

    def configure(self) -> None:
        """Load the model."""
        self._worker = Worker()
        self._cameras: list[str] = self.value('cameras')
        self._topics = {(camera, kind): self._topic(camera, kind)
                        for camera in self._cameras for kind in TOPICS}
        self._generator = self._given if self._given is not None else self._load()
        self._backend = self._generator.name

    def activate(self) -> None:
        """Listen to the cameras."""
        self._synchroniser = self._new_synchroniser()
        self._publisher = self.create_publisher(GeneratedFuture, 'future', LATCHED)
        self._always = self.value('listening') == 'always'
        if self._always:
            self._listen()

    def _new_synchroniser(self) -> Synchroniser:
        return Synchroniser(self._cameras, slop_s=self.value('slop'), topics=self._topics)

    def _listen(self) -> list[Subscription]:
        reliability = ReliabilityPolicy[self.value('input_reliability').upper()]
        qos = QoSProfile(depth=self.value('input_depth'), reliability=reliability)
        hint = (f'set the parameter input_reliability of {self.get_fully_qualified_name()} to '
                f'best_effort')
        return [self.create_subscription(
            self._message_type(kind), topic, functools.partial(self._on_frame, camera, kind),
            qos, callback_group=self.group, event_callbacks=qos_events(self, topic, hint),
            raw=True)  # what is not used is not deserialised
            for (camera, kind), topic in self._topics.items()]

    def cleanup(self) -> None:
        """Forget the model; a stage that computes runs on unseen."""
        self._worker.close()
        self._generator = None

    def _transport(self, kind: str) -> str:
        return self.value(f'{kind}_transport') if kind in TRANSPORTS else 'raw'

    def _topic(self, camera: str, kind: str) -> str:
        transport = self._transport(kind)
        base = self.value(f'{kind}_topic').format(camera=camera)
        return self.resolve_topic_name(base if transport == 'raw' else f'{base}/{transport}')

    def _message_type(self, kind: str) -> type:
        if kind == 'info':
            return CameraInfo
        return Image if self._transport(kind) == 'raw' else CompressedImage

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
            return CellState.from_array(response.state)

        return OracleGenerator(state, height=ORACLE_SIZE[0], width=ORACLE_SIZE[1])

    def _on_frame(self, camera: str, kind: str, data: bytes) -> None:
        stamp = serialised_stamp(data, self._topics[camera, kind])
        self._synchroniser.add(camera, kind, stamp, data)

    def _generate(self, goal: Goal, result: Any) -> None:
        request = goal.request
        goal.feedback(stage='observe')
        start = time.monotonic()
        observation = self._worker.run(goal, self._observe(goal))
        self._latencies.add('observe', time.monotonic() - start)
        result.observation_skew = observation.skew
        goal.feedback(stage='generate')
        steps = request.steps if request.steps > 0 else self.value('steps')
        future = self._worker.run(goal, lambda: self._generator.generate(
            observation, task=request.task, seed=request.seed,
            steps=steps if steps > 0 else None))
        result.future_id = uuid.uuid4().hex[:12]
        self._publisher.publish(conversions.future_to_msg(future, result.future_id))
        self._clamp_ratio = future.clamp_ratio
        for step, seconds in {**future.timings, 'generate': sum(future.timings.values())}.items():
            self._latencies.add(step, seconds)

    def _observe(self, goal: Goal) -> Callable[[], Observation]:
        """Wait for an observation from after the goal: the robot may have moved before it."""
        age = round(self.value('max_observation_age') * 1e9)
        oldest = self.get_clock().now().nanoseconds - age
        timeout = self.value('observation_timeout')

        def wait() -> Observation:
            listening = []
            if not self._always:
                self._synchroniser = self._new_synchroniser()  # what came before tells nothing
                listening = self._listen()
            try:
                synced = self._synchroniser.wait(oldest, timeout)
            finally:
                for subscription in listening:
                    self.destroy_subscription(subscription)
            if synced is None:
                raise ActionError(Result.NO_OBSERVATION, f'{self._no_observation(oldest)}')
            messages = deserialised(synced, {kind: self._message_type(kind) for kind in TOPICS})
            return conversions.observation_from_set(messages, self._cameras, self._topics)

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
        cameras = {f'camera {name}': camera_status(name, stats, now, limits, self._topics)
                   for name in self._cameras}
        return {**cameras, 'synchronisation': synchronisation_status(stats, gaps), **stage}


def main() -> int:
    """Entry point of the executable `generator`."""
    return run_node(GeneratorNode)


if __name__ == '__main__':
    sys.exit(main())
