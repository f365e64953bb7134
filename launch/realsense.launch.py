# SPDX-License-Identifier: Apache-2.0
"""RealSense cameras with the names, topics and profiles that the generator expects."""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushROSNamespace

from fourdgen_ros.core.paths import require_path


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start one realsense2_camera node per camera."""
    # 1. Directories and launch configurations.
    config_dir = os.path.join(get_package_share_directory('fourdgen_ros'), 'config')
    namespace = LaunchConfiguration('namespace')
    cameras = LaunchConfiguration('cameras')
    serial_numbers = LaunchConfiguration('serial_numbers')
    params_file = LaunchConfiguration('params_file')
    hardware_sync = LaunchConfiguration('hardware_sync')
    log_level = LaunchConfiguration('log_level')

    # 2. Under a namespace, its own robot.
    remappings = [('/tf', 'tf'), ('/tf_static', 'tf_static')]

    # 3. Arguments.
    declare_namespace = DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of all cameras')
    declare_cameras = DeclareLaunchArgument(
        'cameras', default_value='cam_left cam_right',
        description='Names of the cameras, as the generator\'s parameter cameras has them')
    declare_serial_numbers = DeclareLaunchArgument(
        'serial_numbers', default_value='',
        description='Serial numbers in the order of the cameras: "831612073525 _831612074321", '
                    'with or without the underscore; empty: whatever is found (one camera only)')
    declare_params_file = DeclareLaunchArgument(
        'params_file', default_value=os.path.join(config_dir, 'cameras', 'realsense_d435.yaml'),
        description='Parameters of all cameras')
    declare_hardware_sync = DeclareLaunchArgument(
        'hardware_sync', default_value='false', choices=['true', 'false'],
        description='The cameras are joined by a sync cable: the first is the master')
    declare_log_level = DeclareLaunchArgument(
        'log_level', default_value='info', description='Log level of all cameras')

    # 4. Nodes.
    def start(context: LaunchContext) -> list[Node]:
        require_path(context.launch_configurations, 'params_file')
        names, serials = cameras.perform(context).split(), serial_numbers.perform(context).split()
        if not names or any(len(set(given)) < len(given) for given in (names, serials)):
            raise ValueError(
                f'cameras and serial_numbers: expected one or more, each another, got '
                f'{" ".join(names)!r} and {" ".join(serials)!r}')
        if len(serials) != len(names) and (serials or len(names) > 1):
            raise ValueError(
                f'serial_numbers: expected {len(names)}, one per camera, got {len(serials)}; '
                f'`rs-enumerate-devices -s` lists them')
        nodes = []
        for i, name in enumerate(names):
            settings = {'camera_name': name}
            if serials:
                # The driver strips the underscore; without it digits would become an integer.
                settings['serial_no'] = f'_{serials[i].removeprefix("_")}'
            if hardware_sync.perform(context) == 'true':
                settings['depth_module.inter_cam_sync_mode'] = 1 if i == 0 else 2
            nodes.append(Node(
                package='realsense2_camera', executable='realsense2_camera_node', name=name,
                namespace='', output='screen', parameters=[params_file, settings],
                remappings=remappings,
                arguments=['--ros-args', '--log-level', log_level, '--enclave',
                           '/fourdgen/cameras']))
        return nodes

    group = GroupAction([PushROSNamespace(namespace), OpaqueFunction(function=start)])

    # 5. All of it.
    ld = LaunchDescription()
    ld.add_action(declare_namespace)
    ld.add_action(declare_cameras)
    ld.add_action(declare_serial_numbers)
    ld.add_action(declare_params_file)
    ld.add_action(declare_hardware_sync)
    ld.add_action(declare_log_level)
    ld.add_action(group)
    return ld
