# SPDX-License-Identifier: Apache-2.0
"""The demo as a user meets it when something goes wrong: Ctrl-C, a node that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fourdgen_ros.cli.processes import NodeProcesses
from fourdgen_ros.core.errors import ExecutionError

NODES = {'cell', 'generator', 'tracker', 'execution', 'task_loop'}


def nodes_of(demo: subprocess.Popen) -> dict[str, int]:
    """Process ids of the demo's nodes."""
    children = Path(f'/proc/{demo.pid}/task/{demo.pid}/children').read_text().split()
    found = {}
    for pid in map(int, children):
        words = Path(f'/proc/{pid}/cmdline').read_text().split('\0')
        for word in words:
            if word.startswith('fourdgen_ros.nodes.'):
                found[word.rpartition('.')[2]] = pid
    return found


def watch(processes: NodeProcesses) -> None:
    for _ in range(600):
        processes.check()
        time.sleep(0.1)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A demo whose task has begun."""
    command = [sys.executable, '-u', '-m', 'fourdgen_ros.cli', 'demo', '--generator', 'oracle',
               '--out', str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = ''
    for line in process.stdout:
        seen += line
        if 'segment 1:' in line:
            break
    else:
        pytest.fail(f'the demo ended before its task began:\n{seen}')
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(30.0)


def test_ctrl_c_ends_everything(
        demo: subprocess.Popen, alive: Callable[[int], bool]) -> None:
    nodes = nodes_of(demo)
    assert set(nodes) == NODES
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=60.0)
    assert demo.returncode == 130, output
    assert 'the robot holds' in output
    assert 'Traceback' not in output
    assert not [name for name, pid in nodes.items() if alive(pid)]


def test_a_node_that_dies_is_named(
        demo: subprocess.Popen, alive: Callable[[int], bool]) -> None:
    nodes = nodes_of(demo)
    os.kill(nodes['tracker'], signal.SIGKILL)
    output, _ = demo.communicate(timeout=60.0)
    assert demo.returncode == 1, output
    assert "node 'tracker' ended with exit code -9" in output
    assert 'tracker.log' in output.replace('\n', '')
    assert not [name for name, pid in nodes.items() if alive(pid)]


def test_a_node_that_cannot_start_shows_why(tmp_path: Path) -> None:
    with NodeProcesses(tmp_path) as processes:
        processes.start('generator', {'generator': 'crystal_ball'})
        with pytest.raises(ExecutionError, match='crystal_ball') as failure:
            watch(processes)
    assert "node 'generator' ended" in str(failure.value)
