# SPDX-License-Identifier: Apache-2.0
"""CPU of the nodes that listen to cameras, and the frames they lose.

Each camera is a process that publishes a fixed number of RGB-D images of 640x480 (rgb8 and 16UC1)
on the topics of realsense-ros, so that what did not arrive can be counted exactly. One receiver at
a time listens to all of them: the node `generator` while no goal is open, or, to tell what Python
and DDS cost without it, a bare subscription to messages or to serialised messages.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from fourdgen_ros.cli.processes import claim_domain
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.nodes import conversions

H, W = 480, 640
K = np.array([[615.0, 0.0, 319.5], [0.0, 615.0, 239.5], [0.0, 0.0, 1.0]])
TOPICS = {'color': ('color/image_raw', Image),
          'depth': ('aligned_depth_to_color/image_raw', Image),
          'info': ('color/camera_info', CameraInfo)}
RECEIVERS = ('generator', 'messages', 'serialised')
SETTLE = 3.0  # s after the last frame in which late ones still count


def camera(name: str, rate: float, frames: int, alone: bool) -> int:
    """Publish `frames` RGB-D images when a line comes on stdin; the answer is JSON.

    Unless `alone`, somebody must listen first.
    """
    rclpy.init()
    node = rclpy.create_node(f'{name}_driver')
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    publishers = {kind: node.create_publisher(message, f'{name}/{topic}', qos)
                  for kind, (topic, message) in TOPICS.items()}
    frame_id = f'{name}_color_optical_frame'
    rng = np.random.default_rng(0)
    messages = {
        'color': conversions.rgb_to_image(
            rng.integers(0, 256, (H, W, 3), dtype=np.uint8), 0, frame_id),
        'depth': conversions.depth_to_image(
            rng.uniform(0.3, 2.0, (H, W)).astype(np.float32), 0, frame_id),
        'info': conversions.K_to_camera_info(K, H, W, 0, frame_id)}
    while not alone and not all(p.get_subscription_count() for p in publishers.values()):
        time.sleep(0.05)
    sys.stdout.write('matched\n')
    sys.stdout.flush()
    sys.stdin.readline()
    start, late = time.monotonic(), 0
    for i in range(frames):
        due = start + i / rate
        time.sleep(max(0.0, due - time.monotonic()))
        late += time.monotonic() - due > 0.5 / rate
        stamp = conversions.ns_to_stamp(time.time_ns())
        for kind, publisher in publishers.items():
            messages[kind].header.stamp = stamp
            publisher.publish(messages[kind])
    seconds = time.monotonic() - start
    sys.stdout.write(json.dumps({'seconds': seconds, 'late': late}) + '\n')
    sys.stdout.flush()
    sys.stdin.readline()
    rclpy.shutdown()
    return 0


def bare(cameras: list[str], serialised: bool, reliability: str) -> int:
    """Count what comes, and tell it as the node `generator` does, in /diagnostics."""
    from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

    rclpy.init()
    node = rclpy.create_node('generator')
    counts = {(name, kind): 0 for name in cameras for kind in TOPICS}
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])

    def count(key: tuple[str, str]) -> Any:
        def callback(_: Any) -> None:
            counts[key] += 1
        return callback

    for name, kind in counts:
        topic, message = TOPICS[kind]
        node.create_subscription(message, f'{name}/{topic}', count((name, kind)), qos,
                                 raw=serialised)
    publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def report() -> None:
        publisher.publish(DiagnosticArray(status=[DiagnosticStatus(
            name=f'generator: camera {name}',
            values=[KeyValue(key=f'{kind} received', value=str(counts[name, kind]))
                    for kind in TOPICS]) for name in cameras]))

    node.create_timer(1.0, report)
    rclpy.spin(node)
    return 0


class Watcher(Node):
    """Remembers the newest /diagnostics of the receiver."""

    def __init__(self) -> None:
        super().__init__('bench')
        self.values: dict[str, dict[str, str]] = {}
        self.create_subscription(DiagnosticArray, '/diagnostics', self._hear, 10)

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values[status.name] = {v.key: v.value for v in status.values}


def spin_for(watcher: Watcher, seconds: float) -> None:
    """Hear diagnostics for some time."""
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.remove_node(watcher)


def cpu(process: subprocess.Popen) -> float:
    """CPU seconds of a process so far."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def receiver_command(receiver: str, cameras: list[str], reliability: str,
                     depth: int) -> list[str]:
    """What starts a receiver."""
    if receiver != 'generator':
        return [sys.executable, __file__, '--bare', receiver, '--reliability', reliability,
                '--names', *cameras]
    return [sys.executable, '-m', 'fourdgen_ros.nodes.generator', '--ros-args', '--params-file',
            str(share_directory() / 'config' / 'generator.yaml'),
            '-p', f'cameras:=[{", ".join(cameras)}]', '-p', f'input_reliability:={reliability}',
            '-p', f'input_depth:={depth}']


