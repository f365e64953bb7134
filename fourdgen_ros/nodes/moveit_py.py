# SPDX-License-Identifier: Apache-2.0
"""MoveItPy in a process of its own as the `MoveIt` of motion/moveit.py."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.motion.base import Contact
from fourdgen_ros.motion.moveit import PathAnswer, PathRequest
from fourdgen_ros.motion.robot import SceneBox
from fourdgen_ros.nodes.moveit_py_worker import WorkerOptions, run

Array = NDArray[np.float64]


class MoveItPyProcess:
    """Starts the process and asks it, one question at a time. Thread safe."""

    def __init__(self, options: WorkerOptions, *, timeout: float, start_timeout: float = 60.0,
                 target: Callable[[Connection, WorkerOptions], None] = run) -> None:
        """`timeout` (s) holds for each answer, `start_timeout` until MoveItPy is up.

        `target` runs in the process. Raises InputError when there is no parameter file, and
        PlanningError when MoveItPy does not start.
        """
        self.name = 'moveit_py'
        if not Path(options.params_file).is_file():
            raise InputError(
                'moveit_params_file', expected='a YAML file with the parameters of MoveItPy',
                got=repr(options.params_file), hint='docs/robot.md says how to write it.')
        self._timeout = timeout
        self._lock = threading.Lock()
        # Spawned, not forked: a fork would share rclpy's and DDS's threads and sockets.
        context = multiprocessing.get_context('spawn')
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, options), daemon=True,
                                        name='moveit_py')
        self._process.start()
        theirs.close()
        self._receive('the start', start_timeout)

    def update_scene(self, boxes: tuple[SceneBox, ...], frame: str) -> None:
        """See motion/moveit.py."""
        self._ask('update_scene', boxes, frame)

    def path(self, request: PathRequest) -> PathAnswer:
        """See motion/moveit.py."""
        return self._ask('path', request)

    def first_contact(self, joints: tuple[str, ...], path: Array) -> Contact | None:
        """See motion/moveit.py."""
        return self._ask('first_contact', joints, path)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=2.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            try:
                self._connection.send((method, arguments))
            except OSError as error:
                raise self._lost(method) from error
            return self._receive(method, self._timeout)

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
        self._process.join(timeout=1.0)
        return PlanningError(
            f'moveit_py: {what}', expected='a running process',
            got=f'one that ended with code {self._process.exitcode}',
            hint='See its output above, then start the execution node again.')
