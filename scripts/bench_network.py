# SPDX-License-Identifier: Apache-2.0
"""The generator on one host and the rest on another: what crosses the network, and how fast.

Two network namespaces stand for the GPU machine and the robot's PC (scripts/two_hosts.py). Either
cameras of 640x480 RGB-D at 30 Hz and a client that asks for futures, or, with --road, the simulated
cell and all nodes do a whole task. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from two_hosts import ADDRESSES, TwoHosts, missing

from fourdgen_ros.core.paths import share_directory

SCRIPTS = Path(__file__).resolve().parent
PROFILE = share_directory() / 'config' / 'dds' / 'fastdds_large_data.xml'
TOPICS = ('future', 'gripper_trajectory', 'plan')
TASK = 'PlaceAppleFromBowlIntoBin'
FOREVER = 10**6  # frames that a camera publishes unless it is ended


def environment(transports: str = 'profile', *, peers: bool = False) -> dict[str, str]:
    """What both hosts set: `transports` is 'profile' or a value of FASTDDS_BUILTIN_TRANSPORTS."""
    values = {'ROS_DOMAIN_ID': '7', 'OMP_NUM_THREADS': '1',
              'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST' if peers else 'SUBNET'}
    if peers:
        values['ROS_STATIC_PEERS'] = ';'.join(ADDRESSES.values())
    if transports == 'profile':
        values['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(PROFILE)
        values['FASTDDS_BUILTIN_TRANSPORTS'] = 'DEFAULT'  # the profile wins
    else:
        values['FASTDDS_BUILTIN_TRANSPORTS'] = transports
    return values


def client(goals: int, task: str) -> int:
    """On the robot: ask for futures or, with a task, for all of it; tell in JSON what came."""
    import rclpy
    from rclpy.serialization import deserialize_message

    from fourdgen_ros.action import GenerateFuture, RunTask
    from fourdgen_ros.msg import GeneratedFuture, GripperTrajectory, MotionPlan
    from fourdgen_ros.nodes.actions import SafeActionClient, call_action
    from fourdgen_ros.nodes.base import StageNode, spinning
    from fourdgen_ros.nodes.qos import LATCHED
    from fourdgen_ros.nodes.server_states import ServerStates

    types = dict(zip(TOPICS, (GeneratedFuture, GripperTrajectory, MotionPlan), strict=True))
    arrivals: dict[str, tuple[float, int]] = {}  # future id -> time, bytes
    sizes: dict[str, list[int]] = {topic: [] for topic in TOPICS}

    with spinning(lambda: StageNode('bench_client'), args=[]) as node:
        def hear(topic: str, data: bytes) -> None:
            now = time.monotonic()
            sizes[topic].append(len(data))
            if topic == 'future':
                arrivals[deserialize_message(data, GeneratedFuture).future_id] = now, len(data)

        for topic, kind in types.items():
            node.create_subscription(kind, topic, lambda data, t=topic: hear(t, data), LATCHED,
                                     callback_group=node.group, raw=True)
        runs = []
        action = SafeActionClient(node, GenerateFuture, 'generate_future') if not task else (
            SafeActionClient(node, RunTask, 'run_task'))
        ServerStates(node).wait(action, 120.0)
        time.sleep(3.0)  # the server has to find this client too, or its answer is lost
        sys.stdout.write('ready\n')
        sys.stdout.flush()
        sys.stdin.readline()
        for i in range(goals):
            goal = RunTask.Goal(task=task) if task else GenerateFuture.Goal(task=TASK, seed=i)
            start = time.monotonic()
            result = call_action(action, goal, timeout=600.0, accept_timeout=120.0)
            run = {'seconds': time.monotonic() - start, 'error': result.error_msg}
            if task:
                run |= {'success': result.success, 'segments': result.segments}
            elif not run['error']:
                while result.future_id not in arrivals and time.monotonic() - start < 60.0:
                    time.sleep(0.005)
                run['future_after'] = arrivals.get(result.future_id, (start - 1.0, 0))[0] - start
                run['computed'] = result.seconds
            runs.append(run)
    sys.stdout.write(json.dumps({'runs': runs, 'sizes': sizes}) + '\n')
    sys.stdout.flush()
    rclpy.try_shutdown()
    return 0


def node_command(node: str, *parameters: str, sim: bool = False) -> list[str]:
    """Command of one of the package's nodes with its file of parameters."""
    config = share_directory() / 'config'
    files = [config / f'{node}.yaml', *([config / 'sim.yaml'] if sim else [])]
    return [sys.executable, '-m', f'fourdgen_ros.nodes.{node}', '--ros-args',
            *[word for file in files for word in ('--params-file', str(file))],
            *[word for parameter in parameters for word in ('-p', parameter)]]


