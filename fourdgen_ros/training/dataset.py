# SPDX-License-Identifier: Apache-2.0
"""Demonstrations, and the samples that the two training stages draw from them.

Layout of a data set: `fourdgen_ros.sim.collect`. Pictures stay in their files, which are mapped:
what is drawn is read, and the processes of one machine share what the system keeps of it. They
travel to the device as the integers they were recorded in; floats are made there.
"""

from __future__ import annotations

import errno
import json
import mmap
import resource
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.sensor_faults import TRAINED, random_faults
from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.generator.codec import PLANE
from fourdgen_ros.generator.layers import frame_tensor

FORMAT = 'fourdgen-episodes-1'
DEPTH_UNIT = 1e-4  # m, of this format
HELD_OUT = 10  # one episode of so many validates
_GRIP_STEP, _GRIP_TIME = 0.008, 0.2  # m in so many s when the gripper is on its way


@dataclass(frozen=True, eq=False)
class Episode:
    """One recorded demonstration of T records and V views.

    Shapes as in `fourdgen_ros.sim.collect`, except `tcp` (T, V, 10), see `tcp_vectors`;
    `keyframes` (T, V, 2, 3), see `next_grips`; and `camera` (V, 9): the views' poses in the
    reference frame, see `pose_from_9d`. `task` is its index, `number` the one in its file's name.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    gripper: NDArray[np.bool_]
    tcp: NDArray[np.float32]
    keyframes: NDArray[np.float32]
    camera: NDArray[np.float32]
    K: NDArray[np.float64]
    task: int
    number: int

    def __len__(self) -> int:
        return int(self.rgb.shape[0])


class _Batch:
    """Tensors that move to a device together."""

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """The same batch where a GPU fetches it beside its work; as it is without one."""
        return self._each(Tensor.pin_memory) if torch.cuda.is_available() else self

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{f.name: change(value) for f in fields(self)
                                if isinstance(value := getattr(self, f.name), Tensor)})


@dataclass
class CodecBatch(_Batch):
    """Frames and the frame 0 that each is decoded against.

    What is seen: frame and frame0 (N, 7, H, W) as `frame_tensor` makes them. What is true: rgb (N,
    3, H, W) in -1..1; depth and depth0 (N, H, W) m, NaN where invalid; gripper (N, H, W) 0 or 1;
    tcp (N, 10), see `tcp_vectors`; K (N, 3, 3).
    """

    frame: Tensor
    frame0: Tensor
    rgb: Tensor
    depth: Tensor
    depth0: Tensor
    gripper: Tensor
    tcp: Tensor
    K: Tensor


@dataclass
class CodecRecords(_Batch):
    """A `CodecBatch` as it was recorded: rgb and rgb0 (N, H, W, 3) uint8, depth and depth0
    (N, H, W), see `_stored`, seen and seen0: the same with faults, gripper (N, H, W) bool."""

    rgb: Tensor
    rgb0: Tensor
    depth: Tensor
    depth0: Tensor
    seen: Tensor
    seen0: Tensor
    gripper: Tensor
    tcp: Tensor
    K: Tensor

    def batch(self) -> CodecBatch:
        """What the codec is trained on, on the device of the records."""
        return CodecBatch(
            frame=frame_tensor(self.rgb, _metres(self.seen), self.K),
            frame0=frame_tensor(self.rgb0, _metres(self.seen0), self.K),
            rgb=self.rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0, depth=_metres(self.depth),
            depth0=_metres(self.depth0), gripper=self.gripper.float(), tcp=self.tcp, K=self.K)


@dataclass
class DynamicsBatch(_Batch):
    """Observations and what follows them.

    rgb (B, V, H, W, 3) uint8, depth (B, V, H, W), see `_stored`, and K (B, V, 3, 3) of frame 0;
    index (B, 1 + T, 2): episode and record of frame 0 and the future frames; tcp (B, V, T, 10) of
    the future, see `tcp_vectors`; keyframes (B, V, 2, 3) of frame 0, see `next_grips`; camera
    (B, V, 9) relative to the reference view; task (B,) index.
    """

    rgb: Tensor
    depth: Tensor
    K: Tensor
    index: NDArray[np.int64]
    tcp: Tensor
    keyframes: Tensor
    camera: Tensor
    task: Tensor

    def frame0(self) -> Tensor:
        """(B, V, 7, H, W) as `frame_tensor` makes it."""
        frames = frame_tensor(self.rgb.flatten(0, 1), _metres(self.depth).flatten(0, 1),
                              self.K.flatten(0, 1))
        return frames.unflatten(0, self.rgb.shape[:2])


@dataclass
class ClipBatch(_Batch):
    """Clips of an observation (frame 0) and the T frames that follow.

    colour (B, V, 1 + T, 3, H, W) in -1..1; depth (B, V, 1 + T, H, W) m, NaN where invalid; gripper
    (B, V, 1 + T, H, W) 0 or 1; K (B, V, 3, 3); camera (B, V, 9), the views' poses in the reference
    frame, see `pose_from_9d`.
    """

    colour: Tensor
    depth: Tensor
    gripper: Tensor
    K: Tensor
    camera: Tensor


class Demonstrations:
    """Data sets, the episodes of each in the order of their seeds.

    `sets` tells which of `episodes` come from which folder. With `limit`, only the first so many of
    each; without `depth` that of every pixel is `codec.PLANE`. Raises InputError when a folder is
    not a data set of one of `tasks`, an episode cannot be read, or their rates differ.
    """

    def __init__(self, folders: Sequence[Path], tasks: tuple[str, ...], *,
                 limit: int | None = None, depth: bool = True) -> None:
        self.episodes: list[Episode] = []
        self.sets: list[range] = []
        self._folders = tuple(folders)
        rates = {}
        for folder in folders:
            meta, files = read_meta(folder), sorted(folder.glob('episode_*.npz'))[:limit]
            if meta['task'] not in tasks:
                raise InputError(f'data set {folder}', expected=f'a task of {tasks}',
                                 got=meta['task'])
            task, begin = tasks.index(meta['task']), len(self.episodes)
            rate = float(meta['rate_hz'])
            _allow_files(len(files))
            # not in threads: numpy reads headers with `ast`, which is not safe there in Python 3.11
            self.episodes += [_load(file, task, depth, rate) for file in files]
            self.sets.append(range(begin, len(self.episodes)))
            rates[str(folder)] = rate
        if len(set(rates.values())) != 1:
            raise InputError('data sets', expected='at least one, all of one rate',
                             got=f'{rates} Hz', hint='Collect them with one version.')
        self.rate = next(iter(rates.values()))

    def stride(self, dt: float) -> int:
        """Records that lie `dt` s apart; raises InputError when that is no whole number."""
        stride = round(dt * self.rate)
        if stride < 1 or abs(stride - dt * self.rate) > 1e-3:
            raise InputError('rate of the data set', expected=f'a multiple of {1.0 / dt:g} Hz',
                             got=f'{self.rate:g} Hz')
        return stride

    def require_size(self, height: int, width: int) -> None:
        """Raises InputError for a data set whose pictures are not so large."""
        for folder, episodes in zip(self._folders, self.sets, strict=True):
            for i in episodes:
                size = self.episodes[i].rgb.shape[2:4]
                if size != (height, width):
                    raise InputError(f'data set {folder}', expected=f'images of {height}x{width}',
                                     got=f'{size[0]}x{size[1]}',
                                     hint=f'Make it so: fourdgen data cache --size {height} '
                                          f'{width}.')

    def require_views(self, most: int | None = None) -> None:
        """Raises InputError unless all episodes have the same number of views, `most` at most."""
        views = {str(folder): {self.episodes[i].rgb.shape[1] for i in episodes}
                 for folder, episodes in zip(self._folders, self.sets, strict=True)}
        numbers = set().union(*views.values())
        if len(numbers) != 1 or (most is not None and max(numbers) > most):
            told = ', '.join(f'{folder}: {" and ".join(map(str, sorted(found)))}'
                             for folder, found in views.items())
            raise InputError('views of the data sets', got=told,
                             expected='one number of them' + ('' if most is None
                                                              else f', at most {most}'),
                             hint='Train on data sets of the same cameras.')

    def codec_records(self, rng: np.random.Generator, size: int, episodes: Sequence[int],
                      reach: int, *, sensor_faults: bool = False) -> CodecRecords:
        """Random frames at most `reach` records after their frame 0. With `sensor_faults` what is
        seen of both has those of `random_faults`."""
        records: dict[str, list] = {f.name: [] for f in fields(CodecRecords)}
        lot = rng.spawn(1)[0]  # apart, so that the records are those without faults
        for i in rng.choice(episodes, size):
            e = self.episodes[i]
            v, t0 = rng.integers(e.rgb.shape[1]), rng.integers(len(e))
            t = min(len(e) - 1, t0 + rng.integers(reach + 1))
            pictures = [(e.rgb[at, v], e.depth[at, v]) for at in (t, t0)]
            seen = _with_faults(pictures, e.K[v], lot) if sensor_faults else pictures
            for name, value in (
                    ('rgb', seen[0][0]), ('rgb0', seen[1][0]), ('depth', pictures[0][1]),
                    ('depth0', pictures[1][1]), ('seen', seen[0][1]), ('seen0', seen[1][1]),
                    ('gripper', e.gripper[t, v]), ('tcp', e.tcp[t, v]), ('K', e.K[v])):
                records[name].append(value)
        tensors = {name: torch.from_numpy(np.stack(records[name]))
                   for name in ('rgb', 'rgb0', 'gripper', 'tcp')}
        depths = {name: _stored(records[name]) for name in ('depth', 'depth0', 'seen', 'seen0')}
        return CodecRecords(**tensors, **depths,
                            K=torch.from_numpy(np.stack(records['K'])).float())

    def frames(self, episode: int, device: torch.device) -> Tensor:
        """All frames (T, V, 7, H, W) of an episode as `frame_tensor` makes them, on `device`."""
        e = self.episodes[episode]
        t, v = e.rgb.shape[:2]
        rgb, depth = torch.from_numpy(e.rgb.copy()).to(device), _stored(e.depth).to(device)
        K = torch.from_numpy(e.K).float().to(device).repeat(t, 1, 1)
        frames = frame_tensor(rgb.flatten(0, 1), _metres(depth).flatten(0, 1), K)
        return frames.unflatten(0, (t, v))

    def clip_batch(self, rng: np.random.Generator, size: int, episodes: Sequence[int],
                   frames: int, stride: int) -> ClipBatch:
        """Clips at random starts; frames as of `dynamics_batch`."""
        rgb, depth, gripper, K, camera = [], [], [], [], []
        for i in rng.choice(episodes, size):
            e = self.episodes[int(i)]
            t0 = int(rng.integers(len(e) - 1))
            times = np.minimum(t0 + stride * np.arange(frames + 1), len(e) - 1)
            for values, source in ((rgb, e.rgb), (depth, e.depth), (gripper, e.gripper)):
                values.append(source[times].swapaxes(0, 1))
            K.append(e.K)
            camera.append(e.camera)
        colour = torch.from_numpy(np.stack(rgb)).movedim(-1, -3).float() / 127.5 - 1.0
        return ClipBatch(
            colour=colour, depth=_metres(_stored(depth)),
            gripper=torch.from_numpy(np.stack(gripper)).float(),
            K=torch.from_numpy(np.stack(K)).float(), camera=torch.from_numpy(np.stack(camera)))

    def dynamics_batch(self, rng: np.random.Generator, size: int, episodes: Sequence[int],
                       frames: int, stride: int, *, sensor_faults: bool = False) -> DynamicsBatch:
        """Random starts with the `frames` frames that follow, `stride` records apart; the future
        holds still after the end of the episode. With `sensor_faults` each view of frame 0 has
        those of `random_faults`, and all but the reference may be older."""
        rgb, depth, K, camera, tcp, keyframes, index, task = [], [], [], [], [], [], [], []
        lot = rng.spawn(1)[0]  # apart, so that the records are those without faults
        for i in rng.choice(episodes, size):
            e = self.episodes[i]
            t0 = int(rng.integers(len(e) - 1))
            times = np.minimum(t0 + stride * np.arange(frames + 1), len(e) - 1)
            index.append(np.stack([np.full_like(times, i), times], axis=-1))
            ages = np.zeros(e.rgb.shape[1], int)
            if sensor_faults:
                ages[1:] = lot.integers(1 + round(1e-3 * TRAINED['skew'] * self.rate),
                                        size=len(ages) - 1)
            seen = [(e.rgb[at, v], e.depth[at, v])
                    for v, at in enumerate(np.maximum(t0 - ages, 0))]
            if sensor_faults:
                seen = [_with_faults([picture], e.K[v], lot)[0] for v, picture in enumerate(seen)]
            rgb.append(np.stack([colour for colour, _ in seen]))
            depth.append(np.stack([units for _, units in seen]))
            K.append(e.K)
            camera.append(e.camera)
            tcp.append(e.tcp[times[1:]].swapaxes(0, 1))
            keyframes.append(e.keyframes[t0])
            task.append(e.task)
        return DynamicsBatch(
            rgb=torch.from_numpy(np.stack(rgb)), depth=_stored(depth),
            K=torch.from_numpy(np.stack(K)).float(), index=np.stack(index),
            tcp=torch.from_numpy(np.stack(tcp)), camera=torch.from_numpy(np.stack(camera)),
            keyframes=torch.from_numpy(np.stack(keyframes)), task=torch.tensor(task))


def split(data: Demonstrations) -> tuple[list[int], list[list[int]]]:
    """Episodes to train on, and those of each data set to validate on: one in ten, by its number.

    The number is that of the scene in what `fourdgen collect` makes, so that a set may grow or be
    limited, and scenes be in several sets, without mixing the two. A set in which no number or
    every one would be held out gives its first episode. Raises InputError when a set has fewer than
    2.
    """
    training, held = [], []
    for episodes in data.sets:
        if len(episodes) < 2:
            raise InputError('data set', expected='at least 2 episodes', got=str(len(episodes)),
                             hint='Collect more: fourdgen collect.')
        chosen = [i for i in episodes if data.episodes[i].number % HELD_OUT == 0]
        if len(chosen) in (0, len(episodes)):
            chosen = [episodes[0]]
        held.append(chosen)
        training += [i for i in episodes if i not in chosen]
    return training, held


def read_meta(folder: Path) -> dict:
    """What `meta.json` says of a data set, `task` and `rate_hz` at least; raises InputError when
    the folder is none."""
    meta_file = folder / 'meta.json'
    count = len(list(folder.glob('episode_*.npz')))
    if not meta_file.is_file() or not count:
        raise InputError(f'data set {folder}', expected='meta.json and episode_*.npz',
                         got=f'{count} episodes', hint='Make one: fourdgen collect --out DIR.')
    try:
        meta = dict(json.loads(meta_file.read_bytes()))
    except (ValueError, TypeError) as error:  # cut off, or no object
        raise InputError(f'{meta_file}', expected='what a data set says of itself, in JSON',
                         got=f'{type(error).__name__}: {error}', hint='Make it again.') from error
    if meta.get('format') != FORMAT:
        raise InputError(f'data set {folder}', expected=f'format {FORMAT}',
                         got=str(meta.get('format')), hint='Collect it again.')
    missing = [key for key in ('task', 'rate_hz') if key not in meta]
    if missing:
        raise InputError(f'{meta_file}', expected='task and rate_hz', got=f'no {missing[0]}',
                         hint='Make it again.')
    if count < meta.get('episodes', count):
        raise InputError(f'data set {folder}', expected=f"{meta['episodes']} episodes",
                         got=str(count), hint='Its making was stopped: give the same `fourdgen '
                                              'data cache` again.')
    return meta


def tcp_vectors(T_base_camera: NDArray[np.float64], tcp: NDArray[np.float64],
                opening: NDArray[np.float64]) -> NDArray[np.float32]:
    """(T, V, 10) as `FrameCodec.tcp` predicts it, from camera (V, 4, 4) and TCP (T, 4, 4) poses in
    the base frame and the opening (T,) in m."""
    poses = se3.inverse(T_base_camera)[None] @ tcp[:, None]
    width = np.broadcast_to(10.0 * opening[:, None, None], (*poses.shape[:2], 1))
    return np.concatenate([_nine(poses), width], axis=-1).astype(np.float32)


def next_grips(tcp: NDArray[np.float32], opening: NDArray[np.float64],
               rate: float) -> NDArray[np.float32]:
    """Where the TCP is when the gripper next closes and next opens, (T, V, 2, 3) m in the views'
    optical frames; NaN when it does not any more.

    These are the places that a task is about, and any demonstration tells them: keyframes at
    changes of the gripper, James and Davison 2022. From `tcp_vectors` (T, V, 10) and the opening
    (T,) in m, recorded at `rate` Hz.
    """
    ahead = max(1, round(_GRIP_TIME * rate))
    change = opening[np.minimum(np.arange(len(opening)) + ahead, len(opening) - 1)] - opening
    places = np.full((*tcp.shape[:2], 2, 3), np.nan, np.float32)
    for kind, moves in enumerate((change < -_GRIP_STEP, change > _GRIP_STEP)):
        starts = np.flatnonzero(moves & ~np.append(False, moves[:-1]))
        following = np.searchsorted(starts, np.arange(len(tcp)))
        there = following < len(starts)
        places[there, :, kind] = tcp[starts[following[there]], :, :3]
    return places


def _nine(T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position and the first two rotation columns, (..., 9)."""
    return np.concatenate([T[..., :3, 3], T[..., :3, 0], T[..., :3, 1]], axis=-1)


