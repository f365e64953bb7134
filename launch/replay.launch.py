# SPDX-License-Identifier: Apache-2.0
"""The four stages on a recorded bag instead of cameras and robot; nothing can move."""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EqualsSubstitution, LaunchConfiguration
from launch_ros.actions import Node, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

from fourdgen_ros.core.paths import require_path


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, start a player and include robot.launch.py."""
    # 1. Directories and launch configurations.
    share = get_package_share_directory('fourdgen_ros')
    config_dir = os.path.join(share, 'config')
    bag = LaunchConfiguration('bag')
    rate = LaunchConfiguration('rate')
    player = LaunchConfiguration('player')
    wait_for_subscribers = LaunchConfiguration('wait_for_subscribers')
    params_file = LaunchConfiguration('params_file')
    model = LaunchConfiguration('model')
    autostart = LaunchConfiguration('autostart')
    log_level = LaunchConfiguration('log_level')

    # 2. Arguments.
    declare_bag = DeclareLaunchArgument(
        'bag', default_value='', description='Folder of the bag; there is no default')
    declare_rate = DeclareLaunchArgument(
        'rate', default_value='1.0', description='Seconds of the bag per second')
    declare_player = DeclareLaunchArgument(
        'player', default_value='fourdgen', choices=['fourdgen', 'ros2bag'],
        description='fourdgen: our node, which waits for the stages and works without apt; '
                    'ros2bag: `ros2 bag play`, which begins at once')
    declare_wait_for_subscribers = DeclareLaunchArgument(
        'wait_for_subscribers', default_value='120.0',
        description='How long our player waits for the generator before it begins, in s')
    declare_params_file = DeclareLaunchArgument(
        'params_file', default_value=os.path.join(config_dir, 'replay.yaml'),
        description='Parameters of the recorded cell, loaded after config/<node>.yaml')
    declare_model = DeclareLaunchArgument(
        'model', default_value='', description='Folder of the model; empty: the bundled one')
    declare_autostart = DeclareLaunchArgument(
        'autostart', default_value='true', choices=['true', 'false'],
        description='true: the stages configure and activate themselves; false: they stay '
                    'unconfigured until somebody does, as `ros2 lifecycle set` can')
    declare_log_level = DeclareLaunchArgument(
        'log_level', default_value='info', description='Log level of all nodes')

    # 3. Before anything starts.
    def look(context: LaunchContext) -> None:
        require_path(context.launch_configurations, 'params_file')
        require_path(context.launch_configurations, 'bag', folder=True)
        if model.perform(context):
            require_path(context.launch_configurations, 'model', folder=True)

    check = OpaqueFunction(function=look)

    # 4. The player. It makes the time of all others, so it has the system's.
    play = GroupAction([
        SetParameter('use_sim_time', False),
        Node(package='fourdgen_ros', executable='player', name='player', namespace='/',
             output='screen',
             parameters=[os.path.join(config_dir, 'player.yaml'), params_file,
                         {'bag': ParameterValue(bag, value_type=str),
                          'rate': ParameterValue(rate, value_type=float), 'publish_clock': True,
                          'wait_for_subscribers': ParameterValue(
                              wait_for_subscribers, value_type=float)}],
             arguments=['--ros-args', '--log-level', log_level, '--enclave', '/fourdgen/player'],
             sigterm_timeout='15'),
    ], condition=IfCondition(EqualsSubstitution(player, 'fourdgen')))
    ros2_bag_play = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', bag, '--rate', rate, '--clock', '100',
             '--disable-keyboard-controls', '--exclude-topics', '/future', '/gripper_trajectory',
             '/plan', '/diagnostics'],
        output='screen', condition=IfCondition(EqualsSubstitution(player, 'ros2bag')))

    # 5. The stages, as on a robot, but what they plan is never sent.
    stages = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'robot.launch.py')),
        launch_arguments={
            'use_sim_time': 'true', 'params_file': params_file, 'generator': 'tiny',
            'model': model, 'execution_mode': 'dry_run', 'autostart': autostart,
            'log_level': log_level}.items())

    # 6. All of it.
    ld = LaunchDescription()
    ld.add_action(declare_bag)
    ld.add_action(declare_rate)
    ld.add_action(declare_player)
    ld.add_action(declare_wait_for_subscribers)
    ld.add_action(declare_params_file)
    ld.add_action(declare_model)
    ld.add_action(declare_autostart)
    ld.add_action(declare_log_level)
    ld.add_action(check)
    ld.add_action(play)
    ld.add_action(ros2_bag_play)
    ld.add_action(stages)
    return ld
