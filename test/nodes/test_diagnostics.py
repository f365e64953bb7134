# SPDX-License-Identifier: Apache-2.0
"""/diagnostics over real DDS: which node says what, and that it changes with what happens."""

from __future__ import annotations

from typing import Any

import numpy as np
from camera_server import Cameras, Freeze, K, distorted, generate
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from robot_server import HOME, Robot, move
from ros_graph import Graph, eventually, parameters
from std_srvs.srv import Trigger
from test_execution_node import PATIENT, FixedPlanner, planning_goal
from test_tracker_node import T_BASE_TCP
from test_tracker_node import Bench as TrackerBench

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.nodes.generator import GeneratorNode


class Listener:
    """The newest status by name."""

    def __init__(self, graph: Graph) -> None:
        self._messages = graph.listen(DiagnosticArray, '/diagnostics', 100)

    def of(self, name: str) -> DiagnosticStatus | None:
        return next((s for m in reversed(list(self._messages)) for s in m.status
                     if s.name == name), None)

    def says(self, name: str, level: Level, text: str) -> bool:
        """Whether a part comes to say something."""
        return eventually(lambda: (s := self.of(name)) is not None
                          and s.level == bytes([level]) and text in s.message)

    def value(self, name: str, key: str) -> str:
        return next(v.value for v in self.of(name).values if v.key == key)


def test_a_report_that_fails_hides_no_other(graph: Graph, capfd: Any) -> None:
    heard = graph.listen(DiagnosticArray, '/diagnostics')
    node = graph.add(StageNode('stage'))

    def fails() -> dict[str, Status]:
        raise OSError('no disk')

    node.report(fails)
    node.report(lambda: {'whole': Status(Level.OK, 'ready')})
    assert eventually(lambda: len([m for m in list(heard) if m.status]) >= 3)
    for message in heard:
        assert [(s.name, s.level[0], s.message) for s in message.status] == [
            ('stage: diagnostics', Level.ERROR, 'OSError: no disk'),
            ('stage: whole', Level.OK, 'ready')]
    assert capfd.readouterr().err.count('Traceback') == 1


def test_generator_and_cameras(graph: Graph) -> None:
    heard = Listener(graph)
    cameras = graph.add(Cameras(('cam_left',)))
    graph.add(GeneratorNode(Freeze(), **parameters(
        cameras=['cam_left'], min_camera_rate=0.5, max_stamp_delay=60.0)))
    assert heard.says('generator: camera cam_left', Level.OK, 'streaming')
    assert heard.says('generator: synchronisation', Level.OK, 'synchronised')
    assert heard.says('generator: lifecycle', Level.OK, 'active')
    assert heard.says('generator: generator', Level.OK, 'ready')
    assert eventually(
        lambda: float(heard.value('generator: camera cam_left', 'color rate [Hz]')) > 1.0)
    assert generate(graph).error_code == 0
    assert heard.says('generator: generator', Level.OK, 'generating')
    assert heard.value('generator: generator', 'clamp ratio') == '0.0000'
    assert '/' in heard.value('generator: generator', 'observe: last / p50 / p95 [s]')
    cameras.stop()
    assert heard.says('generator: camera cam_left', Level.ERROR,
                      'no color (topic /cam_left/color/image_raw) for')


def test_a_calibration_that_may_not_be_that_of_the_images(graph: Graph) -> None:
    heard = Listener(graph)
    cameras = graph.add(Cameras(('cam_left',)))
    graph.add(GeneratorNode(Freeze(), **parameters(
        cameras=['cam_left'], min_camera_rate=0.5, max_stamp_delay=60.0)))
    assert heard.says('generator: camera cam_left', Level.OK, 'streaming')
    cameras.calibrate = distorted
    assert heard.says('generator: camera cam_left', Level.WARN,
                      'distortion in info (topic /cam_left/color/camera_info) is not 0')
    assert heard.says('generator: camera cam_left', Level.WARN, 'fx 50.0 in K and 45.0 in P')


def test_rectified_images_have_the_calibration_of_p(graph: Graph) -> None:
    heard = Listener(graph)
    cameras = Cameras(('cam_left',))
    cameras.calibrate = distorted
    graph.add(cameras)
    generator = Freeze()
    graph.add(GeneratorNode(generator, **parameters(
        cameras=['cam_left'], min_camera_rate=0.5, max_stamp_delay=60.0, rectified=True)))
    assert heard.says('generator: camera cam_left', Level.OK, 'streaming')
    assert generate(graph).error_code == 0
    np.testing.assert_allclose(generator.observations[0].views[0].K,
                               np.diag([0.9, 0.9, 1.0]) @ K)


def test_tracker(graph: Graph) -> None:
    heard = Listener(graph)
    bench = TrackerBench(graph)
    assert heard.says('tracker: tracker', Level.OK, 'ready')
    now = bench.node.get_clock().now().nanoseconds
    bench.publish_camera(now)
    bench.publish_robot(now, 0.06, T_BASE_TCP)
    bench.publish_future('f', now)
    assert bench.track('f').error_code == 0
    assert heard.says('tracker: tracker', Level.OK, 'tracking')
    assert heard.value('tracker: tracker', 'least confidence') == '1.00'
    assert 'track: last' in heard.of('tracker: tracker').values[1].key


def test_execution(graph: Graph) -> None:
    def act(kind: Any, name: str, goal: Any) -> Any:
        return graph.start(kind, name, goal)

    heard = Listener(graph)
    robot = graph.add(Robot())
    graph.add(ExecutionNode(FixedPlanner(move(HOME + 0.2, 60.0)), **parameters(
        execution_mode='auto', heartbeat_timeout=0.0, joint_state_timeout=PATIENT)))
    assert heard.says('execution: execution', Level.OK, 'ready')
    planning = act(PlanMotion, 'plan_motion', planning_goal())
    assert planning.wait(30.0)
    plan_id = planning.result.plan.plan_id
    running = act(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id=plan_id))
    assert heard.says('execution: execution', Level.OK,
                      f'executing arm segment 1 of 1 of plan {plan_id}')
    assert eventually(lambda: not np.array_equal(robot.q, HOME))
    assert graph.call(Trigger, 'execution/stop').success
    assert running.wait(30.0)
    assert heard.says('execution: execution', Level.ERROR, 'stopped on request')
    assert heard.value('execution: execution', 'mode') == 'auto'
