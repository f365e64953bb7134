# SPDX-License-Identifier: Apache-2.0
"""What the moveit_py process takes from MoveIt and its messages. Imported only there."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Pose
from moveit.core.robot_trajectory import RobotTrajectory
from moveit_msgs.msg import CollisionObject
from moveit_msgs.msg import RobotTrajectory as RobotTrajectoryMsg
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from fourdgen_ros.motion.robot import SceneBox
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.move_group import collision_object as box_message
from fourdgen_ros.nodes.move_group import moveit_msgs

__all__ = ['RobotTrajectory', 'collision_object', 'pose', 'read_trajectory', 'trajectory_message']
Array = NDArray[np.float64]


def collision_object(box: SceneBox, frame: str) -> CollisionObject:
    """The message of an obstacle."""
    return box_message(moveit_msgs().msg, box, frame)


def pose(T: Array) -> Pose:
    """The message of (4, 4)."""
    return conversions.matrix_to_pose(T)


def trajectory_message(joints: tuple[str, ...], positions: Array) -> RobotTrajectoryMsg:
    """A path (n, J) without times."""
    return RobotTrajectoryMsg(joint_trajectory=JointTrajectory(
        joint_names=list(joints),
        points=[JointTrajectoryPoint(positions=q.tolist()) for q in positions]))


def read_trajectory(message: RobotTrajectoryMsg) -> tuple[tuple[str, ...], Array, Array, Array]:
    """Joints (J), times (n,) s, positions and velocities (n, J) of a timed path."""
    points = message.joint_trajectory.points
    return (tuple(message.joint_trajectory.joint_names),
            np.array([conversions.duration_to_seconds(p.time_from_start) for p in points]),
            np.array([p.positions for p in points], float),
            np.array([p.velocities for p in points], float))
