# SPDX-License-Identifier: Apache-2.0
"""The whole road over DDS: five processes, one simulated cell, one task done."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from fourdgen_ros.core.paths import share_directory

NODES = ('cell', 'generator', 'tracker', 'execution', 'task_loop')
TASK = 'PlaceAppleFromBowlIntoBin'
PATIENCE = 280.0  # s; a busy machine makes everything slow, never wrong


def start(name: str, *arguments: str) -> subprocess.Popen:
    config = share_directory() / 'config'
    command = [sys.executable, '-m', f'fourdgen_ros.nodes.{name}', '--ros-args',
               '--params-file', str(config / f'{name}.yaml'),
               '--params-file', str(config / 'sim.yaml'), *arguments]
    return subprocess.Popen(command)


@pytest.fixture(scope='module')
def nodes() -> Iterator[dict[str, subprocess.Popen]]:
    """All nodes as processes; on SIGINT they must end by themselves and with code 0."""
    processes = {name: start(name, *(['-p', 'generator:=oracle'] if name == 'generator' else []))
                 for name in NODES}
    yield processes
    for process in processes.values():
        process.send_signal(signal.SIGINT)
    codes: dict[str, int | str] = {}
    for name, process in processes.items():
        try:
            codes[name] = process.wait(30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            codes[name] = 'killed'
    assert codes == dict.fromkeys(NODES, 0)


@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.slow
def test_the_oracle_does_the_task_over_dds(nodes: dict[str, subprocess.Popen]) -> None:
    from fourdgen_ros.nodes.task_client import run_task

    begin = time.monotonic()
    code, result = run_task(TASK, seed=0, server_timeout=60.0, timeout=PATIENCE)
    assert result is not None, 'no task loop, or it took too long'
    assert (code, result.success, result.error_msg) == (0, True, '')
    timings = json.loads(result.timing_json)
    assert len(timings) == result.segments > 1
    for stage in ('generate', 'track', 'plan', 'execute'):
        logging.info('%s: %s s', stage, [round(t[stage], 2) for t in timings])
    logging.info('task done after %.1f s', time.monotonic() - begin)
    assert all(p.poll() is None for p in nodes.values())


@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.slow
def test_ctrl_c_at_the_client_holds_the_robot(nodes: dict[str, subprocess.Popen]) -> None:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import JointState

    from fourdgen_ros.srv import ResetCell

    rclpy.init()
    node = rclpy.create_node('watcher')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    newest: list[np.ndarray] = []
    node.create_subscription(JointState, '/joint_states',
                             lambda m: newest.append(np.array(m.position)), 10)

    def speed() -> float:
        q = newest[-1][:7]
        time.sleep(0.3)
        return float(np.abs(newest[-1][:7] - q).max() / 0.3)

    client = None
    try:
        reset = node.create_client(ResetCell, 'cell/reset')
        assert reset.wait_for_service(60.0)
        future = reset.call_async(ResetCell.Request(seed=1))
        end = time.monotonic() + 30.0
        while not future.done():
            assert time.monotonic() < end
            time.sleep(0.01)
        while not newest or speed() > 0.01:
            assert time.monotonic() < end
        client = subprocess.Popen([sys.executable, '-m', 'fourdgen_ros.nodes.task_client', TASK])
        end = time.monotonic() + PATIENCE
        while speed() < 0.05:
            assert client.poll() is None
            assert time.monotonic() < end
        client.send_signal(signal.SIGINT)
        assert client.wait(20.0) == 130
        assert speed() < 0.01
        time.sleep(1.0)
        assert speed() < 0.01
    finally:
        if client is not None and client.poll() is None:
            client.kill()
        executor.shutdown(timeout_sec=5.0)
        thread.join(5.0)
        node.destroy_node()
        rclpy.try_shutdown()
