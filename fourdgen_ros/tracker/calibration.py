# SPDX-License-Identifier: Apache-2.0
"""Depth scale per view from frame 0, where the robot's kinematics tell the true pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.frames import FrameView, inside_image
from fourdgen_ros.tracker.registration import facing

Array = NDArray[np.float64]

MIN_POINTS = 12
DEAD_BAND = 0.005
LARGEST = 0.15
SAME_SURFACE = 0.015


def depth_scale(points: Array, normals: Array, view: FrameView, pose: Array) -> float:
    """Factor on the depths of `view` that puts them onto the model at the known pose T_ref_tcp.

    points, normals (n, 3) in the TCP frame. 1 when it is within 0.5 % of 1 or cannot be told.
    """
    T = view.camera.T_cam_ref @ pose
    Y = se3.apply(T, points)
    col, row, use = inside_image(view.camera, Y)
    use &= facing(Y, normals @ T[:3, :3].T, np.zeros(3))
    use &= (view.mask[row, col] > 0.5) & (view.trust[row, col] > 0.5)
    return common_scale(Y[use, 2] / view.depth[row[use], col[use]])


def common_scale(ratio: Array) -> float:
    """What most of the ratios (n,) of expected to measured depth have in common; 1 as above."""
    ratio = ratio[np.abs(ratio - 1.0) < LARGEST]
    if len(ratio) < MIN_POINTS:
        return 1.0
    # The second median leaves out what belongs to other surfaces.
    scale = float(np.median(ratio))
    near = ratio[np.abs(ratio / scale - 1.0) < SAME_SURFACE]
    if not len(near):  # half on one surface, half on another
        return 1.0
    scale = float(np.median(near))
    return scale if abs(scale - 1.0) > DEAD_BAND else 1.0
