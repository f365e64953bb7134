# SPDX-License-Identifier: Apache-2.0
"""One episode, written into a folder of its own before the data set is put together."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install
from fourdgen_ros.data import layout, statistics
from fourdgen_ros.data.episode import COLOUR, DEPTH, GRIPPER, Episode, Picture
from fourdgen_ros.data.findings import Finding
from fourdgen_ros.data.pictures import VideoWriter, depth_bytes, mask_bytes

RECORDS, SUMMARY = 'records.arrow', 'episode.json'
_GROUP_BYTES = 2**24  # of the images of rows that are written together; more is slow to allocate


@dataclass(frozen=True)
class Staged:
    """What `episode.json` of a staged episode says; `stats` by feature, `findings` of its
    source."""

    folder: Path
    length: int
    features: dict[str, dict]
    fps: int
    source: str
    task: str
    text: str
    outcome: str
    start: int
    end: int
    stats: dict[str, statistics.Stats]
    findings: list[Finding]


def pyarrow() -> Any:
    """The package pyarrow with its modules of files; raises MissingDependencyError."""
    try:
        import pyarrow as pa
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            'data sets', expected='the package pyarrow', got=str(error),
            hint=how_to_install('data')) from error
    return pa


def video_name(camera: str) -> str:
    """File of a camera's colour images in a staged episode."""
    return f'{camera}.mp4'


def columns(episode: Episode) -> dict[str, NDArray]:
    """Everything but pictures and indices, by feature: (T, ...)."""
    T = len(episode)
    pose = np.concatenate([episode.tcp[:, :3, 3], np.stack(
        [se3.quaternion_from_matrix(R) for R in episode.tcp[:, :3, :3]])], axis=1)
    moved = np.concatenate([pose, episode.opening[:, None]], axis=1)
    out = {layout.TCP: pose,
           layout.STATE: np.concatenate([episode.joints, episode.opening[:, None]],
                                        axis=1).astype(np.float32),
           layout.ACTION: moved[np.minimum(np.arange(1, T + 1), T - 1)].astype(np.float32),
           'timestamp': (np.arange(T) / episode.fps).astype(np.float32),
           'frame_index': np.arange(T)}
    if not episode.joint_names:
        out[layout.STATE] = out[layout.STATE][:, 0]  # one number: upstream stores it as such
    for v, camera in enumerate(episode.cameras):
        out[layout.camera_key(camera.name, 'K')] = np.tile(episode.K[v], (T, 1, 1))
        out[layout.camera_key(camera.name, 'T_base_camera')] = episode.T_base_camera[:, v]
        out[layout.camera_key(camera.name, 'stamp')] = episode.stamps[:, v]
    return out


