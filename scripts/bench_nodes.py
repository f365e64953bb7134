# SPDX-License-Identifier: Apache-2.0
"""CPU of each node while the robot stands still and nobody asks for anything.

The simulated cell publishes joint states at 100 Hz, TF at 50 Hz and images at 10 Hz; what a node
needs then is what listening costs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from fourdgen_ros.cli.processes import NodeProcesses, claim_domain
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.nodes.actions import wait_for_ready
from fourdgen_ros.nodes.base import spinning
from fourdgen_ros.nodes.run_watcher import RunWatcher
from fourdgen_ros.sim.tasks import load_task

NODES = ('cell', 'generator', 'tracker', 'execution', 'task_loop', 'visualization', 'view')
READY = 120.0  # s


def measure(nodes: list[str], seconds: float) -> dict[str, float]:
    """Cores that each node takes; raises RuntimeError when they do not get ready."""
    config = share_directory() / 'config'
    with tempfile.TemporaryDirectory() as logs, NodeProcesses(Path(logs)) as processes:
        for node in nodes:
            files = [f for f in (config / f'{node}.yaml', config / 'sim.yaml') if f.is_file()]
            processes.start(node, {'port': 0} if node == 'view' else {}, files)
        cameras = load_task('PlaceAppleFromBowlIntoBin').cameras
        with spinning(lambda: RunWatcher(list(cameras)), args=[]) as watcher:
            if not wait_for_ready(lambda: not watcher.missing(), READY):
                raise RuntimeError(f'after {READY:g} s nothing from {watcher.missing()}')
        processes.check()
        # the watcher listens no more: what is measured is what the nodes do
        running = {node: psutil.Process(pid) for node, pid in processes.pids().items()}
        before = {node: sum(p.cpu_times()[:2]) for node, p in running.items()}
        begin = time.monotonic()
        time.sleep(seconds)
        spent = time.monotonic() - begin
        return {node: round((sum(p.cpu_times()[:2]) - before[node]) / spent, 3)
                for node, p in running.items()}


def main() -> int:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--nodes', nargs='+', choices=NODES, default=list(NODES))
    args = parser.parse_args()
    domain, reserved = claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    with reserved:
        cores = measure(args.nodes, args.seconds)
    sys.stdout.write(json.dumps({'load': os.getloadavg()[0], 'cores': cores}) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