def cpu(process: subprocess.Popen) -> float:
    """CPU seconds of a process so far."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def futures(hosts: TwoHosts, args: argparse.Namespace, variables: dict[str, str],
            logs: Any = subprocess.DEVNULL) -> dict[str, Any]:
    """Cameras and a client on the robot, the generator beyond the cable."""
    names = [f'cam_{i}' for i in range(args.cameras)]
    quiet = {'stdout': logs, 'stderr': logs}
    generator = hosts.start('gpu', node_command(
        'generator', f'cameras:=[{", ".join(names)}]', 'observation_timeout:=30.0',
        f'listening:={args.listening}'),
        variables, **quiet)
    drivers = [hosts.start('robot', [
        sys.executable, str(SCRIPTS / 'bench_cameras.py'), '--camera', name, '--rate', '30',
        '--frames', str(FOREVER), '--alone'], variables, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=logs, text=True) for name in names]
    for driver in drivers:
        driver.stdin.write('go\n')
        driver.stdin.flush()
    asks = ask(hosts, variables, logs, '--goals', str(args.goals))
    connections = hosts.connections('gpu')
    used = cpu(generator)
    told = answer(hosts, asks)
    return {**told, 'tcp_connections': connections,
            'cpu_generator': (cpu(generator) - used) / told['seconds']}


def road(hosts: TwoHosts, args: argparse.Namespace, variables: dict[str, str],
         logs: Any = subprocess.DEVNULL) -> dict[str, Any]:
    """A whole task in the simulated cell, the generator beyond the cable."""
    quiet = {'stdout': logs, 'stderr': logs}
    hosts.start('gpu', node_command(
        'generator', f'generator:={args.road}', f'listening:={args.listening}', sim=True),
        variables, **quiet)
    for node, parameters in (('cell', [f'task:={TASK}']), ('tracker', []), ('execution', []),
                             ('task_loop', ['frames:=6'])):
        hosts.start('robot', node_command(node, *parameters, sim=True), variables, **quiet)
    return answer(hosts, ask(hosts, variables, logs, '--goals', '1', '--task', TASK))


def ask(hosts: TwoHosts, variables: dict[str, str], logs: Any, *options: str) -> subprocess.Popen:
    """A client on the robot that has found its server."""
    client = hosts.start('robot', [sys.executable, __file__, '--client', *options], variables,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=logs, text=True)
    if client.stdout.readline() != 'ready\n':
        raise RuntimeError('the client ended before it found the generator')
    return client


def answer(hosts: TwoHosts, client: subprocess.Popen) -> dict[str, Any]:
    """What the client tells, and what crossed the cable meanwhile."""
    before, begin = hosts.sent(), time.monotonic()
    told = json.loads(client.communicate('go\n', timeout=550.0)[0])
    seconds, after = time.monotonic() - begin, hosts.sent()
    return {**told, 'seconds': seconds, 'mbyte': {h: (after[h] - before[h]) / 1e6 for h in after}}


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Percentiles of what came."""
    runs = result.pop('runs')
    good = [r for r in runs if not r['error']]
    result['goals'], result['failed'] = len(runs), len(runs) - len(good)
    result['errors'] = sorted({r['error'] for r in runs if r['error']})
    for key in ('seconds', 'future_after', 'computed'):
        values = [r[key] for r in good if key in r]
        if values:
            result[f'{key} p50 p95'] = [round(float(v), 3) for v in np.percentile(values, (50, 95))]
    result['bytes'] = {topic: [min(s), max(s)] for topic, s in result.pop('sizes').items() if s}
    if good and 'success' in good[0]:
        result |= {'success': good[0]['success'], 'segments': good[0]['segments']}
    return result


def main() -> int:
    """Print one JSON line per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cameras', type=int, default=2)
    parser.add_argument('--goals', type=int, default=10)
    parser.add_argument('--rate', default='', help='limit of the cable, as tc says it: 1gbit')
    parser.add_argument('--transports', default='profile',
                        help='profile (config/dds) or a value of FASTDDS_BUILTIN_TRANSPORTS')
    parser.add_argument('--listening', choices=['always', 'on_demand'], default='always')
    parser.add_argument('--peers', action='store_true', help='ROS_STATIC_PEERS, no multicast')
    parser.add_argument('--road', choices=['tiny', 'oracle'], help='a whole task instead')
    parser.add_argument('--task', default='', help=argparse.SUPPRESS)
    parser.add_argument('--client', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        return client(args.goals, args.task)
    if reason := missing():
        sys.stderr.write(f'{reason}\n')
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts are taken away
    variables = environment(args.transports, peers=args.peers)
    with TwoHosts() as hosts:
        if args.rate:
            hosts.limit(args.rate)
        result = summary(
            road(hosts, args, variables)
            if args.road else futures(hosts, args, variables))
    sys.stdout.write(json.dumps({'rate': args.rate, 'transports': args.transports,
                                 'listening': args.listening,
                                 'cores': os.cpu_count(), **result}) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
