# SPDX-License-Identifier: Apache-2.0
"""The demo over ROS 2: every node a process, the task loop asked as any client would."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fourdgen_ros.cli.demo_report import Outcome, finish
from fourdgen_ros.cli.processes import NodeProcesses, claim_domain
from fourdgen_ros.cli.view import PORT, free_port
from fourdgen_ros.core.errors import ExecutionError

if TYPE_CHECKING:
    from rich.console import Console

    from fourdgen_ros.nodes.run_watcher import RunWatcher

_READY_TIMEOUT = 180.0  # s; a first start on a busy machine loads torch for long
_RUN_TIMEOUT = 1800.0
_POLL = 0.2


def run_over_ros(args: argparse.Namespace, console: Console) -> int:
    """Start the nodes, run the task, stop the nodes, report; returns the exit code.

    With `--view` the nodes run on after the report, until a signal ends the demo.

    Raises KeyboardInterrupt on SIGINT, SIGTERM and SIGHUP, after the robot has stopped and all
    processes have ended; ExecutionError when a node dies or nothing gets ready.
    """
    from fourdgen_ros.nodes.base import signals

    stop = threading.Event()
    domain, reserved = claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS',
                          'LARGE_DATA?max_msg_size=1MB&sockets_size=1MB&non_blocking=true')
    port = _view_port() if args.view else None
    with (signals(lambda *_: stop.set()), reserved,
          NodeProcesses(args.out / 'logs') as processes):
        _start(processes, args, port)
        outcome = _with_client(processes, args, console, stop.is_set, port)
        if outcome is not None and args.view:
            code = finish(outcome, args, console)
            console.print(f'look back at http://127.0.0.1:{port}; Ctrl-C ends it')
            stop.wait()
            return code
    if outcome is None:
        raise KeyboardInterrupt
    return finish(outcome, args, console)


def _view_port() -> int:
    from fourdgen_ros.view.gate import require_viser

    require_viser()
    return free_port(PORT)


def _start(processes: NodeProcesses, args: argparse.Namespace, port: int | None) -> None:
    from fourdgen_ros.core.paths import share_directory
    from fourdgen_ros.evaluation.generators import model_folder
    from fourdgen_ros.evaluation.road import FRAMES

    config = share_directory() / 'config'
    folder = model_folder(args.generator)
    generator = {'generator': args.generator} if folder is None else {
        'generator': 'tiny', 'model': folder.resolve()}
    nodes = {
        'cell': {'task': args.task, 'seed': args.seed},
        'generator': generator,
        'tracker': {},
        'execution': {},
        'task_loop': {'frames': FRAMES},
    }
    if port is not None:
        nodes['view'] = {'port': port}
    for node, parameters in nodes.items():
        processes.start(node, parameters, [config / f'{node}.yaml', config / 'sim.yaml'])


def _with_client(processes: NodeProcesses, args: argparse.Namespace, console: Console,
                 interrupted: Callable[[], bool], port: int | None) -> Outcome | None:
    """Outcome of the task; None when interrupted."""
    from fourdgen_ros.nodes.base import spinning
    from fourdgen_ros.nodes.run_watcher import RunWatcher
    from fourdgen_ros.sim.tasks import load_task

    cameras = list(load_task(args.task).cameras)
    with spinning(lambda: RunWatcher(cameras), args=[]) as watcher:
        ready = _wait_until_ready(processes, watcher, console, interrupted, port)
        if ready is None:
            return None
        return _run(processes, watcher, args, console, interrupted, ready)


def _wait_until_ready(processes: NodeProcesses, watcher: RunWatcher, console: Console,
                      interrupted: Callable[[], bool], port: int | None) -> float | None:
    start = time.monotonic()
    with console.status('starting the nodes') as status:
        while missing := watcher.missing() + ([] if port is None or _answers(port) else ['view']):
            if interrupted():
                return None
            processes.check()
            waited = time.monotonic() - start
            if waited > _READY_TIMEOUT:
                raise ExecutionError(f'the nodes are not ready after {waited:.0f} s',
                                     got=f'nothing from {", ".join(missing)}',
                                     hint='See the logs, and run `fourdgen doctor`.')
            status.update(f'{waited:.0f} s, waiting for {", ".join(missing)}')
            time.sleep(_POLL)
    seconds = time.monotonic() - start
    console.print(f'five nodes are ready after {seconds:.1f} s '
                  f'(ROS_DOMAIN_ID={os.environ["ROS_DOMAIN_ID"]})')
    if port is not None:
        console.print(f'watch it in the browser: http://127.0.0.1:{port}')
    return seconds


def _answers(port: int) -> bool:
    page = http.client.HTTPConnection('127.0.0.1', port, timeout=_POLL)
    try:
        page.request('GET', '/')
        return page.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        page.close()


def _run(processes: NodeProcesses, watcher: RunWatcher, args: argparse.Namespace,
         console: Console, interrupted: Callable[[], bool], ready: float) -> Outcome | None:
    from fourdgen_ros.nodes.actions import CanceledError

    died: list[ExecutionError] = []

    def ended() -> bool:
        try:
            processes.check()
        except ExecutionError as error:
            died.append(error)
        return interrupted() or bool(died)

    start = time.monotonic()
    with console.status('asking for the task') as status:
        progress = _Progress(console, status.update, start)
        try:
            result = watcher.run(args.task, seed=args.seed, max_segments=args.max_segments,
                                 timeout=_RUN_TIMEOUT, interrupted=ended, feedback=progress.hear)
        except CanceledError:
            if died:
                raise died[0] from None
            console.print('interrupted: the robot holds')
            return None
    seconds = time.monotonic() - start
    timings = json.loads(result.timing_json) if result.timing_json else []  # refused as busy
    return Outcome(result.success, result.error_msg, int(result.segments), timings, ready, seconds,
                   watcher.stage(), watcher.recordings())


class _Progress:
    """A line for every stage of every segment."""

    def __init__(self, console: Console, update: Callable[[str], None], start: float) -> None:
        self._console, self._update, self._start = console, update, start
        self._last: tuple[int, str, float] | None = None

    def hear(self, feedback) -> None:
        now = time.monotonic()
        if self._last is not None and self._last[1] != 'check':
            segment, stage, since = self._last
            self._console.print(f'{now - self._start:6.1f} s  segment {segment + 1}: {stage:8} '
                                f'{now - since:5.2f} s')
        self._last = feedback.segment, feedback.stage, now
        confidence = f', confidence {feedback.confidence:.2f}' if feedback.confidence else ''
        self._update(f'segment {feedback.segment + 1}: {feedback.stage}{confidence}')
