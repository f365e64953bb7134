# SPDX-License-Identifier: Apache-2.0
"""Reading a LeRobotDataset v3.0 that this package wrote, without lerobot and torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import layout
from fourdgen_ros.data.episode import COLOUR, DEPTH, GRIPPER, CameraModel, Episode, Picture
from fourdgen_ros.data.pictures import image_from_bytes, read_video
from fourdgen_ros.data.staging import pyarrow


class Dataset:
    """A data set on disk.

    Raises InputError when the folder is none, or lacks what this package stores beside LeRobot's
    own features (layout.py).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            info = json.loads((root / layout.INFO).read_text(encoding='utf-8'))
            self.fps, self.features = int(info['fps']), info['features']
            self._data, self._video = info['data_path'], info['video_path']
            version = info['codebase_version']
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f'data set {root}', expected=layout.INFO,
                             got=f'{type(error).__name__}: {error}',
                             hint='Make one: fourdgen data convert.') from error
        if version != layout.VERSION:
            raise InputError(f'data set {root}', expected=layout.VERSION, got=str(version),
                             hint='lerobot converts older ones.')
        self.cameras = self._cameras()
        missing = [k for k in (layout.TCP, layout.STATE) if k not in self.features]
        if missing or not self.cameras:
            raise InputError(f'data set {root}',
                             expected='poses and RGB-D cameras with calibration',
                             got=f'no {missing or "camera with depth, K and T_base_camera"}',
                             hint='Only data sets of fourdgen data convert and import have them.')
        self.rows = self._rows()

    def __len__(self) -> int:
        return len(self.rows)

    def _cameras(self) -> tuple[CameraModel, ...]:
        prefix, cameras = 'observation.images.', []
        for key, feature in self.features.items():
            name = key.removeprefix(prefix)
            depth = self.features.get(layout.image_key(name, DEPTH))
            if feature['dtype'] == 'video' and key.startswith(prefix) and depth is not None and all(
                    layout.camera_key(name, k) in self.features
                    for k in ('K', 'T_base_camera', 'stamp')):
                height, width = feature['shape'][:2]
                cameras.append(CameraModel(name, height, width, depth['info']['depth_unit']))
        return tuple(cameras)

    def _rows(self) -> list[dict[str, Any]]:
        files = sorted((self.root / 'meta' / 'episodes').glob('*/*.parquet'))
        rows = [row for file in files for row in self._table(file).to_pylist()]
        if not rows:
            raise InputError(f'data set {self.root}', expected='episodes in meta/episodes',
                             got='none')
        return rows

    def _table(self, path: Path, columns: list[str] | None = None) -> Any:
        pa = pyarrow()
        try:
            return pa.parquet.read_table(path, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f'data file {path}', expected='a parquet file with all columns',
                             got=str(error), hint='Convert the recordings again.') from error

    def _data_file(self, row: dict[str, Any]) -> Path:
        return layout.inside(self.root, self._data.format(
            chunk_index=row['data/chunk_index'], file_index=row['data/file_index']))

    @property
    def has_masks(self) -> bool:
        """Whether gripper masks were recorded."""
        return all(layout.image_key(c.name, GRIPPER) in self.features for c in self.cameras)

    def episode(self, index: int) -> Episode:
        """Everything of an episode but its pictures."""
        row = self.rows[index]
        names = [layout.TCP, layout.STATE] + [
            layout.camera_key(c.name, k) for c in self.cameras
            for k in ('K', 'T_base_camera', 'stamp')]
        table = self._table(self._data_file(row), [*names, 'episode_index'])
        table = table.filter(pyarrow().compute.equal(table['episode_index'], row['episode_index']))
        column = {n: np.array(table[n].to_pylist()) for n in names}
        pose = column[layout.TCP]
        state = column[layout.STATE].reshape(len(pose), -1)
        rotations = np.stack([se3.matrix_from_quaternion(q) for q in pose[:, 3:]])
        tcp = np.tile(np.eye(4), (len(pose), 1, 1))
        tcp[:, :3, :3], tcp[:, :3, 3] = rotations, pose[:, :3]
        per_camera = {k: np.stack([column[layout.camera_key(c.name, k)] for c in self.cameras],
                                  axis=1) for k in ('K', 'T_base_camera', 'stamp')}
        return Episode(
            source=f'episode {index} of {self.root}', text=row['tasks'][0],
            task=row.get('fourdgen/task') or row['tasks'][0],
            outcome=row.get('fourdgen/outcome') or 'success', fps=self.fps, cameras=self.cameras,
            stamps=per_camera['stamp'], K=per_camera['K'][0],
            T_base_camera=per_camera['T_base_camera'], tcp=tcp,
            opening=state[:, -1].astype(np.float64), joints=state[:, :-1].astype(np.float64),
            joint_names=tuple(self.features[layout.STATE]['names'][:-1]), has_masks=self.has_masks)

    def pictures(self, index: int, every: int = 1) -> Iterator[Picture]:
        """Colour, depth and recorded masks of every so-manieth record, decoded, kind by kind.

        `record` counts all records of the episode.
        """
        row = self.rows[index]
        for v, camera in enumerate(self.cameras):
            key = layout.image_key(camera.name, COLOUR)
            path = layout.inside(self.root, self._video.format(
                video_key=key, chunk_index=row[f'videos/{key}/chunk_index'],
                file_index=row[f'videos/{key}/file_index']))
            first = round(row[f'videos/{key}/from_timestamp'] * self.fps)
            for record, rgb in enumerate(read_video(path, first, row['length'])):
                if record % every == 0:
                    yield Picture(COLOUR, v, record, rgb)
        kinds = [DEPTH, *([GRIPPER] if self.has_masks else [])]
        keys = [(v, kind, layout.image_key(c.name, kind))
                for v, c in enumerate(self.cameras) for kind in kinds]
        path = self._data_file(row)
        table = self._table(path, ['episode_index', *(key for _, _, key in keys)])
        table = table.filter(pyarrow().compute.equal(table['episode_index'], row['episode_index']))
        for v, kind, key in keys:
            for record in range(0, table.num_rows, every):
                data = table[key][record]['bytes'].as_py()
                values = image_from_bytes(data, f'{key}, record {record} in {path}')
                yield Picture(kind, v, record, values > 0 if kind == GRIPPER else values)