def stage(folder: Path, episode: Episode, pictures: Iterable[Picture],
          findings: Sequence[Finding]) -> Staged:
    """Write an episode into `folder`, which is there as a whole or not at all.

    `findings` is the report about its source. Raises InputError when a picture is missing; what
    fails leaves nothing behind.
    """
    part = folder.with_name(f'.{folder.name}.{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        numbers = columns(episode)
        stats = {key: statistics.of_vectors(values) for key, values in numbers.items()}
        stats |= _write(part, episode, numbers, pictures)
        summary = {
            'length': len(episode), 'features': layout.features(episode), 'fps': episode.fps,
            'source': episode.source, 'task': episode.task, 'text': episode.text,
            'outcome': episode.outcome, 'start': int(episode.stamps.min()),
            'end': int(episode.stamps.max()), 'findings': [asdict(f) for f in findings],
            'stats': {f: {k: v.tolist() for k, v in s.items()} for f, s in stats.items()}}
        (part / SUMMARY).write_text(json.dumps(summary, ensure_ascii=False), encoding='utf-8')
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return read_staged(folder)


def read_staged(folder: Path) -> Staged:
    """What `stage` wrote."""
    summary = json.loads((folder / SUMMARY).read_text(encoding='utf-8'))
    summary['stats'] = {f: {k: np.array(v) for k, v in s.items()}
                        for f, s in summary['stats'].items()}
    summary['findings'] = [Finding(**f) for f in summary['findings']]
    return Staged(folder=folder, **summary)


def _write(part: Path, episode: Episode, numbers: dict[str, NDArray],
           pictures: Iterable[Picture]) -> dict[str, statistics.Stats]:
    """Videos and records; returns the statistics of the pictures."""
    kinds = [COLOUR, DEPTH, *([GRIPPER] if episode.has_masks else [])]
    names = [c.name for c in episode.cameras]
    written = {(v, kind): 0 for v in range(len(names)) for kind in kinds}
    samples = {key: statistics.ImageSample(len(episode)) for key in written}
    with ExitStack() as stack:
        videos = []
        for camera in episode.cameras:
            videos.append(VideoWriter(part / video_name(camera.name), episode.fps, camera.height,
                                      camera.width))
            stack.callback(videos[-1].close)
        table = stack.enter_context(_RecordWriter(
            part / RECORDS, numbers, [layout.image_key(names[v], kind) for v, kind in written
                                      if kind != COLOUR]))
        for picture in pictures:
            key = picture.camera, picture.kind
            if picture.record != written[key]:
                raise InputError(f'{picture.kind} of {names[picture.camera]} in {episode.source}',
                                 expected=f'record {written[key]}', got=f'{picture.record}')
            written[key] += 1
            samples[key].add(picture.values)
            if picture.kind == COLOUR:
                videos[picture.camera].add(picture.values)
            else:
                code = depth_bytes if picture.kind == DEPTH else mask_bytes
                table.add(layout.image_key(names[picture.camera], picture.kind),
                          code(picture.values))
        for (v, kind), count in written.items():
            if count != len(episode):
                raise InputError(f'{kind} of {names[v]} in {episode.source}',
                                 expected=f'{len(episode)} pictures', got=f'{count}')
    return {layout.image_key(names[v], kind): sample.stats(1.0 if kind == DEPTH else
                                                           255.0 if kind == COLOUR else 1.0)
            for (v, kind), sample in samples.items()}


class _RecordWriter:
    """Arrow file of records, as they are in memory: the data set, which is put together from it,
    compresses. Rows are written when all their pictures are there."""

    def __init__(self, path: Path, numbers: dict[str, NDArray], images: list[str]) -> None:
        self._pa = pa = pyarrow()
        self._numbers, self._first = numbers, 0
        self._images: dict[str, list[bytes]] = {key: [] for key in images}
        image = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
        self._schema = pa.schema([(key, image) for key in images]
                                 + [(key, arrow_type(values)) for key, values in numbers.items()])
        self._file = pa.ipc.new_file(str(path), self._schema)

    def __enter__(self) -> _RecordWriter:
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._file.close()

    def add(self, key: str, data: bytes) -> None:
        """Append the next picture of a feature."""
        self._images[key].append(data)
        rows = self._complete()
        if rows and rows * sum(len(images[0]) for images in self._images.values()) > _GROUP_BYTES:
            self._flush()

    def _complete(self) -> int:
        """Rows that wait with all their pictures; some sources give them camera by camera."""
        return min(len(images) for images in self._images.values())

    def _flush(self) -> None:
        count = self._complete()
        if not count:
            return
        pa, rows = self._pa, slice(self._first, self._first + count)
        arrays = []
        for field in self._schema:
            if field.name in self._images:
                data = self._images[field.name]
                # by column: structs from Python's dicts take seven times as long
                arrays.append(pa.StructArray.from_arrays(
                    [pa.array(data[:count], pa.binary()), pa.nulls(count, pa.string())],
                    fields=list(field.type)))
                del data[:count]
            else:
                arrays.append(pa.array(self._numbers[field.name][rows].tolist(), field.type))
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._first += count


def arrow_type(values: NDArray) -> Any:
    """Arrow type of one row of (T, ...) numbers: nested lists."""
    pa = pyarrow()
    kind = pa.from_numpy_dtype(values.dtype)
    for _ in values.shape[1:]:
        kind = pa.list_(kind)
    return kind