def run(count: int, receiver: str, reliability: str,
        args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one receiver with `count` cameras."""
    names = [f'cam_{i}' for i in range(count)]
    frames = round(args.rate * args.seconds)
    processes = []
    watcher = Watcher()
    try:
        sink = subprocess.Popen(
            receiver_command(receiver, names, reliability, args.depth), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        processes.append(sink)
        drivers = [subprocess.Popen(
            [sys.executable, __file__, '--camera', name, '--rate', str(args.rate), '--frames',
             str(frames)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name in names]
        processes += drivers
        for driver in drivers:
            driver.stdout.readline()
        spin_for(watcher, 2.0)
        idle = cpu(sink)
        spin_for(watcher, 2.0)
        idle = (cpu(sink) - idle) / 2.0
        before = [cpu(process) for process in processes]
        begin = time.monotonic()
        for driver in drivers:
            driver.stdin.write('go\n')
            driver.stdin.flush()
        told = [json.loads(driver.stdout.readline()) for driver in drivers]
        seconds = time.monotonic() - begin
        used = [(cpu(p) - b) / seconds for p, b in zip(processes, before, strict=True)]
        spin_for(watcher, SETTLE)
        got = {(name, kind): int(watcher.values[f'generator: camera {name}'][f'{kind} received'])
               for name in names for kind in TOPICS}
    finally:
        for process in processes:
            process.kill()
            process.wait()
        watcher.destroy_node()
    images = [got[name, kind] for name in names for kind in ('color', 'depth')]
    sent = frames * len(images)
    result = {
        'cameras': count, 'receiver': receiver, 'reliability': reliability,
        'seconds': round(seconds, 2),
        'cpu_receiver': round(used[0], 3), 'cpu_receiver_idle': round(idle, 3),
        'cpu_camera': round(statistics.fmean(used[1:]), 3),
        'images_sent': sent, 'images_lost': sent - sum(images),
        'frames_late_at_source': sum(t['late'] for t in told),
        'rate_hz': round(sum(images) / len(images) / max(t['seconds'] for t in told), 2)}
    sync = watcher.values.get('generator: synchronisation')
    if sync is not None:
        result['sets'] = int(sync['sets'])
    return result


def main() -> int:
    """Print one JSON line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cameras', type=int, nargs='+', default=[2, 4])
    parser.add_argument('--receivers', nargs='+', choices=RECEIVERS, default=['generator'])
    parser.add_argument('--reliability', nargs='+', choices=['best_effort', 'reliable'],
                        default=['reliable'], help='of the subscriptions')
    parser.add_argument('--depth', type=int, default=5, help='input_depth of the generator')
    parser.add_argument('--rate', type=float, default=30.0)
    parser.add_argument('--seconds', type=float, default=10.0)
    parser.add_argument('--repeat', type=int, default=1)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    parser.add_argument('--camera', help=argparse.SUPPRESS)
    parser.add_argument('--frames', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--bare', choices=RECEIVERS, help=argparse.SUPPRESS)
    parser.add_argument('--names', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        return camera(args.camera, args.rate, args.frames, args.alone)
    if args.bare:
        return bare(args.names, args.bare == 'serialised', args.reliability[0])

    domain, reserved = claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    rclpy.init()
    machine = {'cores': os.cpu_count(), 'load': os.getloadavg()[0],
               'transports': os.environ.get('FASTDDS_BUILTIN_TRANSPORTS', ''),
               'profile': os.environ.get('FASTRTPS_DEFAULT_PROFILES_FILE', '')}
    results = []
    with reserved:
        for count in args.cameras:
            for receiver, reliability in itertools.product(args.receivers, args.reliability):
                for _ in range(args.repeat):
                    results.append(run(count, receiver, reliability, args))
                    sys.stdout.write(json.dumps(results[-1]) + '\n')
                    sys.stdout.flush()
    rclpy.shutdown()
    if args.json is not None:
        args.json.write_text(json.dumps({**machine, 'runs': results}, indent=1) + '\n',
                             encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
