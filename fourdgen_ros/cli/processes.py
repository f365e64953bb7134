# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes of their own: started together, watched, and always ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from fourdgen_ros.core.errors import ExecutionError

_TAIL = 12  # log lines shown of a node that died


def claim_domain() -> tuple[int, IO[str]]:
    """A ROS domain that no other demo or test of this user has, and the file that reserves it until
    closed.

    Domains 1..101: their ports lie below Linux's ephemeral ones. Raises ExecutionError when all are
    taken.
    """
    for offset in range(101):
        domain = (os.getpid() + offset) % 101 + 1
        path = Path(tempfile.gettempdir(), f'fourdgen_ros_domain_{os.getuid()}_{domain}.lock')
        file = path.open('w', encoding='utf-8')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return domain, file
    raise ExecutionError('ROS domains 1..101', expected='a free one', got='all reserved',
                         hint='End other demos and tests of this user.')


class NodeProcesses:
    """A group of nodes; use it as a context: leaving it ends all of them."""

    def __init__(self, logs: Path) -> None:
        """Each node's output goes to `logs`/NODE.log."""
        self._logs = logs
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> NodeProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, node: str, parameters: Mapping[str, object],
              files: Sequence[Path] = ()) -> None:
        """Start `fourdgen_ros.nodes.NODE` with parameter files and, above them, parameters."""
        command = [sys.executable, '-m', f'fourdgen_ros.nodes.{node}', '--ros-args']
        for file in files:
            command += ['--params-file', str(file)]
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ['-p', f'{name}:={text}']
        with self._log(node).open('w', encoding='utf-8') as log:
            # A session of its own: Ctrl-C must reach us first, so that the robot stops in order.
            self._running[node] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True)

    def check(self) -> None:
        """Raise ExecutionError with the last lines of its log when a node has ended."""
        for node, process in self._running.items():
            if process.poll() is not None:
                raise ExecutionError(
                    f'node {node!r} ended with exit code {process.returncode}; its last lines:\n'
                    f'{self.tail(node)}', hint=f'\nThe whole log: {self._log(node)}')

    def pids(self) -> dict[str, int]:
        """Process number of each node."""
        return {node: process.pid for node, process in self._running.items()}

    def tail(self, node: str) -> str:
        """Last lines of a node's log."""
        lines = self._log(node).read_text(encoding='utf-8', errors='replace').splitlines()
        return '\n'.join(f'    {line}' for line in lines[-_TAIL:])

    def stop(self, patience: float = 8.0) -> None:
        """Interrupt all nodes, latest first, and kill what has not ended after `patience` s."""
        for process in reversed(list(self._running.values())):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        end = time.monotonic() + patience
        for process in self._running.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _log(self, node: str) -> Path:
        return self._logs / f'{node}.log'
