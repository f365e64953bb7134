# SPDX-License-Identifier: Apache-2.0
"""The meshes of a gripper and where they are, for a pose of the tool centre point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import gripper_folder

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HandPart:
    """One mesh (m): its pose (4, 4) in the TCP frame when the gripper is closed, and how far (3,)
    it moves there per metre of opening."""

    mesh: Path
    pose: Array
    direction: Array

    def at(self, T: Array, opening: float) -> Array:
        """Pose (4, 4) of the mesh with the TCP at T (4, 4) and the fingers `opening` m apart."""
        return T @ se3.make(None, opening * self.direction) @ self.pose


def load_hand(name: str) -> tuple[HandPart, ...]:
    """Parts of a gripper by its name or folder, see `gripper_folder`: its hand first, then its
    fingers."""
    folder = gripper_folder(name)
    try:
        spec = yaml.safe_load((folder / 'gripper.yaml').read_text(encoding='utf-8'))
        T_tcp_hand = se3.inverse(_transform(spec['tcp'], 'translation'))
        parts = [HandPart(folder / spec['hand_mesh'], T_tcp_hand, np.zeros(3))]
        for finger in spec['fingers']:
            axis = T_tcp_hand[:3, :3] @ np.asarray(finger['axis'], float)
            pose = T_tcp_hand @ _transform(finger, 'origin')
            parts.append(HandPart(folder / finger['mesh'], pose,
                                  0.5 * axis / np.linalg.norm(axis)))
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f'gripper {name!r}', expected='a complete gripper.yaml',
                         got=f'{type(error).__name__}: {error}',
                         hint='Compare it with assets/grippers/panda_hand/gripper.yaml.') from error
    return tuple(parts)


def _transform(spec: dict, translation: str) -> Array:
    rotation = se3.exp_so3(np.deg2rad(np.asarray(spec['rotation_vector'], float)))
    return se3.make(rotation, np.asarray(spec[translation], float))
