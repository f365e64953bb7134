# SPDX-License-Identifier: Apache-2.0
"""Where everything lies in a LeRobotDataset v3.0, and what its features are.

Read in lerobot 0.6.1: datasets/utils.py, dataset_metadata.py, dataset_writer.py, feature_utils.py.
One data file and one video file per camera and episode. Beside upstream's features:

    observation.images.CAMERA_depth      TIFF, uint16 mm or float32 m as recorded (is_depth_map)
    observation.images.CAMERA_gripper    PNG, 255 where the gripper is, when it was recorded
    observation.camera.CAMERA.K          (3, 3); .T_base_camera (4, 4); .stamp ns of the ROS clock
    observation.tcp                      x y z in m, qx qy qz qw, in the base frame
    observation.state                    joints, then the opening in m
    action                               TCP and opening of the next record

and in meta/episodes the columns fourdgen/source, fourdgen/task, fourdgen/outcome.
"""

from __future__ import annotations

from pathlib import Path

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data.episode import COLOUR, DEPTH, GRIPPER, CameraModel, Episode

VERSION = 'v3.0'
CHUNK = 1000  # files per folder
INFO, STATS, TASKS = 'meta/info.json', 'meta/stats.json', 'meta/tasks.parquet'
EPISODES = 'meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
TCP, STATE, ACTION = 'observation.tcp', 'observation.state', 'action'
POSE = ['x', 'y', 'z', 'qx', 'qy', 'qz', 'qw']
INDICES = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
CODEC, PIXELS = 'h264', 'yuv420p'
_SUFFIX = {COLOUR: '', DEPTH: '_depth', GRIPPER: '_gripper'}


def image_key(camera: str, kind: str) -> str:
    """Feature of a camera's pictures of one kind."""
    return f'observation.images.{camera}{_SUFFIX[kind]}'


def camera_key(camera: str, what: str) -> str:
    """Feature `K`, `T_base_camera` or `stamp` of a camera."""
    return f'observation.camera.{camera}.{what}'


def features(episode: Episode) -> dict[str, dict]:
    """Entry `features` of info.json."""
    out: dict[str, dict] = {}
    for camera in episode.cameras:
        out[image_key(camera.name, COLOUR)] = _video(camera, episode.fps)
        out[image_key(camera.name, DEPTH)] = _image(
            camera, {'is_depth_map': True, 'depth_unit': camera.depth_unit})
        if episode.has_masks:
            out[image_key(camera.name, GRIPPER)] = _image(camera, {})
        for what, dtype, shape in (('K', 'float64', [3, 3]), ('T_base_camera', 'float64', [4, 4]),
                                   ('stamp', 'int64', [1])):
            out[camera_key(camera.name, what)] = _numbers(dtype, shape)
    state = [*episode.joint_names, 'opening']
    out[TCP] = _numbers('float64', [7], POSE)
    out[STATE] = _numbers('float32', [len(state)], state)
    out[ACTION] = _numbers('float32', [8], [*POSE, 'opening'])
    for name in INDICES:
        out[name] = _numbers('float32' if name == 'timestamp' else 'int64', [1])
    return out


def inside(root: Path, relative: str) -> Path:
    """Path of a file that a data set names; raises InputError when it lies outside `root`."""
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InputError(f'data set {root}', expected='files inside its folder', got=relative,
                         hint='Do not trust this data set.')
    return path


def _numbers(dtype: str, shape: list[int], names: list[str] | None = None) -> dict:
    return {'dtype': dtype, 'shape': shape, 'names': names}


def _image(camera: CameraModel, info: dict) -> dict:
    return {'dtype': 'image', 'shape': [camera.height, camera.width, 1],
            'names': ['height', 'width', 'channels'], 'info': info}


def _video(camera: CameraModel, fps: int) -> dict:
    return {'dtype': 'video', 'shape': [camera.height, camera.width, 3],
            'names': ['height', 'width', 'channels'],
            'info': {'video.height': camera.height, 'video.width': camera.width,
                     'video.codec': CODEC, 'video.pix_fmt': PIXELS, 'video.fps': fps,
                     'video.channels': 3, 'is_depth_map': False, 'has_audio': False}}
