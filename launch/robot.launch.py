# SPDX-License-Identifier: Apache-2.0
"""The four stages for a real cell, whose cameras, TF and controllers run already."""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node, PushROSNamespace, SetParameter

MANAGED = ('generator', 'tracker', 'execution')  # have a lifecycle
NODES = (*MANAGED, 'task_loop', 'visualization')


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start one process per stage."""
    # 1. Directories and launch configurations.
    config_dir = os.path.join(get_package_share_directory('fourdgen_ros'), 'config')
    namespace = LaunchConfiguration('namespace')
    use_sim_time = LaunchConfiguration('use_sim_time')
    params_file = LaunchConfiguration('params_file')
    generator = LaunchConfiguration('generator')
    model = LaunchConfiguration('model')
    execution_mode = LaunchConfiguration('execution_mode')
    autostart = LaunchConfiguration('autostart')
    log_level = LaunchConfiguration('log_level')

    # 2. Under a namespace, its own robot: names that are absolute elsewhere become relative.
    remappings = [('/tf', 'tf'), ('/tf_static', 'tf_static'), ('/joint_states', 'joint_states')]

    # 3. What the arguments set wins over the files.
    overrides = {
        'generator': [{'generator': generator, 'model': model, 'autostart': autostart}],
        'tracker': [{'autostart': autostart}],
        'execution': [{'execution_mode': execution_mode, 'autostart': autostart}],
    }

    # 4. Arguments.
    declare_namespace = DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of all nodes')
    declare_use_sim_time = DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take the time from /clock instead of the system clock')
    declare_params_file = DeclareLaunchArgument(
        'params_file', default_value=os.path.join(config_dir, 'robot.yaml'),
        description='Parameters of this cell, loaded after config/<node>.yaml of every node')
    declare_generator = DeclareLaunchArgument(
        'generator', default_value='tiny', choices=['tiny', 'oracle'],
        description='tiny: a model; oracle: the true future (simulated cell only)')
    declare_model = DeclareLaunchArgument(
        'model', default_value='', description='Folder of the model; empty: the bundled one')
    declare_execution_mode = DeclareLaunchArgument(
        'execution_mode', default_value='dry_run', choices=['dry_run', 'confirm', 'auto'],
        description='dry_run: nothing moves; confirm: each plan needs a call of confirm_plan; '
                    'auto: plans are executed on request')
    declare_autostart = DeclareLaunchArgument(
        'autostart', default_value='true', choices=['true', 'false'],
        description='true: the nodes configure and activate themselves; false: they stay '
                    'unconfigured until somebody does, as `ros2 lifecycle set` can')
    declare_log_level = DeclareLaunchArgument(
        'log_level', default_value='info', description='Log level of all nodes')

    # 5. Nodes.
    stages = GroupAction([
        PushROSNamespace(namespace),
        SetParameter('use_sim_time', use_sim_time),
        *[(LifecycleNode if name in MANAGED else Node)(
            package='fourdgen_ros', executable=name, name=name, namespace='', output='screen',
            parameters=[os.path.join(config_dir, f'{name}.yaml'), params_file,
                        *overrides.get(name, [])],
            remappings=remappings, arguments=['--ros-args', '--log-level', log_level],
            sigterm_timeout='15')  # a stage may be in the middle of a computation
          for name in NODES],
    ])

    # 6. All of it.
    ld = LaunchDescription()
    ld.add_action(declare_namespace)
    ld.add_action(declare_use_sim_time)
    ld.add_action(declare_params_file)
    ld.add_action(declare_generator)
    ld.add_action(declare_model)
    ld.add_action(declare_execution_mode)
    ld.add_action(declare_autostart)
    ld.add_action(declare_log_level)
    ld.add_action(stages)
    return ld
