# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `execution`."""

from __future__ import annotations

from fourdgen_ros.motion.modes import ExecutionMode
from fourdgen_ros.motion.robot import GRIPPER_ACTIONS
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.planners import declare_planning

# Of SafetyLimits: default, least, greatest, description.
LIMITS = {
    'velocity_scaling': (0.1, 0.01, 1.0, 'share of the robot\'s joint velocities that is used'),
    'acceleration_scaling': (0.1, 0.01, 1.0, 'share of the robot\'s joint accelerations'),
    'tcp_speed': (0.25, 0.001, 2.0, 'greatest speed of the tool centre point [m/s]'),
    'max_age': (30.0, 0.1, 600.0, 'greatest age of a trajectory\'s observation [s]'),
    'plan_lifetime': (30.0, 0.1, 600.0, 'how long a plan may be started [s]'),
    'min_confidence': (0.2, 0.0, 1.0, 'least tracking confidence of a pose that is followed'),
    'min_fraction': (0.5, 0.0, 1.0, 'least share of the path that must be reachable'),
    'start_distance': (0.03, 0.0, 0.2, 'between the tracked start and the robot [m]'),
    'start_angle': (0.35, 0.0, 3.2, 'between the tracked start and the robot [rad]'),
    'start_joints': (0.01, 0.0, 0.2, 'between a motion\'s start and the robot, per joint [rad]'),
}


def declare_execution(node: StageNode) -> None:
    """Declare all of them."""
    node.parameter('robot', 'panda', 'robot: the name of a file in config/robots')
    node.parameter(
        'execution_mode', 'dry_run', 'dry_run: nothing is ever sent; confirm: every plan needs '
        'confirm_plan with its id; auto: plans are executed on request',
        choices=[mode.value for mode in ExecutionMode])
    for name, (default, low, high, description) in LIMITS.items():
        node.parameter(name, default, description, low=low, high=high)
    node.parameter('joint_state_timeout', 0.5, 'no joint states for this long stop the robot '
                                               '[s]', low=0.05, high=5.0)
    node.parameter(
        'heartbeat_timeout', 1.0, 'no `heartbeat` for this long stops the robot, and no motion '
        'begins without one; 0: no heartbeat is asked for [s]', low=0.0, high=10.0)
    node.parameter('deviation_distance', 0.03, 'a motion is stopped when the measured tool is '
                   'further than this from the plan; 0: any distance [m]', low=0.0, high=1.0)
    node.parameter('deviation_angle', 0.35, 'a motion is stopped when the measured tool is '
                   'turned by more than this against the plan; 0: any angle [rad]',
                   low=0.0, high=3.2)
    node.parameter('deviation_lag', 0.3, 'how much earlier or later than planned the tool may '
                   'be somewhere before that counts [s]', low=0.0, high=60.0)
    declare_planning(node)
    node.parameter('arm_action', '', 'FollowJointTrajectory action of the arm controller; '
                   'empty: that of the robot file')
    node.parameter('gripper_action', '', 'action of the gripper controller; empty: that of '
                   'the robot file')
    node.parameter('gripper_action_type', '', 'type of the gripper action, of control_msgs; '
                   'empty: that of the robot file', choices=['', *GRIPPER_ACTIONS])
    node.parameter('execute_action', '', 'action of move_group that passes arm motions on; '
                   'empty: they go to arm_action directly')
    node.parameter('time_factor', 1.5, 'an arm motion may take this many times its '
                                       'duration ...', low=1.0, high=10.0)
    node.parameter('time_margin', 3.0, '... and this much more [s]', low=0.1, high=60.0)
    node.parameter('gripper_timeout', 5.0, 'time limit of a gripper command [s]',
                   low=0.1, high=60.0)
