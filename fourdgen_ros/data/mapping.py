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
EXAMPLE = 'Compare it with config/data/realsense_franka.yaml.'


@dataclass(frozen=True, eq=False)
class CameraTopics:
    """Topics of one camera; T_base_camera (4, 4) overrides TF where it is given."""

    name: str
    color: str
    depth: str
    info: str
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
    """What the file says; `urdf` is None where the TCP comes from TF."""

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
    known = {'cameras', 'base_frame', 'tcp', 'joints', 'gripper', 'task', 'text', 'outcomes', 'fps',
             'max_age', 'max_skew'}
    if unknown := sorted(set(spec) - known):
        raise ValueError(f'unknown keys {unknown}')
    fps = spec['fps']
    if not isinstance(fps, int) or fps < 1:
        raise ValueError(f'fps is {fps!r}, not a whole number of at least 1')
    gripper = spec['gripper']
    positions, opening = _pair(gripper['positions']), _pair(gripper['opening'])
    if positions[0] == positions[1] or not 0.0 <= opening[0] < opening[1] < 0.5:
        raise ValueError(f'gripper: positions {positions} and opening {opening}')
    cameras = tuple(_camera(str(name), c) for name, c in spec['cameras'].items())
    topics = [t for c in cameras for t in (c.color, c.depth)]
    if not cameras or len(set(topics)) != len(topics):
        raise ValueError(f'cameras need topics of their own, got {topics}')
    urdf = spec['tcp'].get('urdf')
    return TopicMap(
        path=path, cameras=cameras, base_frame=str(spec['base_frame']),
        tcp_frame=str(spec['tcp']['frame']),
        urdf=None if urdf is None else (path.parent / urdf).resolve(),
        joint_topic=str(spec['joints']['topic']),
        joint_names=tuple(str(n) for n in spec['joints']['names']),
        gripper=GripperJoints(str(gripper['topic']), tuple(str(j) for j in gripper['joints']),
                              positions, opening),
        task=str(spec.get('task', '')), text=str(spec.get('text', '')),
        outcomes=tuple(str(o) for o in spec.get('outcomes', ['success'])), fps=fps,
        max_age=float(spec.get('max_age', 1.0 / fps)),
        max_skew=float(spec.get('max_skew', 0.5 / fps)))


def checked_name(name: str, what: str) -> str:
    """`name`, which becomes part of file names; raises InputError for one that could leave a
    folder or hide."""
    if not NAME.fullmatch(name):
        raise InputError(what, expected='letters, digits, _ and - only', got=repr(name),
                         hint='It becomes part of file names.')
    return name


def _camera(name: str, spec: dict[str, Any]) -> CameraTopics:
    pose = spec.get('T_base_camera')
    T = None
    if pose is not None:
        T = se3.make(se3.matrix_from_quaternion(np.array(pose['rotation_xyzw'], float)),
                     np.array(pose['translation'], float))
    return CameraTopics(checked_name(name, 'name of a camera'), str(spec['color']),
                        str(spec['depth']), str(spec['info']), T)


def _pair(values: Any) -> tuple[float, float]:
    first, second = values
    return float(first), float(second)
