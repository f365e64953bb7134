# SPDX-License-Identifier: Apache-2.0
"""The planner of the execution node, by its parameters."""

from __future__ import annotations

import rclpy
from rclpy.wait_for_message import wait_for_message
from std_msgs.msg import String

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.motion.base import Planner
from fourdgen_ros.motion.kinematics import ForwardKinematics
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.motion.safety import SafetyLimits
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import LATCHED

PLANNERS = ('embedded', 'move_group', 'moveit_py')


def declare_planning(node: StageNode) -> None:
    """Declare the parameters of `make_planner`."""
    node.parameter(
        'planner', PLANNERS[0], 'embedded: in this process, for robots with URDF and SRDF in their '
        'file; move_group: a running move_group; moveit_py: MoveItPy in a process of its own',
        choices=PLANNERS)
    node.parameter('moveit_timeout', 10.0, 'for one answer of MoveIt, and for the topic '
                   'robot_description [s]', low=0.1, high=120.0)
    node.parameter('moveit_max_step', 0.01, 'greatest distance between two inverse kinematics of '
                   'MoveIt [m]', low=0.001, high=0.05)
    node.parameter('moveit_params_file', '', 'YAML file with the parameters of MoveItPy; for '
                   'planner moveit_py')


def make_planner(node: StageNode, robot: RobotConfig, limits: SafetyLimits) -> Planner:
    """Build the planner that the parameters of `node` name. What it started ends with it."""
    kind, timeout = node.value('planner'), node.value('moveit_timeout')
    if kind == 'embedded':
        from fourdgen_ros.motion.embedded import EmbeddedPlanner

        return EmbeddedPlanner(robot, limits)
    from fourdgen_ros.motion.moveit import MoveItPlanner

    kinematics = make_kinematics(node, robot)
    if kind == 'move_group':
        from fourdgen_ros.nodes.move_group import MoveGroup

        moveit = MoveGroup(node, timeout=timeout)
    else:
        from fourdgen_ros.nodes.moveit_py import MoveItPyProcess
        from fourdgen_ros.nodes.moveit_py_worker import WorkerOptions

        moveit = MoveItPyProcess(WorkerOptions(params_file=node.value('moveit_params_file')),
                                 timeout=timeout)
    return MoveItPlanner(robot, limits, moveit=moveit, kinematics=kinematics,
                         max_step=node.value('moveit_max_step'))


def make_kinematics(node: StageNode, robot: RobotConfig) -> ForwardKinematics:
    """Forward kinematics from the robot's file, or from the topic `robot_description`."""
    urdf = (robot.existing('urdf').read_text() if robot.urdf is not None
            else robot_description(node, node.value('moveit_timeout')))
    return ForwardKinematics(robot, urdf)


def robot_description(node: StageNode, timeout: float) -> str:
    """URDF from the topic `robot_description`, which robot_state_publisher latches.

    `node` need not be spinning. Raises InputError when nothing comes within `timeout` s.
    """
    topic = node.resolve_topic_name('robot_description')
    # A node of its own: what an executor spins would take the message away. The command line is
    # not for it: with `__node:=` it would have the name of `node`, and take its /rosout along.
    listener = rclpy.create_node('_description', context=node.context, use_global_arguments=False,
                                 enable_rosout=False, start_parameter_services=False)
    try:
        found, message = wait_for_message(String, listener, topic, qos_profile=LATCHED,
                                          time_to_wait=timeout)
    finally:
        listener.destroy_node()
    if not found:
        raise InputError(f'topic {topic}', expected='the robot\'s URDF',
                         got=f'nothing within {timeout:g} s',
                         hint='Start robot_state_publisher, or name a file as `urdf` in the robot '
                              'file.')
    return message.data
