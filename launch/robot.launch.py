# SPDX-License-Identifier: Apache-2.0
"""The four stages for a real cell, whose cameras, TF and controllers run already."""

from __future__ import annotations

import os
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushROSNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

from fourdgen_ros.core.paths import require_path
from fourdgen_ros.motion.robot import RobotConfig

NODES = ('generator', 'tracker', 'execution', 'task_loop', 'visualization')


def shown_robot(files: list[str]) -> str:
    """Parameter `robot` of the node visualization in these files, of which the later ones win.

    A file that is none of parameters says nothing here: the nodes refuse it and name the line.
    """
    robot = ''
    for path in files:
        with open(path, encoding='utf-8') as file:
            try:
                sections = mapping(yaml.safe_load(file))
            except yaml.YAMLError:
                continue
        for node, section in sections.items():
            if str(node).split('/')[-1] in ('**', 'visualization'):
                robot = mapping(mapping(section).get('ros__parameters')).get('robot', robot)
    return robot


def mapping(value: Any) -> dict[Any, Any]:
    """`value` where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start one process per stage."""
    # 1. Directories and launch configurations.
    share = get_package_share_directory('fourdgen_ros')
    config_dir = os.path.join(share, 'config')
    namespace = LaunchConfiguration('namespace')
    use_sim_time = LaunchConfiguration('use_sim_time')
    params_file = LaunchConfiguration('params_file')
    nodes = LaunchConfiguration('nodes')
    cameras = LaunchConfiguration('cameras')
    robot = LaunchConfiguration('robot')
    tracker = LaunchConfiguration('tracker')
    planner = LaunchConfiguration('planner')
    generator = LaunchConfiguration('generator')
    model = LaunchConfiguration('model')
    execution_mode = LaunchConfiguration('execution_mode')
    autostart = LaunchConfiguration('autostart')
    record = LaunchConfiguration('record')
    rviz = LaunchConfiguration('rviz')
    log_level = LaunchConfiguration('log_level')

    # 2. Under a namespace, its own robot: names that are absolute elsewhere become relative.
    remappings = [('/tf', 'tf'), ('/tf_static', 'tf_static'), ('/joint_states', 'joint_states')]

    # 3. What the arguments set wins over the files: always, and only where it is not empty.
    overrides = {
        'generator': {'generator': generator, 'autostart': autostart},
        'tracker': {'autostart': autostart},
        'execution': {'execution_mode': execution_mode, 'autostart': autostart},
    }
    optional = {
        'generator': {'cameras': cameras, 'model': model},
        'tracker': {'robot': robot, 'backend': tracker},
        'execution': {'robot': robot, 'planner': planner},
        'visualization': {'cameras': cameras, 'robot': robot},
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
    declare_nodes = DeclareLaunchArgument(
        'nodes', default_value=' '.join(NODES),
        description='Which nodes run here: where a GPU machine generates, "generator" there and '
                    '"tracker execution task_loop" on the robot\'s PC')
    declare_cameras = DeclareLaunchArgument(
        'cameras', default_value='',
        description='Names of the cameras, the reference first, any number: "cam_left cam_right '
                    'cam_top"; empty: as params_file says')
    declare_robot = DeclareLaunchArgument(
        'robot', default_value='',
        description='Name of a file in config/robots; empty: as params_file says')
    declare_tracker = DeclareLaunchArgument(
        'tracker', default_value='', choices=['', 'embedded', 'foundationpose', 'isaac_ros'],
        description='Who follows the gripper (docs/foundationpose.md); empty: as params_file says')
    declare_planner = DeclareLaunchArgument(
        'planner', default_value='', choices=['', 'embedded', 'move_group', 'moveit_py'],
        description='Who plans motions (docs/robot.md); empty: as params_file says')
    declare_generator = DeclareLaunchArgument(
        'generator', default_value='tiny',
        description='tiny: a model; oracle: the true future (simulated cell only); or your own '
                    'class, package.module:Class')
    declare_model = DeclareLaunchArgument(
        'model', default_value='',
        description='Folder of the model; empty: as params_file says, else the bundled one')
    declare_execution_mode = DeclareLaunchArgument(
        'execution_mode', default_value='dry_run', choices=['dry_run', 'confirm', 'auto'],
        description='dry_run: nothing moves; confirm: each plan needs a call of confirm_plan; '
                    'auto: plans are executed on request')
    declare_autostart = DeclareLaunchArgument(
        'autostart', default_value='true', choices=['true', 'false'],
        description='true: the nodes configure and activate themselves; false: they stay '
                    'unconfigured until somebody does, as `ros2 lifecycle set` can')
    declare_record = DeclareLaunchArgument(
        'record', default_value='false', choices=['true', 'false'],
        description='Start the recorder too; its services start and stop episodes')
    declare_rviz = DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Start RViz with rviz/fourdgen.rviz')
    declare_log_level = DeclareLaunchArgument(
        'log_level', default_value='info', description='Log level of all nodes')

    # 5. Nodes. Each has an enclave of its own, which matters where SROS 2 is enabled; LifecycleNode
    # would have this process join ROS too, in none. The nodes configure and activate themselves.
    def start_rviz(context: LaunchContext) -> Node:
        shown = robot.perform(context) or shown_robot(
            [os.path.join(config_dir, 'visualization.yaml'), params_file.perform(context)])
        return Node(
            package='rviz2', executable='rviz2', name='rviz2', output='screen',
            arguments=['-d', os.path.join(share, 'rviz', 'fourdgen.rviz'),
                       '-f', RobotConfig.named(shown).base_link],
            remappings=remappings)

    def start(context: LaunchContext) -> list[Node]:
        names = nodes.perform(context).split()
        if not names or not set(names) <= set(NODES):
            raise ValueError(f'nodes: expected some of {", ".join(NODES)}, got {names}')
        require_path(context.launch_configurations, 'params_file')
        if 'generator' in names and model.perform(context):
            require_path(context.launch_configurations, 'model', folder=True)
        given = {name: {key: ParameterValue(value, value_type=str) for key, value in values.items()
                        if value.perform(context)} for name, values in optional.items()}
        for values in given.values():
            if 'cameras' in values:
                values['cameras'] = cameras.perform(context).split()
        given = {name: {**overrides.get(name, {}), **given.get(name, {})} for name in names}
        shown = [start_rviz(context)] if IfCondition(rviz).evaluate(context) else []
        return [*shown, *[Node(
            package='fourdgen_ros', executable=name, name=name, namespace='', output='screen',
            parameters=[os.path.join(config_dir, f'{name}.yaml'), params_file,
                        *([given[name]] if given[name] else [])],
            remappings=remappings,
            arguments=['--ros-args', '--log-level', log_level, '--enclave', f'/fourdgen/{name}'],
            sigterm_timeout='15')  # a stage may be in the middle of a computation
            for name in names]]

    stages = GroupAction([
        PushROSNamespace(namespace),
        SetParameter('use_sim_time', use_sim_time),
        OpaqueFunction(function=start),
    ])

    # 6. The recorder.
    recorder = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'record.launch.py')),
        launch_arguments={
            'namespace': namespace, 'use_sim_time': use_sim_time, 'params_file': params_file,
            'cameras': cameras, 'log_level': log_level}.items(),
        condition=IfCondition(record))

    # 7. All of it.
    ld = LaunchDescription()
    ld.add_action(declare_namespace)
    ld.add_action(declare_use_sim_time)
    ld.add_action(declare_params_file)
    ld.add_action(declare_nodes)
    ld.add_action(declare_cameras)
    ld.add_action(declare_robot)
    ld.add_action(declare_tracker)
    ld.add_action(declare_planner)
    ld.add_action(declare_generator)
    ld.add_action(declare_model)
    ld.add_action(declare_execution_mode)
    ld.add_action(declare_autostart)
    ld.add_action(declare_record)
    ld.add_action(declare_rviz)
    ld.add_action(declare_log_level)
    ld.add_action(stages)
    ld.add_action(recorder)
    return ld