def _stored(depth: NDArray[np.uint16] | list[NDArray[np.uint16]]) -> Tensor:
    """Depth in `DEPTH_UNIT` as a tensor: the bits of uint16 as int16, which every device knows."""
    return torch.from_numpy(np.array(depth).view(np.int16))


def _metres(stored: Tensor) -> Tensor:
    """Depth in m from `_stored`, NaN where invalid."""
    d = (stored.int() & 0xFFFF).float() * DEPTH_UNIT
    return torch.where(d > 0, d, torch.full_like(d, float('nan')))


def _with_faults(pictures: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint16]]],
                 K: NDArray[np.float64], rng: np.random.Generator
                 ) -> list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    """Colours (H, W, 3) and depths (H, W), in `DEPTH_UNIT`, of one camera, see `random_faults`."""
    views = [RgbdView(rgb, np.where(depth > 0, DEPTH_UNIT * depth, np.nan).astype(np.float32), K, 0,
                      'training') for rgb, depth in pictures]
    return [(view.rgb, np.rint(np.nan_to_num(view.depth, nan=0.0) / DEPTH_UNIT)
             .clip(0, np.iinfo(np.uint16).max).astype(np.uint16))
            for view in random_faults(views, rng)]


def task_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The tasks of data sets, each once, in their order. Raises InputError as `Demonstrations`."""
    return tuple(dict.fromkeys(read_meta(folder)['task'] for folder in folders))


def _load(file: Path, task: int, depth: bool, rate: float) -> Episode:
    try:
        number = int(file.stem.removeprefix('episode_'))
        z = _mapped(file)
        cameras = z['T_base_camera']
        tcp = tcp_vectors(cameras, z['tcp'], z['opening'])
        plane = np.broadcast_to(np.uint16(round(PLANE / DEPTH_UNIT)), z['gripper'].shape)
        return Episode(
            rgb=z['rgb'], depth=z['depth'] if depth else plane, gripper=z['gripper'],
            K=z['K'].copy(), task=task, tcp=tcp, keyframes=next_grips(tcp, z['opening'], rate),
            camera=_nine(se3.inverse(cameras[0]) @ cameras).astype(np.float32), number=number)
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(file, error) from error


def _unreadable(file: Path, error: OSError) -> InputError:
    if error.errno in (None, errno.EINVAL):  # zipfile's, of an archive that is cut off
        return _damaged(file, error)
    if error.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return InputError(f'episode {file}', got=str(error),
                          expected=f'at most {limit} open files, the limit of this process',
                          hint='Every episode stays open. Raise the limit with ulimit -n (beyond '
                               'ulimit -Hn as root), or give fewer --episodes.')
    return InputError(f'episode {file}', expected='a file that the system lets be mapped',
                      got=str(error), hint='The episode itself may be sound: see to what the '
                                           'system says, and give the same command again.')


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError(f'episode {file}', expected='the arrays of a demonstration',
                      got=f'{type(error).__name__}: {error}',
                      hint='Delete the file and collect it again.')


def _allow_files(count: int) -> None:
    """Let this process open so many files more, as far as the system allows it: a mapped one stays
    open, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        more = soft + count
        resource.setrlimit(resource.RLIMIT_NOFILE, (
            more if hard == resource.RLIM_INFINITY else min(more, hard), hard))


def _mapped(file: Path) -> dict[str, NDArray]:
    """The arrays of an .npz that is not compressed, where they are in the file; read-only.

    Raises ValueError for one that is compressed or cut off.
    """
    arrays = {}
    with file.open('rb') as stream, zipfile.ZipFile(stream) as archive:
        whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f'{info.filename} is compressed; np.savez does not')
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                        else np.lib.format.read_array_header_2_0)
                shape, fortran, dtype = read(member)
                header = member.tell()
            # the name and the extra field in front of the data may differ from the directory's
            name, extra = struct.unpack_from('<HH', whole, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra + header
            flat = np.frombuffer(whole, dtype, int(np.prod(shape)), begin)
            arrays[Path(info.filename).stem] = flat.reshape(shape, order='F' if fortran else 'C')
    return arrays
