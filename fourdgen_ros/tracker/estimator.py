# SPDX-License-Identifier: Apache-2.0
"""What finds one rigid object in one RGB-D image, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.tracker.gripper_model import GripperModel

Array = NDArray[np.float64]

EXTENT = (0.01, 1.0)
FARTHEST = 20.0
MIN_VALID = 4
ENLARGED_BELOW, ENLARGEMENT = 480, 3


@dataclass(frozen=True, eq=False)
class ObjectImage:
    """One image of one camera: rgb (H, W, 3) uint8 in the order RGB, depth (H, W) float32 m along
    the optical axis with 0 for unknown, K (3, 3) px, mask (H, W) bool of the object."""

    camera: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: Array
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        h, w = self.depth.shape if self.depth.ndim == 2 else (0, 0)
        for name, value, dtype, shape in (
                ('rgb', self.rgb, np.uint8, (h, w, 3)), ('depth', self.depth, np.float32, (h, w)),
                ('mask', self.mask, np.bool_, (h, w)), ('K', self.K, np.float64, (3, 3))):
            if value.dtype != dtype or value.shape != shape or not value.size:
                self._refuse(name, f'{np.dtype(dtype)} {shape}', f'{value.dtype} {value.shape}')
        if not np.isfinite(self.depth).all() or self.depth.min() < 0.0:
            self._refuse('depth', 'metres, 0 for unknown', 'values that are negative or not finite')
        known = self.depth[self.depth > 0.0]
        if len(known) and np.median(known) > FARTHEST:  # a few may well be that far
            self._refuse('depth', f'most of it within {FARTHEST:g} m',
                         f'a median of {np.median(known):g}', 'Is it in millimetres?')
        fx, fy = self.K[0, 0], self.K[1, 1]
        last = self.K[2].tolist() == [0.0, 0.0, 1.0]
        centred = 0.0 <= self.K[0, 2] < w and 0.0 <= self.K[1, 2] < h
        if not (np.isfinite(self.K).all() and fx > 0 and fy > 0 and last and centred):
            self._refuse('K', f'intrinsics in px of an image of {w} x {h}', str(self.K.tolist()),
                         'K is scaled with every resize and crop.')

    def _refuse(self, what: str, expected: str, got: str, hint: str = '') -> None:
        raise InputError(f'{what} of camera {self.camera!r}', expected=expected, got=got, hint=hint)

    @property
    def valid(self) -> int:
        """Number of pixels of the object that have depth."""
        return int(np.count_nonzero(self.mask & (self.depth > 0.0)))

    def enlarged(self, factor: int) -> ObjectImage:
        """The same with every pixel `factor` x `factor` times; K follows."""
        K = self.K * np.array([[factor], [factor], [1.0]])
        K[:2, 2] += 0.5 * (factor - 1)  # pixel centres are at integers

        def repeated(image: NDArray) -> NDArray:
            return image.repeat(factor, axis=0).repeat(factor, axis=1)

        return ObjectImage(self.camera, repeated(self.rgb), repeated(self.depth), K,
                           repeated(self.mask))


    def large_enough(self) -> ObjectImage:
        """The image, enlarged when it is small.

        FoundationPose drops a depth unless a fifth of the 5 x 5 pixels about it lie within 1 mm. In
        a small image neighbours on a slope are centimetres apart and little would be left; three
        equal pixels in a row always pass.
        """
        return self.enlarged(ENLARGEMENT) if len(self.depth) < ENLARGED_BELOW else self


@dataclass(frozen=True, eq=False)
class GripperObject:
    """A gripper as one rigid mesh (metres) whose origin is the middle of its bounding box.

    T_tcp_object (4, 4) is where that lies in the TCP frame; `symmetries` (S, 4, 4) are the turns
    that leave the object alike, identity first, in its own frame.
    """

    mesh: trimesh.Trimesh
    T_tcp_object: Array
    symmetries: Array

    @cached_property
    def T_object_tcp(self) -> Array:
        """Inverse of `T_tcp_object`."""
        return se3.inverse(self.T_tcp_object)


def gripper_object(gripper: GripperModel, opening: float) -> GripperObject:
    """The gripper with its fingers `opening` m apart. Raises `InputError`."""
    low, high = gripper.opening_range
    if not low <= opening <= high:
        raise InputError(f'opening of the mesh of {gripper.name!r}', expected=f'{low} to {high} m',
                         got=f'{opening}')
    whole = gripper.mesh(opening)
    T = se3.make(translation=whole.bounds.mean(0))
    mesh = trimesh.Trimesh(se3.apply(se3.inverse(T), whole.vertices), whole.faces, process=False)
    checked_mesh(mesh, f'mesh of {gripper.name!r}')
    return GripperObject(mesh, T, se3.inverse(T) @ gripper.symmetries @ T)


def checked_mesh(mesh: trimesh.Trimesh, what: str) -> None:
    """Raise `InputError` unless the mesh has faces and is 0.01 to 1 m long."""
    if not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise InputError(what, expected='a triangle mesh', got=f'{len(mesh.faces)} faces')
    extent = float(np.max(mesh.extents))
    if not EXTENT[0] <= extent <= EXTENT[1]:
        raise InputError(what, expected=f'an extent of {EXTENT[0]:g} to {EXTENT[1]:g} m',
                         got=f'{extent:.4g}', hint='Meshes are in metres; one in millimetres is '
                         'to be scaled by 0.001.')


class PoseEstimator(Protocol):
    """Finds one object, known since it was made, in one image; keeps no pose between calls.

    Both raise `TrackingError` when there is no answer at all, after which the estimator is of no
    use any more if it says so.
    """

    def register(self, image: ObjectImage) -> Array | None:
        """T_camera_object (4, 4) from the mask alone; None when it is not found."""
        ...

    def track(self, image: ObjectImage, start: Array) -> Array | None:
        """T_camera_object (4, 4) near `start` (4, 4); None when it is not found."""
        ...

    def close(self) -> None:
        """End what it has started."""
        ...
