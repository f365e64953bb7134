# SPDX-License-Identifier: Apache-2.0
"""Asks the node `task_loop` to do a task; Ctrl-C stops the robot."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable
from typing import Any

from rclpy.utilities import remove_ros_args

from fourdgen_ros.action import RunTask
from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.nodes.actions import CanceledError, SafeActionClient, call_action
from fourdgen_ros.nodes.base import StageNode, signals, spinning

INTERRUPTED = 130  # exit code of a shell command that SIGINT ended


def run_task(task: str, *, seed: int = 0, max_segments: int = 0, timeout: float = 3600.0,
             server_timeout: float = 10.0,
             feedback: Callable[[RunTask.Feedback], None] | None = None) -> tuple[int, Any]:
    """Run a task over ROS and return (exit code, RunTask.Result or None).

    The exit code is 0 when the task was done, 1 when it was not or there is no task loop, and 130
    when SIGINT, SIGTERM or SIGHUP came: then the task was canceled, and the robot has been told to
    hold. Takes over these signals; call it from the main thread.
    """
    interrupted = threading.Event()
    with (signals(lambda *_: interrupted.set()),
          spinning(lambda: StageNode('task_client')) as node):
        client = SafeActionClient(node, RunTask, 'run_task')
        request = RunTask.Goal(task=task, seed=seed, max_segments=max_segments)
        try:
            result = call_action(client, request, timeout=timeout, accept_timeout=server_timeout,
                                 interrupted=interrupted.is_set, feedback=feedback)
        except CanceledError:
            node.get_logger().warning('interrupted: the task is canceled')
            return INTERRUPTED, None
        except ExecutionError as error:
            node.get_logger().error(str(error))
            return 1, None
        if not result.success:
            node.get_logger().error(f'task not done: {result.error_msg}')
        return (0 if result.success else 1), result


def main() -> int:
    """Entry point of the executable `task_client`."""
    parser = argparse.ArgumentParser(prog='task_client', description=__doc__)
    parser.add_argument('task', help='name of the task, or a sentence for a generator that reads')
    parser.add_argument('--seed', type=int, default=0, help='of the generator')
    parser.add_argument('--max-segments', type=int, default=0, help='0: as the task loop is set')
    args = parser.parse_args(remove_ros_args(sys.argv)[1:])
    return run_task(args.task, seed=args.seed, max_segments=args.max_segments)[0]


if __name__ == '__main__':
    sys.exit(main())
