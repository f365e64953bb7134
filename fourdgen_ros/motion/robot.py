# SPDX-License-Identifier: Apache-2.0
"""What motion needs to know about a robot cell, read from config/robots/<name>.yaml."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory

_PACKAGE = Path(__file__).resolve().parents[1]
Array = NDArray[np.float64]
Bound = tuple[float | None, float | None, float | None]
WIDEST = 0.5  # m between finger pads; more is another unit
GRIPPER_ACTIONS = ('GripperCommand', 'ParallelGripperCommand')


@dataclass(frozen=True)
class Workspace:
    """Box in the base frame (m) in which the tool centre point may be; None leaves a side open."""

    min: Bound = (None, None, None)
    max: Bound = (None, None, None)

    def __post_init__(self) -> None:
        for axis, lo, hi in zip('xyz', self.min, self.max, strict=True):
            if lo is not None and hi is not None and not lo < hi:
                raise InputError(f'workspace {axis}', expected='min < max', got=f'{lo} and {hi}')

    def excess(self, points: Array) -> Array:
        """How far (n, 3) points lie outside, per axis x, y, z: (n, 3) m, 0 inside."""
        out = np.zeros_like(points)
        for i in range(3):
            lo, hi = self.min[i], self.max[i]
            if lo is not None:
                out[:, i] = np.maximum(out[:, i], lo - points[:, i])
            if hi is not None:
                out[:, i] = np.maximum(out[:, i], points[:, i] - hi)
        return out


@dataclass(frozen=True)
class SceneBox:
    """An obstacle in the base frame: full sizes and centre in m, axis aligned.

    `touches` names the links that may be in contact with it.
    """

    name: str
    size: tuple[float, float, float]
    position: tuple[float, float, float]
    touches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (np.isfinite(self.size).all() and min(self.size) > 0.0):
            raise InputError(f'size of scene box {self.name!r}', expected='3 lengths above 0 m',
                             got=str(self.size))
        if not np.isfinite(self.position).all():
            raise InputError(f'position of scene box {self.name!r}', expected='3 finite numbers',
                             got=str(self.position))


@dataclass(frozen=True)
class FingerTip:
    """Box around a closed finger's tip, from the tool centre point, in m.

    `reach` past it along the approach, `half_width` across, `thickness` in the opening direction.
    """

    reach: float
    half_width: float
    thickness: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value < np.inf:
                raise InputError(f'gripper tip {field.name}', expected='a length in m, 0 or more',
                                 got=str(value))

    def lowest(self, poses: Array, opening: float) -> Array:
        """Height (n,) of the lowest finger point for TCP poses (n, 4, 4) and an opening in m."""
        y = opening / 2.0 + self.thickness
        corners = np.array([[sx * self.half_width, sy * y, self.reach]
                            for sx in (-1, 1) for sy in (-1, 1)])
        return (poses[:, 2, 3:4] + poses[:, 2, :3] @ corners.T).min(axis=1)


@dataclass(frozen=True, kw_only=True)
class ControllerNames:
    """Actions of the arm's and the gripper's controller; the latter's type is of control_msgs."""

    arm_action: str
    gripper_action: str
    gripper_action_type: str

    def __post_init__(self) -> None:
        if self.gripper_action_type not in GRIPPER_ACTIONS:
            raise InputError('gripper_action_type', expected=f'one of {GRIPPER_ACTIONS}',
                             got=repr(self.gripper_action_type))


