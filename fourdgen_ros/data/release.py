# SPDX-License-Identifier: Apache-2.0
"""Episodes of the data that 4DGen released (two Pandas in Drake, 16 cameras, 10 Hz) as a source.

EPISODE/processed/ holds, as dataset/spartan_video_dataset.py and common/pose_util.py of
lzylucy/4dgen read them:

    observations.npz  CAMERA (T, 480, 640, 3) uint8; CAMERA_depth (T, 480, 640) mm, 0 invalid;
                      CAMERA_label (T, 480, 640) segmentation; robot__actual__poses__ARM::panda__xyz
                      (T, 3) m and __rot_6d (T, 6), the first two rows of the rotation, in the
                      world;
                      robot__actual__grippers__ARM::panda_hand (T, 1) m
    intrinsics.npz    CAMERA (3, 3)
    extrinsics.npz    CAMERA (T, 4, 4), camera to world
    actions.npz       `actions` (T, 20): not used
    metadata.yaml     `skills`: one name

Which labels are the gripper, where the TCP is in the recorded pose, and the rate are settings of
`config/data/fourdgen_release.yaml`, because the files do not say them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data.cell_parts import MOTION
from fourdgen_ros.data.convert import file_state
from fourdgen_ros.data.episode import COLOUR, DEPTH, GRIPPER, CameraModel, Episode, Picture
from fourdgen_ros.data.findings import Finding, judged
from fourdgen_ros.data.mapping import checked_name
from fourdgen_ros.data.staging import stage

NS = 10**9
_EPISODE_GAP = 3600  # s between the invented start times of episodes


@dataclass(frozen=True, eq=False)
class ReleaseSettings:
    """See config/data/fourdgen_release.yaml."""

    cameras: tuple[str, ...]
    arm: str
    rate: int
    gripper_labels: tuple[int, ...]
    T_pose_tcp: NDArray[np.float64]
    opening_range: tuple[float, float]
    tasks: dict[str, str]


def load_settings(path: Path) -> ReleaseSettings:
    """Read the file; raises InputError that names it and what is wrong."""
    try:
        spec = yaml.safe_load(path.read_text(encoding='utf-8'))
        tcp = spec['tcp']
        low, high = (float(v) for v in spec['opening_range'])
        return ReleaseSettings(
            tuple(checked_name(str(c), 'camera') for c in spec['cameras']), str(spec['arm']),
            int(spec['rate']), tuple(int(v) for v in spec['gripper_labels']),
            se3.make(se3.matrix_from_quaternion(np.array(tcp['rotation_xyzw'], float)),
                     np.array(tcp['translation'], float)),
            (low, high), {str(k): str(v) for k, v in spec['tasks'].items()})
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f'settings {path}', expected='those of config/data/fourdgen_release.yaml',
                         got=f'{type(error).__name__}: {error}') from error


@dataclass(frozen=True)
class ReleaseJob:
    """Episode folder `source`; `number` tells its start time, which the files do not."""

    source: Path
    settings: Path
    number: int

    def fingerprint(self) -> str:
        """See `Job`."""
        text = self.settings.read_text(encoding='utf-8')
        return f'{file_state(self.source)} {self.number} {text}'

    def convert(self, folder: Path) -> list[Finding]:
        """See `Job`; raises InputError where a file lacks something."""
        settings = load_settings(self.settings)
        with _Files(self.source) as files:
            episode = read_episode(files, settings, self.number)
            length = float(np.linalg.norm(np.diff(episode.tcp[:, :3, 3], axis=0), axis=1).sum())
            findings = [judged(f'{settings.arm} arm', f'travels {length:.3f} m',
                               bad=length < MOTION, next='Choose the other arm in the settings.')]
            if findings[0].verdict == 'ok':
                stage(folder, episode, pictures(files, settings, episode), findings)
        return findings


class _Files:
    """The open archives of an episode."""

    def __init__(self, source: Path) -> None:
        self.source, folder = source, source / 'processed'
        self._open: dict[str, Any] = {}
        for name in ('observations', 'intrinsics', 'extrinsics'):
            path = folder / f'{name}.npz'
            try:
                self._open[name] = np.load(path)  # arrays only: pickles are refused
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                self.close()
                raise InputError(f'{path}', expected='an archive of arrays', got=str(error),
                                 hint='Download the episode again.') from error
        try:
            text = (folder / 'metadata.yaml').read_text(encoding='utf-8')
            self.skills = [str(name) for name in yaml.safe_load(text)['skills']]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            self.close()
            raise InputError(f'{folder / "metadata.yaml"}', expected='skills',
                             got=f'{type(error).__name__}: {error}') from error

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all archives."""
        for file in self._open.values():
            file.close()

    def array(self, name: str, key: str, shape: tuple[int | None, ...]) -> NDArray:
        """An array of a file; raises InputError when it is missing, damaged or of another shape
        (None: any)."""
        what = f'{key} in {self.source / "processed" / name}.npz'
        try:
            values = self._open[name][key]
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(what, expected='an array', got=str(error),
                             hint='Compare the names with the settings.') from error
        if len(values.shape) != len(shape) or any(
                n is not None and n != m for n, m in zip(shape, values.shape, strict=False)):
            raise InputError(what, expected=str(shape), got=str(values.shape))
        return values

    def has(self, key: str) -> bool:
        """Whether observations.npz holds an array."""
        return key in self._open['observations'].files


