# SPDX-License-Identifier: Apache-2.0
"""How long the simulated robot stands still between two segments of a task, with and without
`pipelined` of the task loop, and what becomes of the tasks. All nodes run as processes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fourdgen_ros.cli.processes import NodeProcesses, claim_domain
from fourdgen_ros.core.paths import share_directory

TASK = 'PlaceAppleFromBowlIntoBin'


def main() -> int:
    """Print the figures, as JSON with --json."""
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--generator', default='tiny', choices=('tiny', 'oracle'))
    parser.add_argument('--tasks', type=int, default=4, help='seeds 0 to this, without it')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write them here')
    args = parser.parse_args()
    domain, reserved = claim_domain()
    os.environ.update(
        ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        FASTDDS_BUILTIN_TRANSPORTS='LARGE_DATA?max_msg_size=1MB&sockets_size=1MB&non_blocking=true')
    with reserved:
        figures = {name: run(pipelined, args.generator, args.tasks)
                   for name, pipelined in (('at rest', False), ('pipelined', True))}
    text = json.dumps(figures, indent=1)
    print(text)  # noqa: T201
    if args.json is not None:
        args.json.write_text(text + '\n', encoding='utf-8')
    return 0


def run(pipelined: bool, generator: str, tasks: int) -> dict[str, Any]:
    """Figures of `tasks` tasks, one after the other."""
    config = share_directory() / 'config'
    parameters = {'cell': {}, 'generator': {'generator': generator}, 'tracker': {},
                  'execution': {}, 'task_loop': {'pipelined': pipelined}}
    with tempfile.TemporaryDirectory() as logs, NodeProcesses(Path(logs)) as processes:
        for node, values in parameters.items():
            processes.start(node, values, [config / f'{node}.yaml', config / 'sim.yaml'])
        rows = [task(seed) for seed in range(tasks)]
    segments = [s for row in rows for s in row['segments']]
    ahead = [s.get('ahead', '') for s in segments]
    return {'tasks': tasks, 'done': sum(row['done'] for row in rows), 'segments': len(segments),
            'idle_s': spread([s['idle'] for s in segments if 'idle' in s]),
            'idle_s_of_used': spread([s['idle'] for s in segments if s.get('ahead') == 'used']),
            'execute_s': spread([s['execute'] for s in segments if 'execute' in s]),
            'ahead': {'used': ahead.count('used'),
                      'discarded': [a for a in ahead if a.startswith('discarded')]},
            'deviations': sum(s.get('deviations', 0) for s in segments),
            'deviation_mm': spread([1e3 * s['deviation_m'] for s in segments
                                    if 'deviation_m' in s])}


def task(seed: int) -> dict[str, Any]:
    """One task, as any client asks for it."""
    from fourdgen_ros.action import RunTask
    from fourdgen_ros.nodes.actions import SafeActionClient, call_action, call_service
    from fourdgen_ros.nodes.base import StageNode, spinning
    from fourdgen_ros.srv import ResetCell

    with spinning(lambda: StageNode('bench'), args=[]) as node:
        reset = node.create_client(ResetCell, 'cell/reset', callback_group=node.group)
        answer = call_service(reset, ResetCell.Request(task=TASK, seed=seed), timeout=180.0)
        if not answer.success:
            raise RuntimeError(answer.message)
        result = call_action(SafeActionClient(node, RunTask, 'run_task'),
                             RunTask.Goal(task=TASK, seed=100 * seed, max_segments=10),
                             timeout=600.0, accept_timeout=180.0)
    logging.info('seed %d: %s in %d segments %s', seed, result.success, result.segments,
                 result.error_msg)
    return {'done': result.success, 'segments': json.loads(result.timing_json)}


def spread(values: list[float]) -> dict[str, float] | None:
    """Median, greatest and number."""
    if not values:
        return None
    return {'p50': round(float(np.median(values)), 2), 'max': round(float(np.max(values)), 2),
            'n': len(values)}


if __name__ == '__main__':
    sys.exit(main())
