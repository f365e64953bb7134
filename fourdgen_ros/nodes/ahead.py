# SPDX-License-Identifier: Apache-2.0
"""The next future, imagined and tracked while the robot still moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from fourdgen_ros.action import GenerateFuture, TrackGripper
from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.msg import GripperTrajectory
from fourdgen_ros.nodes.actions import (
    POLL,
    CanceledError,
    SafeActionClient,
    call_action,
)


class Ahead:
    """One future at a time. It is a guess: whoever takes it checks that the robot fits it."""

    def __init__(self, generate: SafeActionClient, track: SafeActionClient,
                 warn: Callable[[str], None]) -> None:
        """`warn(text)` hears why a future came to nothing."""
        self._generate, self._track, self._warn = generate, track, warn
        self._pool = ThreadPoolExecutor(1, 'ahead')
        self._running: Future[GripperTrajectory | None] | None = None
        self._stop = threading.Event()

    def begin(self, task: str, seed: int, timeout: float) -> None:
        """Start on a future from the next observation; does nothing while there is one."""
        if self._running is None:
            self._stop = threading.Event()
            self._running = self._pool.submit(self._imagine, task, seed, timeout, self._stop)

    def take(self, interrupted: Callable[[], bool]) -> GripperTrajectory | None:
        """The trajectory, waiting for it; None when there is none.

        Raises CanceledError when interrupted.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        while not running.done():
            if interrupted():
                self._stop.set()
                raise CanceledError
            time.sleep(POLL)
        return running.result()

    def discard(self) -> None:
        """End what runs and forget it."""
        self._stop.set()
        running, self._running = self._running, None
        if running is not None:
            wait([running])  # both stages are free again

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _imagine(self, task: str, seed: int, timeout: float,
                 stop: threading.Event) -> GripperTrajectory | None:
        def call(client: SafeActionClient, request: Any) -> Any:
            answer = call_action(client, request, timeout=timeout, interrupted=stop.is_set)
            if answer.error_code:
                raise ExecutionError(client.name, got=answer.error_msg)
            return answer

        try:
            future = call(self._generate, GenerateFuture.Goal(task=task, seed=seed))
            return call(self._track, TrackGripper.Goal(future_id=future.future_id)).trajectory
        except ExecutionError as error:
            self._warn(f'no future was imagined ahead: {error}')
        except CanceledError:
            pass
        return None
