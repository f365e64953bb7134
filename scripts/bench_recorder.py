# SPDX-License-Identifier: Apache-2.0
"""Frames that the recorder loses, and what it costs: cameras in processes of their own, over DDS.

    .venv/bin/python scripts/bench_recorder.py --seconds 60 --json runs/recorder.json

Every message carries its number as the seconds of its stamp, so that what is missing in the bag is
known exactly: lost = sent since the first that was recorded - recorded.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

HEIGHT, WIDTH = 480, 640
TICK = os.sysconf('SC_CLK_TCK')


def main() -> int:
    """Run the bench, or one of its publishers."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--publish', help=argparse.SUPPRESS)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--rate', type=float, default=30.0, help='images per second (30)')
    parser.add_argument('--cameras', type=int, default=2)
    parser.add_argument('--compression', default='none')
    parser.add_argument('--images', choices=('noise', 'scene'), default='noise',
                        help='noise: cannot be compressed; scene: smooth colour and depth')
    parser.add_argument('--history', type=int, default=60,
                        help='messages that a publisher keeps to send again (60)')
    parser.add_argument('--folder', type=Path, help='where the bag goes (a temporary folder here)')
    parser.add_argument('--json', type=Path, help='file for the figures')
    args = parser.parse_args()
    return publish(args) if args.publish else bench(args)


# --- publishers -----------------------------------------------------------------------------------

