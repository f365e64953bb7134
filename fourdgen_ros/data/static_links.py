# SPDX-License-Identifier: Apache-2.0
"""What /tf_static of a bag says, and whether it is true for all of the bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3

Pose = NDArray[np.float64]
_SAME = 1e-3  # m or rad by which a link may differ and be the same


@dataclass(frozen=True, eq=False)
class Link:
    """Pose (4, 4) of a frame in its parent."""

    parent: str
    pose: Pose

    def is_like(self, other: Link) -> bool:
        """Whether the parent is the same, and the pose within 1 mm and 1 mrad."""
        return self.parent == other.parent and max(se3.distance(self.pose, other.pose)) <= _SAME

    def __str__(self) -> str:
        position = np.round(self.pose[:3, 3], 4).tolist()
        turn = np.round(se3.quaternion_from_matrix(self.pose[:3, :3]), 4).tolist()
        return f'in {self.parent} at {position} m, rotation_xyzw {turn}'


class StaticLinks:
    """Links by their child frames: those that change, and those that are on /tf too."""

    def __init__(self) -> None:
        self.changes: dict[str, tuple[Link, Link]] = {}  # what was said first, what was later
        self._links: dict[str, Link] = {}
        self._on_tf: dict[str, bool] = {}  # whether it is the same there

    def add(self, child: str, link: Link) -> None:
        """Note what /tf_static says."""
        first = self._links.setdefault(child, link)
        if not first.is_like(link):
            self.changes.setdefault(child, (first, link))

    def compare(self, child: str, link: Link) -> None:
        """Note what /tf says of a frame, which may be one of /tf_static."""
        if child in self._links:
            self._on_tf[child] = self._on_tf.get(child, True) and self._links[child].is_like(link)

    def repeated(self) -> Iterator[tuple[str, Link]]:
        """The links that /tf only repeats: drivers publish there now and then what is static."""
        return ((child, self._links[child]) for child, same in self._on_tf.items() if same)