def read_episode(files: _Files, settings: ReleaseSettings, number: int) -> Episode:
    """Everything but the pictures; stamps count from `number` hours after 1970."""
    poses = f'robot__actual__poses__{settings.arm}::panda__'
    xyz = files.array('observations', f'{poses}xyz', (None, 3)).astype(float)
    T = len(xyz)
    rotations = _rotations(files.array('observations', f'{poses}rot_6d', (T, 6)).astype(float))
    opening = files.array(
        'observations', f'robot__actual__grippers__{settings.arm}::panda_hand', (T, 1))
    low, high = settings.opening_range
    if opening.min() < low - 3e-3 or opening.max() > high + 3e-3:
        raise InputError(f'opening of {files.source}', expected=f'{low} to {high} m',
                         got=f'{opening.min():.4f} to {opening.max():.4f}')
    if len(files.skills) != 1:
        raise InputError(f'skills of {files.source}', expected='one', got=str(files.skills))
    skill = files.skills[0]
    cameras, K, views = [], [], []
    for name in settings.cameras:
        shape = files.array('observations', name, (T, None, None, 3)).shape
        cameras.append(CameraModel(name, shape[1], shape[2]))
        K.append(files.array('intrinsics', name, (3, 3)).astype(float))
        views.append(files.array('extrinsics', name, (T, 4, 4)).astype(float))
    joint_key = f'robot__actual__joint_position__{settings.arm}::panda'
    joints = (files.array('observations', joint_key, (T, 7)).astype(float)
              if files.has(joint_key) else np.zeros((T, 0)))
    start = number * _EPISODE_GAP * NS
    stamps = start + np.array([round(k * NS / settings.rate) for k in range(T)], np.int64)
    tcp = np.tile(np.eye(4), (T, 1, 1))
    tcp[:, :3, :3], tcp[:, :3, 3] = rotations, xyz
    return Episode(
        source=str(files.source), task=settings.tasks.get(skill, skill), text=skill,
        outcome='success', fps=settings.rate, cameras=tuple(cameras),
        stamps=np.repeat(stamps[:, None], len(cameras), axis=1), K=np.stack(K),
        T_base_camera=np.stack(views, axis=1), tcp=tcp @ settings.T_pose_tcp,
        opening=opening[:, 0].astype(float), joints=joints,
        joint_names=tuple(f'panda_joint{j + 1}' for j in range(joints.shape[1])),
        has_masks=all(files.has(f'{c}_label') for c in settings.cameras))


def pictures(files: _Files, settings: ReleaseSettings, episode: Episode) -> Iterator[Picture]:
    """All pictures of an episode, camera by camera."""
    for v, camera in enumerate(episode.cameras):
        shape = (len(episode), camera.height, camera.width)
        rgb = files.array('observations', camera.name, (*shape, 3))
        for record, values in enumerate(rgb):
            yield Picture(COLOUR, v, record, values)
        del rgb
        depth = files.array('observations', f'{camera.name}_depth', shape)
        for record, values in enumerate(depth):
            yield Picture(DEPTH, v, record, _millimetres(values))
        del depth
        if episode.has_masks:
            labels = files.array('observations', f'{camera.name}_label', shape)
            for record, values in enumerate(labels):
                yield Picture(GRIPPER, v, record, np.isin(values, settings.gripper_labels))


def _millimetres(values: NDArray) -> NDArray[np.uint16]:
    if values.dtype == np.uint16:
        return values
    known = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return np.where((known > 0) & (known <= 65535), np.rint(known), 0).astype(np.uint16)


def _rotations(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 3, 3) of the first two rows (T, 6), made orthonormal (Zhou et al. 2019)."""
    a = rows[:, :3] / np.linalg.norm(rows[:, :3], axis=1, keepdims=True)
    b = rows[:, 3:] - np.sum(a * rows[:, 3:], axis=1, keepdims=True) * a
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return np.stack([a, b, np.cross(a, b)], axis=1)
