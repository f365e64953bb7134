# SPDX-License-Identifier: Apache-2.0
"""LeRobotDataset -> what `fourdgen train` reads: small images at a low rate, all in plain arrays.

The layout is that of `fourdgen collect` (fourdgen-episodes-1): meta.json and episode_%06d.npz with
rgb (T, V, H, W, 3) uint8 by area mean; depth (T, V, H, W) uint16 in 0.1 mm by nearest, 0 invalid;
gripper (T, V, H, W) bool; tcp (T, 4, 4) in the base frame; opening (T,) m; joints (T, J);
K (V, 3, 3); T_base_camera (V, 4, 4); times (T,) s; success; and stamps (T, V) ns. Beside them
stands checksums.sha256, which `sha256sum -c` checks too. meta.json also has the state of the data
set, so that episodes of an older one are not taken for those of a newer.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import resize_color, resize_intrinsics, resize_nearest
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import write_whole
from fourdgen_ros.core.images import metres
from fourdgen_ros.core.pool import workers_live
from fourdgen_ros.data.convert import files
from fourdgen_ros.data.dataset import Dataset, Picture
from fourdgen_ros.data.disk import room_for
from fourdgen_ros.data.episode import COLOUR, DEPTH, STILL, Episode
from fourdgen_ros.data.masks import GripperMasks, visible

FORMAT, DEPTH_UNIT = 'fourdgen-episodes-1', 1e-4
SUMS, META = 'checksums.sha256', 'meta.json'
MESH = 'mesh'  # what masks are made from, unless META has another name for `masks`
_STATE = 'source_state'  # key of META


@dataclass(frozen=True)
class Shape:
    """Size in pixels and records a second of the cache."""

    height: int = 96
    width: int = 128
    rate: int = 5


def build(root: Path, out: Path, shape: Shape, masks: Callable[[], GripperMasks], *,
          masks_by: str = MESH, task: str | None = None, workers: int = 1,
          done: Callable[[int, int], None] | None = None) -> int:
    """Write the episodes of one task into folder `out`; returns how many there are.

    Episodes that are there with the right checksum are kept. `masks` tells each process how those
    of data sets without recorded ones are made, and `masks_by` names it. `done(finished, total)`
    tells the progress. Raises InputError when the rate does not divide that of the data set, it has
    several tasks and none is chosen, a camera moves, or `out` holds something else or what was made
    before the data set changed; ExecutionError when a worker dies.
    """
    data = Dataset(root)
    if data.fps % shape.rate:
        raise InputError('--rate', expected=f'a divisor of {data.fps} Hz, the rate of {root}',
                         got=str(shape.rate))
    tasks = list(dict.fromkeys(_task(row) for row in data.rows))
    if (task is None and len(tasks) > 1) or task not in (None, *tasks):
        raise InputError('--task', expected=f'one of {tasks}', got=str(task),
                         hint='A cache holds one task: make one for each.')
    task = tasks[0] if task is None else task
    chosen = [i for i, row in enumerate(data.rows) if _task(row) == task]
    for index in chosen:
        _fixed_poses(data.episode(index))
    out.mkdir(parents=True, exist_ok=True)
    _write_meta(out, data, task, shape, len(chosen), masks_by)
    sums, bad = read_sums(out), verify(out)
    todo = [i for i in chosen if _file(i) not in sums or _file(i) in bad]
    work = partial(_write_episode, root, out, shape, None if data.has_masks else masks)
    context = multiprocessing.get_context('spawn')
    with room_for(out, 'finished episodes are kept'), workers_live(), ProcessPoolExecutor(
            workers, mp_context=context) as pool:
        for count, (index, digest) in enumerate(zip(todo, pool.map(work, todo), strict=True)):
            sums[_file(index)] = digest
            write_whole(out / SUMS, ''.join(
                f'{value}  {name}\n' for name, value in sorted(sums.items())))
            if done is not None:
                done(len(chosen) - len(todo) + count + 1, len(chosen))
    return len(chosen)


def verify(folder: Path) -> list[str]:
    """Names of the files of a cache that are missing or not as they were written."""
    return [name for name, digest in read_sums(folder).items()
            if not (folder / name).is_file() or checksum(folder / name) != digest]


def read_sums(folder: Path) -> dict[str, str]:
    """Checksums by file name; none when the folder has no such file."""
    if not (folder / SUMS).is_file():
        return {}
    rows = (line.split('  ', 1) for line in (folder / SUMS).read_text().splitlines())
    return {name: digest for digest, name in rows}


def checksum(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def source_state(root: Path) -> str:
    """Digest in hexadecimal of the names, sizes and times of all files of a data set."""
    state = [[str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns]
             for part in ('meta', 'data', 'videos') for p in files(root / part)]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def episode_arrays(data: Dataset, index: int, shape: Shape,
                   masks: GripperMasks | None) -> dict[str, NDArray]:
    """The arrays of one episode; `masks` tells how those that were not recorded are made."""
    episode, every = data.episode(index), data.fps // shape.rate
    records = np.arange(0, len(episode), every)
    poses = _fixed_poses(episode)
    T, V, h, w = len(records), len(episode.cameras), shape.height, shape.width
    K = np.stack([resize_intrinsics(k, (c.height, c.width), h, w)
                  for k, c in zip(episode.K, episode.cameras, strict=True)])
    rgb = np.zeros((T, V, h, w, 3), np.uint8)
    depth, mask = np.zeros((T, V, h, w), np.uint16), np.zeros((T, V, h, w), bool)
    outlined: dict[tuple[int, int], NDArray[np.bool_]] = {}

    def mesh_depth(picture: Picture, k: NDArray, height: int, width: int) -> NDArray[np.float32]:
        T_camera_tcp = se3.inverse(poses[picture.camera]) @ episode.tcp[picture.record]
        return masks.shape.depth(T_camera_tcp, float(episode.opening[picture.record]), k, height,
                                 width)

    for picture in data.pictures(index, every):  # colours come first
        at = picture.record // every, picture.camera
        if picture.kind == COLOUR:
            rgb[at] = resize_color(picture.values, h, w)
            if masks is not None and masks.outline is not None:
                mesh = mesh_depth(picture, episode.K[picture.camera], *picture.values.shape[:2])
                found = masks.outline(picture.values, np.isfinite(mesh))
                if found is not None:
                    outlined[at] = resize_nearest(found, h, w)
        elif picture.kind == DEPTH:
            z = metres(resize_nearest(picture.values, h, w))
            units = np.nan_to_num(np.rint(z / DEPTH_UNIT))
            depth[at] = np.where(units <= np.iinfo(np.uint16).max, units, 0)
            if at in outlined:
                mask[at] = outlined[at]
            elif masks is not None:
                mask[at] = visible(mesh_depth(picture, K[picture.camera], h, w), z)
        else:
            mask[at] = resize_nearest(picture.values, h, w)
    return {'rgb': rgb, 'depth': depth, 'gripper': mask, 'tcp': episode.tcp[records],
            'opening': episode.opening[records], 'joints': episode.joints[records], 'K': K,
            'T_base_camera': poses, 'times': np.arange(T) / shape.rate,
            'stamps': episode.stamps[records], 'success': np.array(episode.outcome == 'success')}


def _fixed_poses(episode: Episode) -> NDArray[np.float64]:
    """T_base_camera (V, 4, 4) of cameras that do not move."""
    for v, camera in enumerate(episode.cameras):
        for T in episode.T_base_camera[:, v]:
            if max(se3.distance(episode.T_base_camera[0, v], T)) > STILL:
                raise InputError(f'camera {camera.name} of {episode.source}',
                                 expected='one that stands still', got='one that moves',
                                 hint='Generators are trained on fixed cameras.')
    return episode.T_base_camera[0]


def _write_episode(root: Path, out: Path, shape: Shape, masks: Callable[[], GripperMasks] | None,
                   index: int) -> str:
    arrays = episode_arrays(Dataset(root), index, shape, None if masks is None else masks())
    path = out / _file(index)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with open(part, 'wb') as stream:
            np.savez(stream, **arrays)
        digest = checksum(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return digest


def _write_meta(out: Path, data: Dataset, task: str, shape: Shape, episodes: int,
                masks_by: str) -> None:
    meta = {'format': FORMAT, 'task': task, 'episodes': episodes,
            'cameras': [c.name for c in data.cameras],
            'reference': data.cameras[0].name, 'height': shape.height, 'width': shape.width,
            'rate_hz': float(shape.rate), 'depth_unit_m': DEPTH_UNIT,
            'source': str(data.root.resolve())}
    if masks_by != MESH and not data.has_masks:
        meta['masks'] = masks_by
    file, state = out / META, {_STATE: source_state(data.root)}
    if file.is_file():
        stored = json.loads(file.read_text(encoding='utf-8'))
        stored_state = {_STATE: stored.pop(_STATE, None)}
        if stored != meta:
            raise InputError(f'cache {out}', expected=str(meta), got=str(stored),
                             hint='Write into another folder.')
        if stored_state != state:
            raise InputError(f'cache {out}', expected=f'one of data set {data.root} as it is now',
                             got='one made before it changed' if stored_state[_STATE]
                             else 'one that does not say of which state',
                             hint='Write into another folder, or delete this one first.')
    elif any(out.iterdir()):
        raise InputError(f'cache {out}', expected=f'an empty folder, or one with {META}',
                         got='one with other files', hint='Write into another folder.')
    else:
        meta |= state
        write_whole(file, json.dumps(meta, indent=2, ensure_ascii=False) + '\n')


def _file(index: int) -> str:
    return f'episode_{index:06d}.npz'


def _task(row: dict) -> str:
    return row.get('fourdgen/task') or row['tasks'][0]
