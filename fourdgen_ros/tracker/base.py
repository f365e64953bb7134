# SPDX-License-Identifier: Apache-2.0
"""What every tracker does."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.types import Future, GripperTrajectory


class Tracker(Protocol):
    """Finds the gripper in every frame of a future."""

    def track(self, future: Future, first_pose: NDArray[np.float64],
              first_opening: float | None) -> GripperTrajectory:
        """Pose, opening and confidence of the gripper per frame, in `future.frame_id`.

        first_pose is T_ref_tcp (4, 4) of the real robot at frame 0, by kinematics and camera
        extrinsics; first_opening is its opening in m, None if unknown. Raises `TrackingError` when
        the clip cannot be used at all and `InputError` when an argument is malformed.
        """
        ...

    def close(self) -> None:
        """End what the tracker has started; it is of no use any more."""
        ...
