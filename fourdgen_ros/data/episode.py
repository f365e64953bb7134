# SPDX-License-Identifier: Apache-2.0
"""A demonstration at a constant rate: what stands between all sources and all data sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data.mapping import checked_name

COLOUR, DEPTH, GRIPPER = 'colour', 'depth', 'gripper'
STILL = 1e-3  # m or rad that a camera that stands still may move by


@dataclass(frozen=True)
class CameraModel:
    """Name and size of a camera's images; depth is stored as uint16 mm or float32 m."""

    name: str
    height: int
    width: int
    depth_unit: str = 'mm'


@dataclass(frozen=True, eq=False)
class Episode:
    """All of a demonstration but its pictures: T records, V cameras, the first the reference.

    stamps (T, V) int64 ns, when each camera's image was taken; K (V, 3, 3); T_base_camera
    (T, V, 4, 4); tcp (T, 4, 4) in the base frame, opening (T,) m and joints (T, J) at the stamps of
    the reference camera. `source` names where it comes from; `task` is the name that generators
    know, `text` the instruction in words. `has_masks`: gripper masks were recorded too.
    """

    source: str
    task: str
    text: str
    outcome: str
    fps: int
    cameras: tuple[CameraModel, ...]
    stamps: NDArray[np.int64]
    K: NDArray[np.float64]
    T_base_camera: NDArray[np.float64]
    tcp: NDArray[np.float64]
    opening: NDArray[np.float64]
    joints: NDArray[np.float64]
    joint_names: tuple[str, ...]
    has_masks: bool = False

    def __post_init__(self) -> None:
        T, V = self.stamps.shape
        for camera in self.cameras:
            checked_name(camera.name, f'camera of {self.source}')
        shapes = {'K': (V, 3, 3), 'T_base_camera': (T, V, 4, 4), 'tcp': (T, 4, 4), 'opening': (T,),
                  'joints': (T, len(self.joint_names))}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise InputError(f'{name} of {self.source}', expected=f'{shape}, finite',
                                 got=f'{value.shape}')
        if T < 2 or len(self.cameras) != V:
            raise InputError(self.source, expected='at least 2 records of every camera',
                             got=f'{T} records, {V} of {len(self.cameras)} cameras')
        if not (se3.is_rigid(self.tcp) and se3.is_rigid(self.T_base_camera)):
            raise InputError(f'poses of {self.source}', expected='rigid transforms', got='others')

    def __len__(self) -> int:
        return len(self.stamps)


@dataclass(frozen=True, eq=False)
class Picture:
    """One image of record `record`: colour (H, W, 3) uint8, depth (H, W) uint16 mm or float32 m, or
    gripper (H, W) bool. Pictures of one kind and camera come in the order of the records."""

    kind: str
    camera: int
    record: int
    values: NDArray
