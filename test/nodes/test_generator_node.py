# SPDX-License-Identifier: Apache-2.0
"""Node `generator` over real DDS, with cameras that a test node publishes."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import Graph, eventually, parameters
from sensor_msgs.msg import CameraInfo, Image

from fourdgen_ros.action import GenerateFuture
from fourdgen_ros.core.errors import ExecutionError, GenerationError
from fourdgen_ros.core.types import Future, Observation
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.generator import GeneratorNode
from fourdgen_ros.nodes.qos import LATCHED

Result = GenerateFuture.Result
CAMERAS = ('cam_left', 'cam_right')
H, W = 48, 64


class Freeze:
    """A generator whose future is the present: 3 equal frames."""

    name = 'freeze'

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.error: Exception | None = None
        self.release = threading.Event()
        self.release.set()

    def generate(self, observation: Observation, *, task: str, seed: int,
                 steps: int | None = None) -> Future:
        self.observations.append(observation)
        self.release.wait(60.0)
        if self.error is not None:
            raise self.error
        rgb = np.stack([np.stack([v.rgb] * 3) for v in observation.views])
        V, T = rgb.shape[:2]
        return Future(
            rgb=rgb, points=np.ones(rgb.shape, np.float32), valid=np.ones((V, T, H, W), bool),
            gripper=np.zeros((V, T, H, W), np.float32), dt=0.4,
            K=np.stack([v.K for v in observation.views]), stamp=observation.stamp,
            cameras=tuple(v.camera for v in observation.views), generator=self.name,
            frame_id=observation.reference.frame_id, seed=seed,
            steps=steps if steps is not None else 1)


class Cameras(Node):
    """Publishes colour, depth and calibration of cameras at 20 Hz with the present stamp."""

    def __init__(self, names: tuple[str, ...] = CAMERAS, *, depth_encoding: str = '16UC1',
                 reliability: ReliabilityPolicy = ReliabilityPolicy.BEST_EFFORT) -> None:
        super().__init__('cameras')
        qos = QoSProfile(depth=2, reliability=reliability)
        self._names, self._depth_encoding = names, depth_encoding
        self._pubs = {
            name: (self.create_publisher(Image, f'{name}/color/image_raw', qos),
                   self.create_publisher(Image, f'{name}/aligned_depth_to_color/image_raw', qos),
                   self.create_publisher(CameraInfo, f'{name}/color/camera_info', qos))
            for name in names}
        self._frames = self.create_timer(0.05, self._publish)

    def stop(self) -> None:
        self._frames.cancel()

    def _publish(self) -> None:
        stamp = self.get_clock().now().nanoseconds
        K = np.array([[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]])
        for name, (color, depth, info) in self._pubs.items():
            frame = f'{name}_color_optical_frame'
            color.publish(conversions.rgb_to_image(np.full((H, W, 3), 90, np.uint8), stamp, frame))
            image = conversions.depth_to_image(np.full((H, W), 0.8, np.float32), stamp, frame)
            image.encoding = self._depth_encoding
            depth.publish(image)
            info.publish(conversions.K_to_camera_info(K, H, W, stamp, frame))


def generate(graph: Graph, **goal: Any) -> Any:
    return graph.act(GenerateFuture, 'generate_future', GenerateFuture.Goal(task='t', **goal))


def test_publishes_a_future_that_late_joiners_get(graph: Graph) -> None:
    generator = Freeze()
    graph.add(Cameras())
    graph.add(GeneratorNode(generator, **parameters(steps=7)))
    before = time.time_ns()
    result = generate(graph, seed=5)
    assert (result.error_code, result.error_msg) == (Result.NONE, '')
    assert result.seconds > 0
    assert result.observation_skew < 0.05

    futures = graph.listen(GeneratedFuture, 'future', LATCHED)
    assert eventually(lambda: bool(futures))
    assert futures[0].future_id == result.future_id
    future = conversions.future_from_msg(futures[0])
    assert future.cameras == CAMERAS
    assert future.seed == 5
    assert future.steps == 7
    assert future.frame_id == 'cam_left_color_optical_frame'
    # captured after the goal was sent, not an older one that was at hand
    assert min(v.stamp for v in generator.observations[0].views) > before
    np.testing.assert_allclose(generator.observations[0].reference.depth, 0.8, atol=1e-3)


def test_never_uses_an_image_from_before_the_goal(graph: Graph) -> None:
    generator = Freeze()
    cameras = graph.add(Cameras())
    node = graph.add(GeneratorNode(generator, **parameters(observation_timeout=2.0)))
    assert generate(graph).error_code == Result.NONE
    cameras.stop()
    result = generate(graph)
    assert result.error_code == Result.NO_OBSERVATION
    assert len(generator.observations) == 1
    # the same image is good enough for who allows its age
    node.set_parameters([*parameters(max_observation_age=10.0)['parameter_overrides']])
    assert generate(graph).error_code == Result.NONE


def test_names_the_camera_and_the_topic_that_are_missing(graph: Graph) -> None:
    graph.add(Cameras(('cam_left',)))
    graph.add(GeneratorNode(Freeze(), **parameters(observation_timeout=0.4)))
    result = generate(graph)
    assert result.error_code == Result.NO_OBSERVATION
    assert result.future_id == ''
    assert 'camera cam_right: no color yet (topic /cam_right/color/image_raw)' in result.error_msg
    assert 'cam_left' not in result.error_msg


def test_names_a_wrong_encoding(graph: Graph) -> None:
    graph.add(Cameras(depth_encoding='rgb8'))
    graph.add(GeneratorNode(Freeze()))
    result = generate(graph)
    assert result.error_code == Result.NO_OBSERVATION
    assert 'expected 16UC1 (mm) or 32FC1 (m)' in result.error_msg
    assert '/cam_left/aligned_depth_to_color/image_raw' in result.error_msg


def test_says_what_the_generator_said(graph: Graph) -> None:
    generator = Freeze()
    graph.add(Cameras())
    graph.add(GeneratorNode(generator))
    generator.error = GenerationError('too dark', hint='Switch on the light.')
    result = generate(graph)
    assert result.error_code == Result.GENERATION_FAILED
    assert result.error_msg == 'too dark. Switch on the light.'
    generator.error = ZeroDivisionError('oops')
    result = generate(graph)
    assert result.error_code == Result.GENERATION_FAILED
    assert result.error_msg == 'ZeroDivisionError: oops'
    generator.error = None
    assert generate(graph).error_code == Result.NONE


def test_a_cancel_is_answered_while_the_generator_works(graph: Graph) -> None:
    generator = Freeze()
    generator.release.clear()
    graph.add(Cameras())
    graph.add(GeneratorNode(generator))
    running = graph.start(GenerateFuture, 'generate_future', GenerateFuture.Goal(task='t'))
    assert eventually(lambda: bool(generator.observations))
    running.cancel()
    assert running.wait(30.0)
    assert running.result.error_code == Result.CANCELED
    generator.release.set()
    assert generate(graph).error_code == Result.NONE


def test_tells_of_publishers_with_incompatible_qos(graph: Graph, capfd: Any) -> None:
    graph.add(Cameras(reliability=ReliabilityPolicy.BEST_EFFORT))
    graph.add(GeneratorNode(Freeze(), **parameters(
        input_reliability='reliable', observation_timeout=0.5)))
    assert generate(graph).error_code == Result.NO_OBSERVATION
    assert '/cam_left/color/image_raw: 1 publisher(s) with a QoS' in capfd.readouterr().err


@pytest.mark.parametrize(('name', 'value'), [
    ('generator', 'no_such'), ('input_reliability', 'maybe'), ('slop', -1.0)])
def test_a_wrong_parameter_stops_the_start(graph: Graph, name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterValueException, match=name):
        GeneratorNode(**parameters(**{name: value}))


def test_hears_no_camera_and_takes_no_goal_while_inactive(graph: Graph) -> None:
    generator = Freeze()
    graph.add(Cameras())
    node = graph.add(GeneratorNode(generator))
    topic = 'cam_left/color/image_raw'
    assert generate(graph).error_code == Result.NONE
    assert graph.change('generator', 'deactivate')
    assert eventually(lambda: node.count_subscribers(topic) == 0)
    with pytest.raises(ExecutionError, match='rejected the goal'):
        generate(graph)
    assert graph.change('generator', 'activate')
    assert eventually(lambda: node.count_subscribers(topic) == 1)
    assert generate(graph).error_code == Result.NONE
    assert len(generator.observations) == 2


def test_another_model_after_cleanup(graph: Graph, capfd: Any, tmp_path: Any) -> None:
    node = graph.add(GeneratorNode(**parameters(autostart=False, model=str(tmp_path))))
    assert not graph.change('generator', 'configure')
    assert f'cannot configure: checkpoint {tmp_path}' in capfd.readouterr().err
    node.set_parameters(parameters(model='')['parameter_overrides'])
    assert graph.change('generator', 'configure')
    assert node._generator is not None
    assert graph.change('generator', 'cleanup')
    assert node._generator is None
