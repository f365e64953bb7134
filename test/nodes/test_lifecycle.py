# SPDX-License-Identifier: Apache-2.0
"""Managed nodes over real DDS: transitions, their failures, and what exists in which state."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState
from ros_graph import Graph, eventually, parameters
from std_msgs.msg import Empty

from fourdgen_ros.action import GenerateFuture
from fourdgen_ros.core.errors import ExecutionError, InputError
from fourdgen_ros.nodes.actions import Goal, serve_action
from fourdgen_ros.nodes.lifecycle import ManagedNode

Result = GenerateFuture.Result
MANUAL = {'autostart': False}


class Counted(ManagedNode):
    """Counts messages on `in` while active; `broken` names the methods that raise."""

    def __init__(self, **values: Any) -> None:
        super().__init__('counted', **parameters(**values))
        self.parameter('size', 1, 'read when configured', low=1, high=9)
        self.calls: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.received = 0
        self.release = threading.Event()
        self.release.set()
        serve_action(self, GenerateFuture, 'count', self._work,
                     unexpected=Result.GENERATION_FAILED, canceled=Result.CANCELED)

    def configure(self) -> None:
        self.called('configure')
        self.size = self.value('size')
        self.create_client(GetState, 'nobody/get_state')
        assert self.release.wait(60.0)

    def activate(self) -> None:
        self.create_subscription(Empty, 'in', self._receive, 10, callback_group=self.group)
        self.publisher = self.create_publisher(Empty, 'out', 10)
        self.create_timer(0.001, lambda: self.publisher.publish(Empty()))
        self.called('activate')

    def deactivate(self) -> None:
        self.called('deactivate')

    def cleanup(self) -> None:
        self.called('cleanup')

    def called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise self.broken[name]

    def topics(self) -> tuple[int, int]:
        return self.count_subscribers('in'), self.count_publishers('out')

    def _receive(self, _: Empty) -> None:
        self.received += 1

    def _work(self, goal: Goal, result: Any) -> None:
        goal.feedback(stage='wait')
        while True:
            goal.check()
            if self.stopping.wait(0.01):
                continue


def change(graph: Graph, transition: str | int) -> bool:
    return graph.change('counted', transition)


def state(graph: Graph) -> str:
    return graph.call(GetState, 'counted/get_state').current_state.label


def is_unconfigured(graph: Graph, node: str) -> bool:
    """False also without an answer: it may get lost while two processes get to know each other."""
    try:
        answer = graph.call(GetState, f'{node}/get_state', timeout=5.0)
    except ExecutionError:
        return False
    return answer.current_state.label == 'unconfigured'


def goal(graph: Graph, **options: Any) -> Any:
    return graph.start(GenerateFuture, 'count', GenerateFuture.Goal(), **options)


def test_goes_through_its_states_and_owns_its_topics(graph: Graph) -> None:
    node = graph.add(Counted(**MANUAL))
    assert state(graph) == 'unconfigured'
    clients = len(list(node.clients))
    for _ in range(2):
        assert change(graph, 'configure')
        assert state(graph) == 'inactive'
        assert len(list(node.clients)) == clients + 1
        assert node.topics() == (0, 0)
        assert change(graph, 'activate')
        assert state(graph) == 'active'
        assert eventually(lambda: node.topics() == (1, 1))
        assert change(graph, 'deactivate')
        assert state(graph) == 'inactive'
        assert eventually(lambda: node.topics() == (0, 0))
        assert change(graph, 'cleanup')
        assert len(list(node.clients)) == clients
    assert node.calls == ['configure', 'activate', 'deactivate', 'cleanup'] * 2
    assert change(graph, 'shutdown')
    assert state(graph) == 'finalized'
    assert len(node.calls) == 8  # there was nothing to stop or to free


def test_starts_by_itself(graph: Graph) -> None:
    node = graph.add(Counted())
    assert node.calls == ['configure', 'activate']
    assert state(graph) == 'active'
    assert change(graph, 'shutdown')
    assert node.calls == ['configure', 'activate', 'deactivate', 'cleanup']


def test_shutting_down_stops_and_frees(graph: Graph) -> None:
    node = graph.add(Counted())
    graph.remove(node)
    assert node.calls == ['configure', 'activate', 'deactivate', 'cleanup']


def test_a_destroyed_node_leaves_nothing_on_the_graph(graph: Graph) -> None:
    node = graph.add(Counted())

    def left() -> list[str]:
        return [name for name, _ in graph.client.get_service_names_and_types()
                if name.startswith('/counted/')
                and not name.endswith('/get_type_description')]  # rclpy leaves that of any node

    assert eventually(lambda: '/counted/change_state' in left())
    graph.remove(node)
    assert eventually(lambda: left() == [] and 'counted' not in graph.client.get_node_names())


def test_what_configure_raises_is_logged_and_undone(graph: Graph, capfd: Any) -> None:
    node = graph.add(Counted(**MANUAL))
    node.broken['configure'] = InputError('model', got='nothing', hint='Train one.')
    assert not change(graph, 'configure')
    assert state(graph) == 'unconfigured'
    assert node.calls == ['configure', 'cleanup']
    assert 'cannot configure: model; got nothing. Train one.' in capfd.readouterr().err
    node.broken.clear()
    assert change(graph, 'configure')


def test_what_activate_raises_is_logged_and_undone(graph: Graph, capfd: Any) -> None:
    node = graph.add(Counted(**MANUAL))
    assert change(graph, 'configure')
    node.broken['activate'] = ZeroDivisionError('oops')
    assert not change(graph, 'activate')
    assert state(graph) == 'inactive'
    assert node.calls == ['configure', 'activate', 'deactivate']
    assert eventually(lambda: node.topics() == (0, 0))
    log = capfd.readouterr().err
    assert 'cannot activate' in log
    assert 'ZeroDivisionError: oops' in log
    assert 'Traceback' in log
    node.broken.clear()
    assert change(graph, 'activate')


@pytest.mark.parametrize('name', ['deactivate', 'cleanup'])
def test_a_node_that_cannot_stop_in_order_ends_unconfigured(graph: Graph, name: str) -> None:
    node = graph.add(Counted())
    node.broken[name] = RuntimeError('stuck')
    assert change(graph, 'deactivate') == (name != 'deactivate')
    if name == 'cleanup':
        assert not change(graph, 'cleanup')
    assert state(graph) == 'unconfigured'
    assert node.calls == ['configure', 'activate', 'deactivate', 'cleanup']
    assert eventually(lambda: node.topics() == (0, 0))
    assert change(graph, 'configure')


def test_autostart_raises_what_was_wrong() -> None:
    graph = Graph()
    node = Counted()
    node.broken['configure'] = InputError('model', got='nothing')
    try:
        with pytest.raises(InputError, match='model; got nothing'):
            graph.add(node)
    finally:
        graph.close()


def test_answers_a_transition_that_there_is_not(graph: Graph, capfd: Any) -> None:
    graph.add(Counted(**MANUAL))
    assert not change(graph, 'activate')
    assert not change(graph, Transition.TRANSITION_ACTIVATE)
    assert state(graph) == 'unconfigured'
    assert 'refused transition 3: there is none from state \'unconfigured\'' in (
        capfd.readouterr().err)


def test_tells_its_state_during_a_transition_and_refuses_another(graph: Graph) -> None:
    node = graph.add(Counted(**MANUAL))
    node.release.clear()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(change(graph, 'configure')))
    thread.start()
    assert eventually(lambda: node.calls == ['configure'])
    assert state(graph) == 'configuring'
    assert not change(graph, 'configure')
    node.release.set()
    thread.join(30.0)
    assert answers == [True]
    assert state(graph) == 'inactive'


def test_parameters_change_between_runs_only(graph: Graph) -> None:
    node = graph.add(Counted())
    size = parameters(size=7)['parameter_overrides']
    refused = node.set_parameters(size)[0]
    assert not refused.successful
    assert 'size: read when the node is configured, and it is active' in refused.reason
    assert change(graph, 'deactivate')
    assert change(graph, 'cleanup')
    assert node.set_parameters(size)[0].successful
    assert not node.set_parameters(parameters(size=10)['parameter_overrides'])[0].successful
    assert change(graph, 'configure')
    assert node.size == 7


def test_rejects_goals_unless_active(graph: Graph) -> None:
    graph.add(Counted(**MANUAL))
    with pytest.raises(ExecutionError, match="'count' rejected the goal"):
        goal(graph)
    assert change(graph, 'configure')
    with pytest.raises(ExecutionError, match='rejected the goal'):
        goal(graph)
    assert change(graph, 'activate')
    running = goal(graph)
    running.cancel()
    assert running.wait(30.0)
    assert running.result.error_msg == 'canceled'


def test_deactivate_ends_open_goals_with_a_reason(graph: Graph) -> None:
    graph.add(Counted())
    feedback: list[str] = []
    running = goal(graph, feedback=lambda f: feedback.append(f.stage))
    assert eventually(lambda: feedback == ['wait'])
    assert change(graph, 'deactivate')
    assert running.wait(30.0)
    assert running.result.error_code == Result.CANCELED
    assert running.result.error_msg == 'the node was deactivated or shut down'
    with pytest.raises(ExecutionError, match='rejected the goal'):
        goal(graph)
    assert change(graph, 'activate')
    again = goal(graph)
    again.cancel()
    assert again.wait(30.0)


def test_survives_transitions_while_messages_flow(graph: Graph, capfd: Any) -> None:
    node = graph.add(Counted())
    publisher = graph.client.create_publisher(Empty, 'in', 10)
    graph.client.create_timer(0.001, lambda: publisher.publish(Empty()))
    for _ in range(10):
        before = node.received
        assert eventually(lambda before=before: node.received > before)
        assert change(graph, 'deactivate')
        assert change(graph, 'cleanup')
        assert change(graph, 'configure')
        assert change(graph, 'activate')
    assert 'unexpected error' not in capfd.readouterr().err


def test_tells_its_state_in_diagnostics(graph: Graph) -> None:
    heard = graph.listen(DiagnosticArray, '/diagnostics')

    def said() -> set[tuple[str, str]]:
        return {(s.name, s.message) for m in list(heard) for s in m.status}

    node = graph.add(Counted(**MANUAL))
    assert eventually(lambda: ('counted: lifecycle', 'unconfigured') in said())
    node.broken['configure'] = InputError('model', got='nothing')
    assert not change(graph, 'configure')
    assert eventually(
        lambda: ('counted: lifecycle', 'unconfigured: model; got nothing') in said())


@pytest.mark.parametrize('name', ['generator', 'tracker', 'execution'])
def test_ends_on_sigint_in_any_state(graph: Graph, name: str) -> None:
    """As a process: unconfigured nodes end as active ones do, with code 0."""
    process = subprocess.Popen([sys.executable, '-m', f'fourdgen_ros.nodes.{name}', '--ros-args',
                                '-p', 'autostart:=false'])
    try:
        assert eventually(lambda: is_unconfigured(graph, name), 120.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 0
    finally:
        process.kill()


def test_a_process_that_cannot_start_says_why_and_ends() -> None:
    process = subprocess.run(
        [sys.executable, '-m', 'fourdgen_ros.nodes.generator', '--ros-args',
         '-p', 'model:=/no/such/model'], capture_output=True, text=True, timeout=120.0)
    assert process.returncode == 1
    assert 'cannot start: checkpoint /no/such/model' in process.stderr


@pytest.mark.parametrize('text', ['/**/execution:\n', '/**/execution: {ros__parameters: }\n',
                                  '- execution\n'])
def test_a_file_that_is_none_of_parameters_is_named_without_a_traceback(
        tmp_path: Path, text: str) -> None:
    file = tmp_path / 'my_cell.yaml'
    file.write_text(text)
    process = subprocess.run(
        [sys.executable, '-m', 'fourdgen_ros.nodes.execution', '--ros-args', '--params-file',
         str(file)], capture_output=True, text=True, timeout=120.0)
    assert process.returncode == 1
    assert 'cannot start: ROS arguments' in process.stderr
    assert str(file) in process.stderr
    assert 'at line 1' in process.stderr
    assert 'Traceback' not in process.stderr
