# SPDX-License-Identifier: Apache-2.0
"""The YAML file that says which topics of a bag are which: `config/data/*.yaml` show all keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]*')  # names that become parts of file names
_SUFFIXES = ('_depth', '_gripper')  # of the names of other pictures of a camera: layout.py
_KEYS = {
    '': ('cameras', 'base_frame', 'tcp', 'joints', 'gripper', 'task', 'text', 'outcomes', 'fps',
         'max_age', 'max_skew', 'tf', 'tf_static'),
    'tcp': ('frame', 'urdf'), 'joints': ('topic', 'names'),
    'gripper': ('topic', 'joints', 'positions', 'opening')}
_CAMERA_KEYS = ('color', 'depth', 'info', 'rectified', 'T_base_camera')
_POSE_KEYS = ('translation', 'rotation_xyzw')
EXAMPLE = 'Compare it with config/data/realsense_franka.yaml.'


@dataclass(frozen=True, eq=False)
class CameraTopics:
    """Topics of one camera; T_base_camera (4, 4) overrides TF where it is given. Images that are
    `rectified` have the P of their camera info, others its K."""

    name: str
    color: str
    depth: str
    info: str
    rectified: bool = False
    T_base_camera: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class GripperJoints:
    """Joints whose mean position tells the opening: `positions` (rad or m) at `opening` (m)."""

    topic: str
    joints: tuple[str, ...]
    positions: tuple[float, float]
    opening: tuple[float, float]

    def opening_at(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Opening in m at mean joint positions."""
        (p0, p1), (o0, o1) = self.positions, self.opening
        return o0 + (position - p0) / (p1 - p0) * (o1 - o0)


@dataclass(frozen=True, eq=False)
class TopicMap:
    """What the file says; `urdf` is None where the TCP comes from TF, of the topics `tf` and
    `tf_static`."""

    path: Path
    cameras: tuple[CameraTopics, ...]
    base_frame: str
    tcp_frame: str
    urdf: Path | None
    joint_topic: str
    joint_names: tuple[str, ...]
    gripper: GripperJoints
    task: str
    text: str
    outcomes: tuple[str, ...]
    fps: int
    max_age: float
    max_skew: float
    tf: tuple[str, ...]
    tf_static: tuple[str, ...]


def load_map(path: Path) -> TopicMap:
    """Read a file; raises InputError that names it and what is wrong."""
    try:
        spec = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f'topic map {path}', expected='a YAML file', got=str(error),
                         hint=EXAMPLE) from error
    try:
        return _parse(spec, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f'topic map {path}', expected='all keys with values of their kind',
                         got=f'{type(error).__name__}: {error}', hint=EXAMPLE) from error


def _parse(spec: dict[str, Any], path: Path) -> TopicMap:
    for key, known in _KEYS.items():
        _check_keys(spec[key] if key else spec, key or 'the file', known)
    fps = spec['fps']
    if not isinstance(fps, int) or fps < 1:
        raise ValueError(f'fps is {fps!r}, not a whole number of at least 1')
    tcp, joints, gripper = spec['tcp'], spec['joints'], spec['gripper']
    positions, opening = _pair(gripper['positions']), _pair(gripper['opening'])
    if positions[0] == positions[1] or not 0.0 <= opening[0] < opening[1] < 0.5:
        raise ValueError(f'gripper: positions {positions} and opening {opening}')
    cameras = tuple(_camera(str(name), c, path) for name, c in spec['cameras'].items())
    if not cameras:
        raise ValueError('cameras is empty')
    joint_topic, gripper_topic = _text(joints, 'topic', 'joints.'), _text(
        gripper, 'topic', 'gripper.')
    tf, tf_static = (_texts(spec.get(key, [f'/{key}']), key) for key in ('tf', 'tf_static'))
    _check_roles(cameras, tf, tf_static, joint_topic, gripper_topic)
    urdf = tcp.get('urdf')
    return TopicMap(
        path=path, cameras=cameras, base_frame=_text(spec, 'base_frame').lstrip('/'),
        tcp_frame=_text(tcp, 'frame', 'tcp.').lstrip('/'),
        urdf=None if urdf is None else (path.parent / urdf).resolve(),
        joint_topic=joint_topic, joint_names=_texts(joints['names'], 'joints.names'),
        gripper=GripperJoints(gripper_topic, _texts(gripper['joints'], 'gripper.joints'),
                              positions, opening),
        task=_text({'task': '', **spec}, 'task', empty=True),
        text=_text({'text': '', **spec}, 'text', empty=True),
        outcomes=_texts(spec.get('outcomes', ['success']), 'outcomes'), fps=fps,
        max_age=float(spec.get('max_age', 1.0 / fps)),
        max_skew=float(spec.get('max_skew', 0.5 / fps)), tf=tf, tf_static=tf_static)


