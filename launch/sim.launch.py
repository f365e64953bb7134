# SPDX-License-Identifier: Apache-2.0
"""The simulated cell and the four stages; the executable `task_client` asks for a task."""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushROSNamespace
from launch_ros.parameter_descriptions import ParameterValue

from fourdgen_ros.core.paths import require_path


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, start the cell and include robot.launch.py."""
    # 1. Directories and launch configurations.
    share = get_package_share_directory('fourdgen_ros')
    config_dir = os.path.join(share, 'config')
    namespace = LaunchConfiguration('namespace')
    params_file = LaunchConfiguration('params_file')
    task = LaunchConfiguration('task')
    seed = LaunchConfiguration('seed')
    generator = LaunchConfiguration('generator')
    model = LaunchConfiguration('model')
    execution_mode = LaunchConfiguration('execution_mode')
    autostart = LaunchConfiguration('autostart')
    rviz = LaunchConfiguration('rviz')
    log_level = LaunchConfiguration('log_level')

    # 2. As in robot.launch.py.
    remappings = [('/tf', 'tf'), ('/tf_static', 'tf_static'), ('/joint_states', 'joint_states')]

    # 3. Arguments.
    declare_namespace = DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of all nodes')
    declare_params_file = DeclareLaunchArgument(
        'params_file', default_value=os.path.join(config_dir, 'sim.yaml'),
        description='Parameters that are loaded after config/<node>.yaml of every node')
    declare_task = DeclareLaunchArgument(
        'task', default_value='PlaceAppleFromBowlIntoBin', description='Scene of the cell')
    declare_seed = DeclareLaunchArgument(
        'seed', default_value='0', description='Seed that places the objects')
    declare_generator = DeclareLaunchArgument(
        'generator', default_value='tiny',
        description='tiny: a model; oracle: the true future from a copy of the cell; or your own '
                    'class, package.module:Class')
    declare_model = DeclareLaunchArgument(
        'model', default_value='', description='Folder of the model; empty: the bundled one')
    declare_execution_mode = DeclareLaunchArgument(
        'execution_mode', default_value='auto', choices=['dry_run', 'confirm', 'auto'],
        description='dry_run: nothing moves; confirm: each plan needs a call of confirm_plan; '
                    'auto: plans are executed on request')
    declare_autostart = DeclareLaunchArgument(
        'autostart', default_value='true', choices=['true', 'false'],
        description='true: the nodes configure and activate themselves; false: they stay '
                    'unconfigured until somebody does, as `ros2 lifecycle set` can')
    declare_rviz = DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Start RViz with rviz/fourdgen.rviz')
    declare_log_level = DeclareLaunchArgument(
        'log_level', default_value='info', description='Log level of all nodes')

    # 4. Before anything starts.
    def look(context: LaunchContext) -> None:
        require_path(context.launch_configurations, 'params_file')
        if model.perform(context):
            require_path(context.launch_configurations, 'model', folder=True)

    check = OpaqueFunction(function=look)

    # 5. The cell.
    cell = GroupAction([
        PushROSNamespace(namespace),
        Node(package='fourdgen_ros', executable='cell', name='cell', output='screen',
             parameters=[os.path.join(config_dir, 'cell.yaml'), params_file,
                         {'task': ParameterValue(task, value_type=str), 'seed': seed}],
             remappings=remappings,
             arguments=['--ros-args', '--log-level', log_level, '--enclave', '/fourdgen/cell'],
             sigterm_timeout='15'),
    ])

    # 6. The stages, as on a robot.
    stages = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'robot.launch.py')),
        launch_arguments={
            'namespace': namespace, 'params_file': params_file, 'generator': generator,
            'model': model, 'execution_mode': execution_mode, 'autostart': autostart,
            'rviz': rviz, 'log_level': log_level}.items())

    # 7. All of it.
    ld = LaunchDescription()
    ld.add_action(declare_namespace)
    ld.add_action(declare_params_file)
    ld.add_action(declare_task)
    ld.add_action(declare_seed)
    ld.add_action(declare_generator)
    ld.add_action(declare_model)
    ld.add_action(declare_execution_mode)
    ld.add_action(declare_autostart)
    ld.add_action(declare_rviz)
    ld.add_action(declare_log_level)
    ld.add_action(check)
    ld.add_action(cell)
    ld.add_action(stages)
    return ld
