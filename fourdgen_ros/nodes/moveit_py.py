# SPDX-License-Identifier: Apache-2.0
"""MoveItPy in a process of its own as the `MoveIt` of motion/moveit.py."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.motion.base import Contact
from fourdgen_ros.motion.moveit import PathAnswer, PathRequest
from fourdgen_ros.motion.robot import SceneBox
from fourdgen_ros.nodes.moveit_py_worker import WorkerOptions

Array = NDArray[np.float64]
WORKER = 'fourdgen_ros.nodes.moveit_py_worker'


class MoveItPyProcess:
    """Starts the process and asks it, one question at a time. Thread safe."""

    def __init__(self, options: WorkerOptions, *, timeout: float, start_timeout: float = 60.0,
                 worker: str = WORKER) -> None:
        """`timeout` (s) holds for each answer, `start_timeout` until MoveItPy is up.

        `worker` is the module that the process runs. Raises InputError when there is no parameter
        file, and PlanningError when MoveItPy does not start.
        """
        self.name = 'moveit_py'
        if not Path(options.params_file).is_file():
            raise InputError(
                'moveit_params_file', expected='a YAML file with the parameters of MoveItPy',
                got=repr(options.params_file), hint='docs/robot.md says how to write it.')
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection, theirs = multiprocessing.Pipe()
        # A new interpreter, not a fork, which would share rclpy's and DDS's threads and sockets; in
        # a session of its own, so that it ends with its pipe and not before us on Ctrl-C.
        self._process = subprocess.Popen(
            [sys.executable, '-m', worker, str(theirs.fileno())], pass_fds=[theirs.fileno()],
            start_new_session=True)
        theirs.close()
        try:
            self._ask_for(options, 'the start', start_timeout)
        except PlanningError:
            self.close()
            raise

    def update_scene(self, boxes: tuple[SceneBox, ...], frame: str) -> None:
        """See motion/moveit.py."""
        self._ask('update_scene', boxes, frame)

    def link_poses(self, links: tuple[str, ...], joints: tuple[str, ...],
                   q: Array) -> dict[str, Array] | None:
        """None: MoveItPy is not asked."""
        return None

    def path(self, request: PathRequest) -> PathAnswer:
        """See motion/moveit.py."""
        return self._ask('path', request)

    def first_contact(self, joints: tuple[str, ...], path: Array) -> Contact | None:
        """See motion/moveit.py."""
        return self._ask('first_contact', joints, path)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, method: str, *arguments: Any) -> Any:
        return self._ask_for((method, arguments), method, self._timeout)

    def _ask_for(self, question: Any, what: str, timeout: float) -> Any:
        with self._lock:
            try:
                self._connection.send(question)
            except OSError as error:
                raise self._lost(what) from error
            return self._receive(what, timeout)

    def _receive(self, what: str, timeout: float) -> Any:
        try:
            if not self._connection.poll(timeout):
                # A late answer would be taken for that of the next question.
                self.close()
                raise PlanningError(f'moveit_py: {what}', expected=f'an answer in {timeout:g} s',
                                    got='none', hint='Its process was ended: start the execution '
                                    'node again, with a larger moveit_timeout.')
            done, result = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost(what) from error
        if not done:
            raise PlanningError(f'moveit_py: {what}', got=str(result))
        return result

    def _lost(self, what: str) -> PlanningError:
        self.close()
        return PlanningError(
            f'moveit_py: {what}', expected='a running process',
            got=f'one that ended with code {self._process.returncode}',
            hint='See its output above, then start the execution node again.')