def publish(args: argparse.Namespace) -> int:
    """Publish one camera's topics, or the robot's, until stdin ends; print what was sent."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo, Image, JointState
    from tf2_msgs.msg import TFMessage

    rclpy.init()
    node = rclpy.create_node(f'bench_{args.publish}')
    qos = QoSProfile(depth=args.history, reliability=ReliabilityPolicy.RELIABLE)
    streams: list[tuple[Any, Any, Any]] = []  # publisher, message, its header

    def add(kind: type, topic: str, message: Any, header: Any) -> None:
        streams.append((node.create_publisher(kind, topic, qos), message, header))

    if args.publish == 'robot':
        state = JointState(name=[f'joint{i}' for i in range(9)], position=[0.0] * 9)
        add(JointState, '/joint_states', state, state.header)
        transforms = TFMessage(transforms=[_transform(f'link{i}') for i in range(9)])
        add(TFMessage, '/tf', transforms, transforms.transforms[0].header)
        static = node.create_publisher(TFMessage, '/tf_static', _latched())
        static.publish(TFMessage(transforms=[_transform('camera')]))
        rate = 100.0
    else:
        for topic, channels, encoding in (('color/image_raw', 3, 'rgb8'),
                                          ('aligned_depth_to_color/image_raw', 2, '16UC1')):
            image = Image(height=HEIGHT, width=WIDTH, step=WIDTH * channels, encoding=encoding)
            image.data = array.array('B', _pixels(channels, args.images))
            add(Image, f'/{args.publish}/{topic}', image, image.header)
        info = CameraInfo(height=HEIGHT, width=WIDTH)
        add(CameraInfo, f'/{args.publish}/color/camera_info', info, info.header)
        rate = args.rate
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    begin, number, latest = time.monotonic(), 0, 0.0
    while not ended.wait(max(0.0, begin + number / rate - time.monotonic())):
        latest = max(latest, time.monotonic() - begin - number / rate)
        number += 1
        for publisher, message, header in streams:
            header.stamp.sec = number
            publisher.publish(message)
    time.sleep(1.0)  # reliable: what was not acknowledged is sent again
    usage = resource.getrusage(resource.RUSAGE_SELF)
    json.dump({'sent': {p.topic_name: number for p, _, _ in streams}, 'late_s': latest,
               'cpu_s': usage.ru_utime + usage.ru_stime}, sys.stdout)
    return 0


def _latched() -> Any:
    from fourdgen_ros.nodes.qos import TF_STATIC

    return TF_STATIC


def _transform(child: str) -> Any:
    from geometry_msgs.msg import TransformStamped

    transform = TransformStamped(child_frame_id=child)
    transform.header.frame_id = 'base'
    return transform


def _pixels(channels: int, images: str) -> bytes:
    import numpy as np

    rng = np.random.default_rng(0)
    if images == 'noise':
        return rng.bytes(HEIGHT * WIDTH * channels)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    surface = 700 + 0.5 * y + 0.2 * x  # mm; sensors add some millimetres of noise
    if channels == 2:
        return (surface + rng.normal(0.0, 2.0, surface.shape)).astype('<u2').tobytes()
    rgb = np.stack([surface / 8, 255 - y / 3, x / 3], -1) + rng.normal(0.0, 2.0, (*x.shape, 3))
    return rgb.clip(0, 255).astype(np.uint8).tobytes()


# --- the bench ------------------------------------------------------------------------------------

def bench(args: argparse.Namespace) -> int:
    """Record, count and print."""
    import rclpy

    from fourdgen_ros.cli.processes import claim_domain

    domain, _lock = claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    folder = Path(tempfile.mkdtemp(prefix='recorder_', dir=args.folder or '.')).resolve()
    cameras = [f'cam_{i}' for i in range(args.cameras)]
    recorder = subprocess.Popen(
        [sys.executable, '-m', 'fourdgen_ros.nodes.recorder', '--ros-args', '-p',
         f'output_folder:={folder}', '-p', f'cameras:=[{", ".join(cameras)}]', '-p',
         f'compression:={args.compression}', '-p', 'start_timeout:=60.0'])
    publishers = [subprocess.Popen(
        [sys.executable, __file__, '--publish', name, '--rate', str(args.rate), '--images',
         args.images, '--history', str(args.history)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in (*cameras, 'robot')]
    rclpy.init()
    try:
        figures = _record(args, recorder, publishers, folder)
    finally:
        for process in (recorder, *publishers):
            if process.poll() is None:
                process.terminate()
                process.wait(60.0)
        shutil.rmtree(folder)
        rclpy.shutdown()
    sys.stdout.write(f'{json.dumps(figures, indent=2)}\n')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=2), encoding='utf-8')
    return 0


def _record(args: argparse.Namespace, recorder: subprocess.Popen,
            publishers: list[subprocess.Popen], folder: Path) -> dict[str, Any]:
    import rclpy

    from fourdgen_ros.data import bag_metadata
    from fourdgen_ros.srv import StartEpisode, StopEpisode

    node = rclpy.create_node('bench')

    def call(kind: type, name: str, request: Any) -> Any:
        client = node.create_client(kind, name)
        if not client.wait_for_service(60.0):
            raise RuntimeError(f'no service {name}')
        future = client.call_async(request)
        rclpy.spin_until_future_complete(node, future)
        if not future.result().success:
            raise RuntimeError(future.result().message)
        return future.result()

    call(StartEpisode, '/recorder/start', StartEpisode.Request(task='bench'))
    cpu, begin = _cpu_seconds(recorder.pid), time.monotonic()
    time.sleep(args.seconds)
    cpu, seconds = _cpu_seconds(recorder.pid) - cpu, time.monotonic() - begin
    load = os.getloadavg()[0]
    sent, late, camera_cpu = {}, 0.0, 0.0
    for process in publishers:
        told = json.loads(process.communicate(timeout=60.0)[0])
        sent.update(told['sent'])
        late, camera_cpu = max(late, told['late_s']), camera_cpu + told['cpu_s']
    stopped = call(StopEpisode, '/recorder/stop', StopEpisode.Request())
    bag = Path(stopped.path)
    first, recorded = _numbers(bag)
    size = sum(path.stat().st_size for path in bag.iterdir())
    told = dict(zip(stopped.topics, zip(stopped.dropped, stopped.lost, strict=True), strict=True))
    return {
        'cameras': args.cameras, 'rate_hz': args.rate, 'seconds': round(seconds, 1),
        'images': args.images, 'history': args.history, 'compression': args.compression,
        'cores': os.cpu_count(),
        'load_average': load, 'recorder_cpu_percent': round(100 * cpu / seconds, 1),
        'publishers_cpu_s': round(camera_cpu, 1), 'publishers_latest_s': round(late, 3),
        'bag_mb_per_s': round(size / 1e6 / seconds, 1), 'greatest_queue_mb': round(
            int(bag_metadata.custom_data(bag)['queue_high_water']) / 1e6, 1),
        'topics': {topic: {'sent': sent[topic] - first[topic] + 1, 'recorded': recorded[topic],
                           'lost': sent[topic] - first[topic] + 1 - recorded[topic],
                           'told_dropped': told[topic][0], 'told_lost': told[topic][1]}
                   for topic in sorted(sent)}}


def _numbers(bag: Path) -> tuple[dict[str, int], Counter[str]]:
    """First number and count of the messages of each topic, as the package mcap reads them."""
    from mcap.reader import make_reader

    first: dict[str, int] = {}
    count: Counter[str] = Counter()
    file, = bag.glob('*.mcap')
    with file.open('rb') as stream:
        for _, channel, message in make_reader(stream).iter_messages():
            # A stamp is the first member; in TFMessage the length of the sequence is before it.
            offset = 8 if channel.topic.startswith('/tf') else 4
            number, = struct.unpack_from('<i', message.data, offset)
            first[channel.topic] = min(number, first.get(channel.topic, number))
            count[channel.topic] += 1
    return first, count


def _cpu_seconds(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


if __name__ == '__main__':
    sys.exit(main())