def _check_keys(spec: Any, where: str, known: tuple[str, ...]) -> None:
    if not isinstance(spec, dict):
        raise ValueError(f'{where} is {spec!r}, expected the keys {list(known)}')
    if unknown := [key for key in spec if key not in known]:
        raise ValueError(f'unknown keys {unknown} in {where}: known are {list(known)}')


def _check_roles(cameras: tuple[CameraTopics, ...], tf: tuple[str, ...],
                 tf_static: tuple[str, ...], joints: str, gripper: str) -> None:
    """A topic has one type, so only roles of one kind may share it."""
    roles = [*((t, 'TF') for t in tf), *((t, 'static TF') for t in tf_static),
             (joints, 'joints'), (gripper, 'joints')]
    for camera in cameras:
        roles += [(camera.color, f'colour of {camera.name}'),
                  (camera.depth, f'depth of {camera.name}'), (camera.info, 'camera info')]
    for topic in dict(roles):
        found = list(dict.fromkeys(role for t, role in roles if t == topic))
        if len(found) > 1:
            raise ValueError(f'topic {topic} as {" and ".join(found)}, expected one role')


def checked_name(name: str, what: str) -> str:
    """`name` of a camera, which becomes part of file names.

    Raises InputError for one that could leave a folder, hide, or be that of another camera's depth
    or masks.
    """
    if not NAME.fullmatch(name):
        raise InputError(what, expected='letters, digits, _ and - only', got=repr(name),
                         hint='It becomes part of file names.')
    if name.endswith(_SUFFIXES):
        raise InputError(f'{what} {name}', expected=f'no {" or ".join(_SUFFIXES)} at its end',
                         got='one', hint='Data sets name depth and masks so: rename the camera.')
    return name


def _camera(name: str, spec: dict[str, Any], path: Path) -> CameraTopics:
    where, T = f'cameras.{name}', None
    _check_keys(spec, where, _CAMERA_KEYS)
    pose = spec.get('T_base_camera')
    if pose is not None:
        _check_keys(pose, f'{where}.T_base_camera', _POSE_KEYS)
        T = se3.make(se3.matrix_from_quaternion(np.array(pose['rotation_xyzw'], float)),
                     np.array(pose['translation'], float))
    color, depth, info = (_text(spec, key, f'{where}.') for key in ('color', 'depth', 'info'))
    rectified = spec.get('rectified', False)
    if not isinstance(rectified, bool):
        raise ValueError(f'{where}.rectified is {rectified!r}, expected true or false')
    return CameraTopics(checked_name(name, f'topic map {path}, camera'), color, depth, info,
                        rectified, T)


def _text(spec: dict[str, Any], key: str, where: str = '', *, empty: bool = False) -> str:
    value = spec[key]
    if value in (None, '') and not empty:
        raise ValueError(f'{where}{key} is empty')
    return '' if value is None else str(value)


def _texts(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError(f'{what} is {values!r}, expected a list')
    return tuple(str(value) for value in values)


def _pair(values: Any) -> tuple[float, float]:
    first, second = values
    return float(first), float(second)