@dataclass(frozen=True, eq=False, kw_only=True)
class RobotConfig:
    """One arm with a parallel gripper in its cell.

    Joint arrays are (J,) in the order of `joints`: `lower`, `upper`, `home` rad, `velocity` rad/s,
    `acceleration` rad/s^2, `jerk` rad/s^3. `opening` is the least and the greatest distance between
    the finger pads (m), at which each of the finger joints is at the two `finger_positions` (rad or
    m); `open_to` the widest that its controller is told (m), `effort` the grasp force (N),
    `table_height` the height of the surface on which objects lie (m, None: no table). `group` is
    the arm's group in MoveIt; its tip must be able to carry `tcp_link`. `urdf` and `srdf` are
    files; None where the robot's own description is used.
    """

    name: str
    urdf: Path | None
    srdf: Path | None
    group: str
    base_link: str
    tcp_link: str
    joints: tuple[str, ...]
    home: Array
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array
    finger_joints: tuple[str, ...]
    opening: tuple[float, float]
    finger_positions: tuple[float, float]
    open_to: float
    effort: float
    controllers: ControllerNames
    tip: FingerTip
    workspace: Workspace = Workspace()
    table_height: float | None = None
    scene: tuple[SceneBox, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.joints)
        for name in ('home', 'lower', 'upper', 'velocity', 'acceleration', 'jerk'):
            value = getattr(self, name)
            if value.shape != (n,) or not np.isfinite(value).all():
                raise InputError(f'{name} of robot {self.name!r}', expected=f'{n} finite numbers',
                                 got=str(value.tolist()))
        for name in ('velocity', 'acceleration', 'jerk'):
            if not (getattr(self, name) > 0).all():
                raise InputError(f'{name} of robot {self.name!r}', expected='positive limits',
                                 got=str(getattr(self, name).tolist()))
        if not ((self.lower <= self.home) & (self.home <= self.upper)).all():
            raise InputError(f'home of robot {self.name!r}', expected='a pose within joint limits',
                             got=str(self.home.tolist()))
        named = (*self.joints, *self.finger_joints)
        if len(set(named)) < len(named) or not self.finger_joints:
            raise InputError(f'joints and gripper joints of robot {self.name!r}',
                             expected='each once, one of the gripper at least',
                             got=str(list(named)))
        if not 0.0 <= self.opening[0] < self.opening[1] <= WIDEST:
            raise InputError(f'gripper opening of robot {self.name!r}',
                             expected=f'0 <= min < max <= {WIDEST} m', got=str(self.opening))
        if not self.opening[0] < self.open_to <= self.opening[1]:
            raise InputError(f'gripper open_to of robot {self.name!r}',
                             expected=f'above {self.opening[0]} and at most {self.opening[1]} m',
                             got=str(self.open_to))
        if not 0.0 <= self.effort < np.inf:
            raise InputError(f'gripper effort of robot {self.name!r}',
                             expected='a force in N, 0 or more', got=str(self.effort))
        if self.table_height is not None and not np.isfinite(self.table_height):
            raise InputError(f'table_height of robot {self.name!r}',
                             expected='a height in m, or ~ where there is no table',
                             got=str(self.table_height))
        boxes = [box.name for box in self.scene]
        if len(set(boxes)) < len(boxes):  # a planning scene keeps the last of a name
            raise InputError(f'scene of robot {self.name!r}', expected='each name once',
                             got=str(boxes))
        if not 0.0 < abs(self.finger_positions[1] - self.finger_positions[0]) < np.inf:
            raise InputError(f'finger positions of robot {self.name!r}',
                             expected='two that differ, closed and open',
                             got=str(self.finger_positions))

    def finger_position(self, opening: float) -> float:
        """Position (rad or m) of each finger joint at an opening (m); linear in between."""
        share = (opening - self.opening[0]) / (self.opening[1] - self.opening[0])
        closed, opened = self.finger_positions
        return closed + share * (opened - closed)

    def opening_at(self, positions: Array) -> float:
        """Opening (m) at the positions (rad or m) of the finger joints, their mean."""
        closed, opened = self.finger_positions
        share = (float(np.mean(positions)) - closed) / (opened - closed)
        return self.opening[0] + share * (self.opening[1] - self.opening[0])

    def model_files(self) -> tuple[Path, Path]:
        """URDF and SRDF. Raises InputError when this robot has none of its own, or names files
        that are not there."""
        if self.urdf is None or self.srdf is None:
            raise InputError(f'URDF and SRDF of robot {self.name!r}',
                             expected='`urdf` and `srdf` in the robot file', got='none',
                             hint='The embedded planner needs them. Give paths, or set the '
                                  'parameter planner to move_group.')
        return self.existing('urdf'), self.existing('srdf')

    def existing(self, key: str) -> Path:
        """The file that `urdf` or `srdf` names. Raises InputError when there is none."""
        path: Path = getattr(self, key)
        if not path.is_file():
            raise InputError(f'{key} of robot {self.name!r}', expected='a file', got=str(path),
                             hint='Correct it in the robot file; a path that does not begin with / '
                                  'is below fourdgen_ros/assets.')
        return path

    @classmethod
    def from_yaml(cls, path: Path | str) -> RobotConfig:
        """Read a robot file. Raises InputError when it is missing or incomplete."""
        path = Path(path)
        if not path.is_file():
            there = sorted(file.stem for file in path.parent.glob('*.yaml'))
            raise InputError('robot file', expected='a YAML file', got=str(path),
                             hint=f'There are {", ".join(there) or "none"} in {path.parent}.')
        try:
            return cls._from_dict(yaml.safe_load(path.read_text(encoding='utf-8')))
        except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise InputError(f'robot file {path}', expected='the keys of config/robots/panda.yaml',
                             got=f'{type(error).__name__}: {error}',
                             hint='docs/robot.md tells what each key is.') from error

    @classmethod
    def named(cls, name: str) -> RobotConfig:
        """Read config/robots/<name>.yaml of this package, from source or installed."""
        return cls.from_yaml(share_directory() / 'config' / 'robots' / f'{name}.yaml')

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> RobotConfig:
        limits, gripper, workspace = data['limits'], data['gripper'], data['workspace']
        return cls(
            name=_name('name', data['name']), group=_name('group', data['group']),
            urdf=_asset(data['urdf']), srdf=_asset(data['srdf']),
            base_link=_name('base_link', data['base_link']),
            tcp_link=_name('tcp_link', data['tcp_link']),
            joints=_names('joints', data['joints']),
            home=np.array(data['home'], float),
            **{k: np.array(limits[k], float)
               for k in ('lower', 'upper', 'velocity', 'acceleration', 'jerk')},
            finger_joints=_names('gripper.joints', gripper['joints']),
            opening=_pair(gripper['opening']),
            open_to=float(gripper.get('open_to', _pair(gripper['opening'])[1])),
            finger_positions=_pair(gripper['positions']),
            controllers=ControllerNames(
                **{k: _name(k, v) for k, v in dict(data['controllers']).items()}),
            effort=float(gripper['effort']), tip=FingerTip(**gripper['tip']),
            workspace=Workspace(_bound(workspace['min']), _bound(workspace['max'])),
            table_height=None if data['table_height'] is None else float(data['table_height']),
            scene=tuple(SceneBox(_name('scene name', box['name']), _point(box['size']),
                                 _point(box['position']), _names('touches', box['touches']))
                        for box in data['scene']))


def _asset(path: str | None) -> Path | None:
    """Relative paths are below fourdgen_ros/assets."""
    return None if path is None else _PACKAGE / 'assets' / path


def _name(key: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f'`{key}` in the robot file', expected='a name', got=repr(value))
    return value


def _names(key: str, values: list[str]) -> tuple[str, ...]:
    # A single name is a sequence too: of its letters.
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise InputError(f'`{key}` in the robot file', expected='a list of names, [a, b]',
                         got=repr(values))
    return tuple(values)


def _pair(values: list[float]) -> tuple[float, float]:
    first, second = values
    return float(first), float(second)


def _point(values: list[float]) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)


def _bound(values: list[float | None]) -> Bound:
    x, y, z = (None if v is None else float(v) for v in values)
    return x, y, z
