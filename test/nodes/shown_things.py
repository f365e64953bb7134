# SPDX-License-Identifier: Apache-2.0
"""A small future, the path through it and a plan, as the stages would publish them."""

from __future__ import annotations

import time

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.types import (
    Future,
    GripperCommand,
    GripperTrajectory,
    JointTrajectory,
    MotionPlan,
)

CAMERAS = ('cam_left', 'cam_right')
REFERENCE = 'cam_left_color_optical_frame'
BASE = 'panda_link0'
FRAMES, H, W, DT = 3, 12, 16, 0.1
# 0.9 m above the table, looking down, its image's right side towards +x.
T_BASE_REF = se3.make(np.diag([1.0, -1.0, -1.0]), np.array([0.45, 0.0, 0.9]))


def future(stamp: int, dt: float = DT) -> Future:
    """Frame t is of one colour, 80 * t + 10 * view in red, and lies 0.1 * t m nearer; the first
    pixel of every image is invalid."""
    K = np.array([[14.0, 0.0, 7.5], [0.0, 14.0, 5.5], [0.0, 0.0, 1.0]])
    shape = (len(CAMERAS), FRAMES, H, W)
    rgb = np.zeros((*shape, 3), np.uint8)
    points = np.empty((*shape, 3), np.float32)
    for v in range(len(CAMERAS)):
        for t in range(FRAMES):
            rgb[v, t] = (80 * t + 10 * v, 40, 200)
            points[v, t] = pointmap(np.full((H, W), 0.9 - 0.1 * t, np.float32), K)
    valid = np.ones(shape, bool)
    valid[:, :, 0, 0] = False
    points[~valid] = np.nan
    return Future(rgb=rgb, points=points, valid=valid, gripper=np.zeros(shape, np.float32), dt=dt,
                  K=np.stack([K] * len(CAMERAS)), cameras=CAMERAS, stamp=stamp, generator='test',
                  frame_id=REFERENCE, frame_ids=(REFERENCE, 'zed_optical'))


def trajectory(stamp: int, dt: float = DT) -> GripperTrajectory:
    """From (0.4, 0, 0.3) 5 cm a frame along x, ever less sure; the gripper looks down."""
    down = np.diag([1.0, -1.0, -1.0])
    poses = np.stack([se3.make(down, np.array([0.4 + 0.05 * t, 0.0, 0.3])) for t in range(FRAMES)])
    return GripperTrajectory(poses, np.array([0.08, 0.05, 0.02]), np.array([1.0, 0.5, 0.0]),
                             dt * np.arange(FRAMES), BASE, stamp)


def plan(stamp: int, plan_id: str = 'p1', lifetime: float = 60.0) -> MotionPlan:
    """An arm motion along that path and a grasp."""
    joints = tuple(f'panda_joint{i}' for i in range(1, 8))
    q = np.linspace(0.0, 0.1, 4)[:, None] * np.ones((1, 7))
    motion = JointTrajectory(joints, np.linspace(0.0, 1.0, 4), q, np.zeros((4, 7)),
                             np.zeros((4, 7)))
    return MotionPlan(plan_id, (motion, GripperCommand(0.02)), {'workspace': 'inside'}, stamp,
                      time.monotonic_ns() + round(lifetime * 1e9), FRAMES, trajectory(stamp).poses)
