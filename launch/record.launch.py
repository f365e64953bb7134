# SPDX-License-Identifier: Apache-2.0
"""The recorder beside a running cell; its services start and stop episodes."""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushROSNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

from fourdgen_ros.core.paths import require_path


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the recorder."""
    # 1. Directories and launch configurations.
    config_dir = os.path.join(get_package_share_directory('fourdgen_ros'), 'config')
    namespace = LaunchConfiguration('namespace')
    use_sim_time = LaunchConfiguration('use_sim_time')
    params_file = LaunchConfiguration('params_file')
    cameras = LaunchConfiguration('cameras')
    output_folder = LaunchConfiguration('output_folder')
    backend = LaunchConfiguration('backend')
    log_level = LaunchConfiguration('log_level')

    # 2. As in robot.launch.py; what is set here wins over the files, where it is not empty.
    remappings = [('/tf', 'tf'), ('/tf_static', 'tf_static'), ('/joint_states', 'joint_states')]
    optional = {'cameras': cameras, 'output_folder': output_folder, 'backend': backend}

    # 3. Arguments.
    declare_namespace = DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the cell and of the recorder')
    declare_use_sim_time = DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take the time from /clock instead of the system clock')
    declare_params_file = DeclareLaunchArgument(
        'params_file', default_value=os.path.join(config_dir, 'robot.yaml'),
        description='Parameters of this cell, loaded after config/recorder.yaml')
    declare_cameras = DeclareLaunchArgument(
        'cameras', default_value='',
        description='Names of the cameras: "a b c"; empty: as params_file says')
    declare_output_folder = DeclareLaunchArgument(
        'output_folder', default_value='',
        description='Folder of the episodes; empty: as params_file says, else ~/episodes')
    declare_backend = DeclareLaunchArgument(
        'backend', default_value='', choices=['', 'python', 'ros2bag'],
        description='python: the node writes the bags; ros2bag: `ros2 bag record` does; empty: as '
                    'params_file says, else python')
    declare_log_level = DeclareLaunchArgument(
        'log_level', default_value='info', description='Log level of the recorder')

    # 4. The node.
    def start(context: LaunchContext) -> list[Node]:
        require_path(context.launch_configurations, 'params_file')
        given = {name: ParameterValue(value, value_type=str) for name, value in optional.items()
                 if value.perform(context)}
        if 'cameras' in given:
            given['cameras'] = cameras.perform(context).split()
        return [Node(
            package='fourdgen_ros', executable='recorder', name='recorder', output='screen',
            parameters=[os.path.join(config_dir, 'recorder.yaml'), params_file,
                        *([given] if given else [])],
            remappings=remappings,
            arguments=['--ros-args', '--log-level', log_level, '--enclave', '/fourdgen/recorder'],
            sigterm_timeout='60')]  # an episode under way is finished first

    recorder = GroupAction([
        PushROSNamespace(namespace),
        SetParameter('use_sim_time', use_sim_time),
        OpaqueFunction(function=start),
    ])

    # 5. All of it.
    ld = LaunchDescription()
    ld.add_action(declare_namespace)
    ld.add_action(declare_use_sim_time)
    ld.add_action(declare_params_file)
    ld.add_action(declare_cameras)
    ld.add_action(declare_output_folder)
    ld.add_action(declare_backend)
    ld.add_action(declare_log_level)
    ld.add_action(recorder)
    return ld
