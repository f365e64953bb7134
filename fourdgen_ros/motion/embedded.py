# SPDX-License-Identifier: Apache-2.0
"""Planner that runs in this process: roboplan for the path, Pinocchio and Coal for the checks."""

from __future__ import annotations

from fourdgen_ros.motion.cartesian import CartesianFollower
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.motion.planner import PathSettings, TrajectoryPlanner
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.motion.safety import SafetyLimits


class EmbeddedPlanner(TrajectoryPlanner):
    """Plans without ROS and without MoveIt."""

    def __init__(self, robot: RobotConfig, limits: SafetyLimits | None = None,
                 settings: PathSettings | None = None) -> None:
        model = RobotModel(robot)
        super().__init__(robot, limits, settings, follower=CartesianFollower(robot),
                         kinematics=model, bodies=model)
