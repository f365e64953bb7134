# SPDX-License-Identifier: Apache-2.0
"""Node `generator` over real DDS, with cameras that a test node publishes."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from camera_server import (
    CAMERAS,
    DEPTH,
    Cameras,
    Freeze,
    compressed_colour,
    compressed_depth,
    generate,
    picture,
)
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import InvalidParameterValueException
from rclpy.qos import ReliabilityPolicy
from ros_graph import Graph, eventually, parameters
from sensor_msgs.msg import CompressedImage

from fourdgen_ros.action import GenerateFuture
from fourdgen_ros.core.errors import ExecutionError, GenerationError, InputError
from fourdgen_ros.data.compressed import compressed_to_depth, compressed_to_rgb
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.generator import GeneratorNode
from fourdgen_ros.nodes.qos import LATCHED

Result = GenerateFuture.Result


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
    np.testing.assert_allclose(generator.observations[0].reference.depth[1:], DEPTH, atol=1e-3)


def test_a_generator_that_tells_no_times_is_timed(graph: Graph) -> None:
    generator = Freeze()
    generator.release.clear()
    graph.add(Cameras())
    node = graph.add(GeneratorNode(generator, **parameters()))
    threading.Timer(0.3, generator.release.set).start()
    assert generate(graph).error_msg == ''
    last = node._latencies.values()['generate: last / p50 / p95 [s]'].split(' / ')[0]
    assert float(last) > 0.0


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
    graph.add(Cameras(label_depth_as='rgb8'))
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
    log = capfd.readouterr().err
    assert '/cam_left/color/image_raw: 1 publisher(s) with a QoS' in log
    assert '(RELIABILITY)' in log
    assert 'set the parameter input_reliability of /generator to best_effort' in log


@pytest.mark.parametrize('first', ['cameras', 'generator'])
@pytest.mark.parametrize('offered', ['BEST_EFFORT', 'RELIABLE'])
def test_auto_takes_what_the_publishers_offer(graph: Graph, capfd: Any, first: str,
                                              offered: str) -> None:
    topic = 'cam_left/color/image_raw'

    def heard() -> list[str]:
        return [info.qos_profile.reliability.name
                for info in graph.client.get_subscriptions_info_by_topic(f'/{topic}')]

    def add_cameras() -> None:
        graph.add(Cameras(reliability=ReliabilityPolicy[offered]))
        assert eventually(lambda: graph.client.count_publishers(topic) == 1)

    if first == 'cameras':
        add_cameras()
    graph.add(GeneratorNode(Freeze(), **parameters(input_reliability='auto')))
    if first == 'generator':
        assert eventually(lambda: heard() == ['RELIABLE'])
        add_cameras()
    assert generate(graph).error_msg == ''
    assert eventually(lambda: heard() == [offered])
    assert 'nothing arrives' not in capfd.readouterr().err
    assert graph.change('generator', 'deactivate')
    assert eventually(lambda: not heard())


@pytest.mark.parametrize(('name', 'value'), [
    ('generator', 'no_such'), ('input_reliability', 'maybe'), ('slop', -1.0)])
def test_a_wrong_parameter_stops_the_start(graph: Graph, name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterValueException, match=name):
        GeneratorNode(**parameters(**{name: value}))


@pytest.mark.parametrize('values', [
    {'cameras': ['cam_left,cam_right']}, {'cameras': ['']}, {'color_topic': '{cam}/color'},
    {'color_topic': '{camera/color'}], ids=str)
def test_cameras_without_a_topic_are_named(graph: Graph, values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r'of camera .*; expected a topic; got .* between them'):
        graph.add(GeneratorNode(Freeze(), **parameters(**values)))


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


def test_listens_on_demand(graph: Graph) -> None:
    generator = Freeze()
    cameras = graph.add(Cameras())
    node = graph.add(GeneratorNode(generator, **parameters(listening='on_demand',
                                                           observation_timeout=10.0)))
    topic = 'cam_left/color/image_raw'
    status = graph.listen(DiagnosticArray, '/diagnostics')
    for goals in (1, 2):
        assert node.count_subscribers(topic) == 0
        before = time.time_ns()
        assert generate(graph).error_msg == ''
        assert min(v.stamp for v in generator.observations[goals - 1].views) > before
        assert eventually(lambda: node.count_subscribers(topic) == 0)
    assert eventually(lambda: any(
        s.name == 'generator: cameras' and s.message == 'listened to while a goal waits'
        for message in status for s in message.status))
    cameras.stop()
    node.set_parameters(parameters(observation_timeout=0.3)['parameter_overrides'])
    result = generate(graph)
    assert result.error_code == Result.NO_OBSERVATION
    assert 'camera cam_left: no color' in result.error_msg
    assert eventually(lambda: node.count_subscribers(topic) == 0)


@pytest.mark.parametrize('listening', ['always', 'on_demand'])
def test_calibration_that_was_latched_before_the_node_started(graph: Graph,
                                                                  listening: str) -> None:
    graph.add(Cameras(latched_info=True))
    graph.add(GeneratorNode(Freeze(), **parameters(listening=listening)))
    assert generate(graph).error_msg == ''


def test_calibration_is_remembered_between_goals_on_demand(graph: Graph, capfd: Any) -> None:
    cameras = graph.add(Cameras())
    graph.add(GeneratorNode(Freeze(), **parameters(listening='on_demand')))
    assert generate(graph).error_msg == ''
    cameras.info_sent = False
    assert generate(graph).error_msg == ''
    log = capfd.readouterr().err  # that these cameras latch nothing is no error of this node
    assert 'nothing arrives' not in log
    assert 'offering incompatible QoS' not in log


def test_another_model_after_cleanup(graph: Graph, capfd: Any, tmp_path: Any) -> None:
    node = graph.add(GeneratorNode(**parameters(autostart=False, model=str(tmp_path))))
    assert not graph.change('generator', 'configure')
    assert f'cannot configure: checkpoint {tmp_path}' in capfd.readouterr().err
    node.set_parameters(parameters(model='')['parameter_overrides'])
    assert graph.change('generator', 'configure')
    assert node._generator is not None
    assert graph.change('generator', 'cleanup')
    assert node._generator is None


@pytest.mark.parametrize(('color', 'depth', 'tolerance'), [
    ('raw', 'raw 16UC1', 0), ('raw', 'raw 32FC1', 0), ('jpeg', 'raw 16UC1', 4), ('png', 'png', 0),
    ('jpeg', 'png header', 4), ('png', 'rvl', 0), ('png', 'png inverse', 0),
    ('png', 'rvl inverse', 0)])
def test_every_encoding_of_colour_and_depth(graph: Graph, color: str, depth: str,
                                            tolerance: int) -> None:
    generator = Freeze()
    transports = {'color_transport': 'raw' if color == 'raw' else 'compressed',
                  'depth_transport': 'raw' if depth.startswith('raw') else (
                      'compressed' if depth == 'png' else 'compressedDepth')}
    graph.add(Cameras(color=color, depth=depth))
    graph.add(GeneratorNode(generator, **parameters(**transports)))
    result = generate(graph)
    assert (result.error_code, result.error_msg) == (Result.NONE, '')
    for view in generator.observations[0].views:
        np.testing.assert_allclose(view.rgb.astype(int), picture().astype(int), atol=tolerance)
        assert np.isnan(view.depth[0, 0])  # a hole is a hole in every encoding
        np.testing.assert_allclose(view.depth[1:], DEPTH,
                                   atol=5e-3 if 'inverse' in depth else 1e-3)


def test_names_the_topic_of_a_damaged_image(graph: Graph, capfd: Any) -> None:
    graph.add(Cameras(color='torn', depth='raw 16UC1'))
    graph.add(GeneratorNode(Freeze(), **parameters(color_transport='compressed')))
    result = generate(graph)
    assert result.error_code == Result.NO_OBSERVATION
    assert 'compressed image /cam_left/color/image_raw/compressed' in result.error_msg
    assert 'expected a whole JPEG or PNG file' in result.error_msg


def test_the_traps_of_compressed_formats() -> None:
    """Old and odd formats, and what must be refused."""
    png = compressed_depth('png header')
    old = CompressedImage(format='16UC1; compressedDepth', data=png.data)
    older = CompressedImage(format='16UC1', data=png.data)
    for message in (png, old, older):
        np.testing.assert_allclose(compressed_to_depth(message)[1:], DEPTH, atol=1e-3)
    swapped = CompressedImage(format='rgb8; png compressed rgb8',
                              data=compressed_colour('png', picture()[..., ::-1]).data)
    np.testing.assert_array_equal(compressed_to_rgb(swapped), picture())
    bare = CompressedImage(format='jpeg', data=compressed_colour('jpeg').data)
    np.testing.assert_allclose(compressed_to_rgb(bare).astype(int), picture().astype(int), atol=4)
    for message, text in (
            (CompressedImage(format='16UC1; jpeg compressed ', data=[1]), 'JPEG destroys depth'),
            (CompressedImage(format='16UC1; compressedDepth png', data=[1]), 'more than 12 bytes'),
            (CompressedImage(format='16UC1; compressedDepth rvl',
                             data=compressed_depth('rvl').data[:30]), 'RVL stream'),
            (CompressedImage(format='32FC1; compressedDepth png', data=png.data[12:]),
             'expected 12 bytes before the PNG'),
            (CompressedImage(format='16UC1; compressedDepth png',
                             data=[0] * 12 + list(compressed_colour('png').data)),
             'expected 16 bits in one channel')):
        with pytest.raises(InputError, match=text):
            compressed_to_depth(message, '/d')
    with pytest.raises(InputError, match='Is it a depth image'):
        compressed_to_rgb(compressed_depth('png'), '/c')
    with pytest.raises(InputError, match='expected colour'):
        compressed_to_rgb(png, '/c')


def test_a_generator_of_the_user_is_named_by_module_and_class(graph: Graph) -> None:
    graph.add(Cameras())
    graph.add(GeneratorNode(**parameters(generator='camera_server:Freeze')))
    assert generate(graph).error_code == Result.NONE
    futures = graph.listen(GeneratedFuture, 'future', LATCHED)
    assert eventually(lambda: bool(futures))
    assert futures[0].generator == 'freeze'


@pytest.mark.parametrize(('values', 'message'), [
    ({'generator': 'no_such_module:Mine'}, 'PYTHONPATH'),
    ({'generator': 'camera_server:Freeze', 'model': 'x'}, 'finds its own weights')])
def test_a_generator_of_the_user_that_cannot_be(graph: Graph, values: dict, message: str) -> None:
    node = GeneratorNode(**parameters(**values))
    with pytest.raises(InputError, match=message):
        graph.add(node)
