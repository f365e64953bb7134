# SPDX-License-Identifier: Apache-2.0
"""Where the cameras of a cell stand: fixed ones, or random ones on a shell around the scene."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError

FIXED, SHELL_TRAIN, SHELL_HELDOUT = 'fixed', 'shell-train', 'shell-heldout'
SHELL_ANY = 'shell-any'
CAMERA_SETS = (FIXED, SHELL_TRAIN, SHELL_HELDOUT, SHELL_ANY)
TRAIN, HELDOUT = 12, 4  # poses on the shell; the protocol of 4DGen
CLEARANCE = 0.1  # m that places anywhere on the shell keep from those held out
_DISTANCE = (0.7, 1.2)  # m from the centre
_FOVY = np.radians(50.0)  # the gripper at home stays in the picture of the nearest camera
_POSES, _CHOICE = 2026, 2027  # streams of random numbers apart from those of the objects


@dataclass(frozen=True)
class CameraPose:
    """A camera at rest: position and the point it looks at in the base frame (m), vertical field of
    view in rad."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    fovy: float

    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) of the optical frame (x right, y down, z forward) in the base frame."""
        z = np.subtract(self.target, self.position)
        z = z / np.linalg.norm(z)
        x = np.cross(z, (0.0, 0.0, 1.0))
        x = x / np.linalg.norm(x)
        return np.column_stack([x, np.cross(z, x), z])


@dataclass(frozen=True)
class Shell:
    """Where random cameras stand, 0.7 to 1.2 m from `centre` (m, base frame), at which they look.

    azimuth (from x towards y) and elevation: least and greatest, rad. They leave out where the
    robot would stand in the way and what the scene hides.
    """

    centre: tuple[float, float, float]
    azimuth: tuple[float, float]
    elevation: tuple[float, float] = (np.radians(15.0), np.radians(60.0))

    def poses(self) -> tuple[CameraPose, ...]:
        """The 16 cameras, the same each time: 12 to train with, then 4 held out."""
        rng = np.random.default_rng(_POSES)
        return tuple(self.pose(rng) for _ in range(TRAIN + HELDOUT))

    def pose(self, rng: np.random.Generator) -> CameraPose:
        """A camera anywhere on the shell."""
        distance = rng.uniform(*_DISTANCE)
        azimuth = rng.uniform(*self.azimuth)
        sine = rng.uniform(*np.sin(self.elevation))  # even over the surface
        cosine = np.sqrt(1.0 - sine**2)
        direction = np.array([cosine * np.cos(azimuth), cosine * np.sin(azimuth), sine])
        x, y, z = (self.centre + distance * direction).tolist()
        return CameraPose((x, y, z), self.centre, _FOVY)


def checked_set(name: str) -> str:
    """The name of a set of cameras. Raises InputError for an unknown one."""
    if name not in CAMERA_SETS:
        raise InputError('set of cameras', expected=f'one of {list(CAMERA_SETS)}', got=repr(name))
    return name


def choose(name: str, fixed: Mapping[str, CameraPose], shell: Shell,
           seed: int) -> dict[str, CameraPose]:
    """The poses of all cameras of a cell, by name.

    A shell's cameras bear the names of the fixed ones; where they stand depends on the seed: at two
    of the places to train with or of those held out, or anywhere but there.
    """
    if name == FIXED:
        return dict(fixed)
    rng = np.random.default_rng([seed, _CHOICE])
    poses = shell.poses()
    if name == SHELL_ANY:
        return {camera: _apart_from(poses[TRAIN:], shell, rng) for camera in fixed}
    poses = poses[:TRAIN] if name == SHELL_TRAIN else poses[TRAIN:]
    drawn = rng.choice(len(poses), len(fixed), replace=False)
    return {camera: poses[i] for camera, i in zip(fixed, drawn, strict=True)}


def _apart_from(others: Sequence[CameraPose], shell: Shell,
                rng: np.random.Generator) -> CameraPose:
    while True:
        pose = shell.pose(rng)
        if all(math.dist(pose.position, other.position) > CLEARANCE for other in others):
            return pose
