# SPDX-License-Identifier: Apache-2.0
"""Processes of nodes whose terminal is closed or whose ssh connection drops (SIGHUP)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ros_graph import eventually

Start = Callable[..., subprocess.Popen]

AT_A_TERMINAL = ('env', '--default-signal=HUP')  # the tests themselves may run under nohup

NODE = '''
    import sys
    from fourdgen_ros.nodes.base import StageNode, run_node

    class Node(StageNode):
        def __init__(self):
            super().__init__('hung_up')

        def start(self):
            print('spins', flush=True)

        def close(self):
            super().close()
            print('closed', flush=True)

    sys.exit(run_node(Node))
'''

GROUP = '''
    import sys, threading
    from pathlib import Path
    from fourdgen_ros.cli.processes import NodeProcesses
    from fourdgen_ros.nodes.base import signals

    stop = threading.Event()
    with signals(lambda *_: stop.set()), NodeProcesses(Path(sys.argv[1])) as processes:
        processes.start('task_loop', {})
        print(processes.pids()['task_loop'], flush=True)
        stop.wait()
'''


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program in Python; its output is a pipe."""
    processes = []

    def run(program: str, *args: str, before: tuple[str, ...] = AT_A_TERMINAL) -> subprocess.Popen:
        process = subprocess.Popen(
            [*before, sys.executable, '-c', textwrap.dedent(program), *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_closed_terminal_ends_a_node_in_order(start: Start) -> None:
    node = start(NODE)
    assert node.stdout.readline() == 'spins\n'
    node.send_signal(signal.SIGHUP)
    assert node.communicate(timeout=60.0)[0] == 'closed\n'
    assert node.returncode == 0


def test_a_node_under_nohup_outlives_its_terminal(start: Start) -> None:
    node = start(NODE, before=('nohup',))
    assert node.stdout.readline() == 'spins\n'
    with open(f'/proc/{node.pid}/status', encoding='utf-8') as file:
        ignored, = (int(line.split()[1], 16) for line in file if line.startswith('SigIgn:'))
    assert ignored >> (signal.SIGHUP - 1) & 1
    node.send_signal(signal.SIGTERM)
    assert node.communicate(timeout=60.0)[0] == 'closed\n'


def test_a_closed_terminal_ends_the_nodes_of_a_demo(
        start: Start, alive: Callable[[int], bool], tmp_path: Path) -> None:
    group = start(GROUP, str(tmp_path))
    node = int(group.stdout.readline())
    group.send_signal(signal.SIGHUP)
    try:
        assert group.wait(60.0) == 0
        assert eventually(lambda: not alive(node), 10.0)
    finally:
        if alive(node):
            os.kill(node, signal.SIGKILL)
