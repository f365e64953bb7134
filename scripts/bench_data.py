# SPDX-License-Identifier: Apache-2.0
"""How fast and how exact the road from bags to training is; see docs/data.md.

Demonstrations of the simulated cell are written as bags of two RealSense-like cameras (640x480,
30 Hz, raw, with depth noise and holes), converted, compared bit by bit, and cached. Run it with
MUJOCO_GL=egl OMP_NUM_THREADS=1 on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fourdgen_ros.cli.data_cache import gripper_masks
from fourdgen_ros.core import se3
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.data.bag_job import check
from fourdgen_ros.data.bags import open_bag
from fourdgen_ros.data.cache import Shape, build
from fourdgen_ros.data.convert import files
from fourdgen_ros.data.dataset import Dataset
from fourdgen_ros.data.episode import DEPTH
from fourdgen_ros.data.mapping import load_map
from fourdgen_ros.data.records import pictures
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.expert import Expert

NS, RATE, SIZE = 10**9, 30, (480, 640)
START = 1_700_000_000 * NS
CONSUMED = 32 / 1.2  # samples a second of the tiny dynamics on one core
STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types


def _header(stamp: int, frame: str):
    return T['std_msgs/msg/Header'](T['builtin_interfaces/msg/Time'](*divmod(stamp, NS)), frame)


def _transform(stamp: int, child: str, pose: np.ndarray):
    q = se3.quaternion_from_matrix(pose[:3, :3])
    return T['tf2_msgs/msg/TFMessage']([T['geometry_msgs/msg/TransformStamped'](
        _header(stamp, 'panda_link0'), child, T['geometry_msgs/msg/Transform'](
            T['geometry_msgs/msg/Vector3'](*pose[:3, 3]), T['geometry_msgs/msg/Quaternion'](*q)))])


def _image(stamp: int, frame: str, values: np.ndarray, encoding: str):
    data = np.ascontiguousarray(values).view(np.uint8).ravel()
    return T['sensor_msgs/msg/Image'](_header(stamp, frame), *SIZE, encoding, 0,
                                      data.size // SIZE[0], data)


def _write_demonstration(path: Path, seed: int, seconds: float, start: int) -> None:
    """One demonstration as a bag; depth has 1 mm noise at 0.5 m, growing quadratically, and 2 %
    holes."""
    rng = np.random.default_rng(seed)
    cell = Cell('PlaceAppleFromBowlIntoBin')
    cell.reset(seed)
    expert = Expert(cell)
    expert.plan_from_here()
    names = [f'panda_joint{i}' for i in range(1, 8)] + ['panda_finger_joint1',
                                                        'panda_finger_joint2']
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}

        def write(topic: str, stamp: int, message) -> None:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], stamp, STORE.serialize_cdr(message, kind))

        for k in range(round(seconds * RATE)):
            while cell.time < k / RATE:
                expert.drive()
            stamp = start + round(k * NS / RATE)
            for name in cell.cameras:
                frame = f'{name}_color_optical_frame'
                view = cell.render(name, *SIZE)
                if k == 0:
                    roi = T['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
                    write(f'/{name}/color/camera_info', stamp, T['sensor_msgs/msg/CameraInfo'](
                        _header(stamp, frame), *SIZE, 'plumb_bob', np.zeros(5), view.K.ravel(),
                        np.eye(3).ravel(), np.zeros(12), 0, 0, roi))
                    write('/tf_static', stamp, _transform(stamp, frame, cell.T_base_camera(name)))
                z = 1000 * view.depth + rng.normal(0.0, 1.0, SIZE) * (view.depth / 0.5) ** 2
                z = np.where(np.isfinite(z) & (rng.random(SIZE) > 0.02), np.rint(z), 0)
                write(f'/{name}/color/image_raw', stamp, _image(stamp, frame, view.rgb, 'rgb8'))
                write(f'/{name}/aligned_depth_to_color/image_raw', stamp,
                      _image(stamp, frame, z.astype(np.uint16), '16UC1'))
            write('/tf', stamp, _transform(stamp, 'panda_hand_tcp', cell.tcp_pose()))
            fingers = [cell.opening / 2] * 2
            write('/joint_states', stamp, T['sensor_msgs/msg/JointState'](
                _header(stamp, ''), names, np.array([*cell.joint_positions, *fingers]),
                np.zeros(9), np.zeros(9)))


def _write_map(path: Path, fps: int) -> Path:
    spec = yaml.safe_load(
        (share_directory() / 'config' / 'data' / 'realsense_franka.yaml').read_text())
    names = list(Cell('PlaceAppleFromBowlIntoBin').cameras)
    spec['cameras'] = {n: {'color': f'/{n}/color/image_raw', 'info': f'/{n}/color/camera_info',
                           'depth': f'/{n}/aligned_depth_to_color/image_raw'} for n in names}
    path.write_text(yaml.safe_dump(spec | {'fps': fps}))
    return path


def _compare(bag: Path, map: Path, data: Dataset, index: int) -> tuple[int, float]:
    """Depth pixels that differ, and the greatest difference of stamps in s."""
    records = check(bag, map).records
    topics = load_map(map)
    with open_bag(bag) as opened:
        true = {(p.camera, p.record): p.values for p in pictures(opened, topics, records)
                if p.kind == DEPTH}
    different = sum(int((p.values != true.pop((p.camera, p.record))).sum())
                    for p in data.pictures(index) if p.kind == DEPTH)
    assert not true
    late = np.abs(data.episode(index).stamps - records.episode.stamps).max() / NS
    return different, float(late)


def _read_rate(cache: Path) -> float:
    """Samples a second that one core draws from a cache for the dynamics of `tiny`."""
    from fourdgen_ros.training.dataset import Demonstrations, task_names

    data = Demonstrations([cache], task_names([cache]))
    rng, count = np.random.default_rng(0), 50
    start = time.perf_counter()
    for _ in range(count):
        data.dynamics_batch(rng, 32, range(len(data.episodes)), frames=10, stride=2).frame0()
    return 32 * count / (time.perf_counter() - start)


def main() -> int:
    """Measure, print and, with --json, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--episodes', type=int, default=8)
    parser.add_argument('--seconds', type=float, default=8.0, help='of each')
    parser.add_argument('--fps', type=int, nargs='+', default=[10, 30], help='of the data set')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--keep', type=Path, help='work here and keep it')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    bags = [folder / f'bag_{k}' for k in range(args.episodes)]
    for k, bag in enumerate(bags):
        if not bag.exists():
            _write_demonstration(bag, k, args.seconds, START + k * 60 * NS)
    size = sum(f.stat().st_size for bag in bags for f in files(bag)) / 1e9
    recorded = args.episodes * args.seconds
    result = {'episodes': args.episodes, 'recorded_s': recorded, 'GB': round(size, 2),
              'workers': args.workers, 'convert': []}
    for fps in args.fps:
        map, out = _write_map(folder / f'map_{fps}.yaml', fps), folder / f'set_{fps}'
        shutil.rmtree(out, ignore_errors=True)
        start, cpu = time.perf_counter(), os.times()
        subprocess.run([sys.executable, '-m', 'fourdgen_ros.cli', 'data', 'convert',
                        *[str(bag) for bag in bags], '--map', str(map), '--out', str(out),
                        '--workers', str(args.workers)], check=True, stdout=sys.stderr)
        seconds, end = time.perf_counter() - start, os.times()
        data = Dataset(out)
        assert len(data) == args.episodes
        differences = [_compare(bag, map, data, k) for k, bag in enumerate(bags)]
        result['convert'].append({
            'fps': fps, 'seconds': round(seconds, 1), 'times_real': round(recorded / seconds, 1),
            'cpu_s': round(end.children_user + end.children_system - cpu.children_user
                           - cpu.children_system, 1),
            'min_per_GB': round(seconds / 60 / size, 2),
            'dataset_GB': round(sum(f.stat().st_size for f in files(out)) / 1e9, 2),
            'depth_pixels_that_differ': sum(d for d, _ in differences),
            'stamp_error_s': max(s for _, s in differences)})
    cache = folder / 'cache'
    shutil.rmtree(cache, ignore_errors=True)
    start = time.perf_counter()
    build(folder / f'set_{args.fps[0]}', cache, Shape(), partial(gripper_masks, 'panda_hand'),
          workers=args.workers)
    result['cache_s'] = round(time.perf_counter() - start, 1)
    rate = _read_rate(cache)
    result |= {'samples_per_s': round(rate), 'times_consumed': round(rate / CONSUMED, 1)}
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + '\n')
    if args.json is not None:
        args.json.write_text(text + '\n')
    if args.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == '__main__':
    sys.exit(main())
