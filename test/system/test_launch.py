# SPDX-License-Identifier: Apache-2.0
"""The launch files load, describe every argument and start executables that exist."""

from __future__ import annotations

import pytest

from fourdgen_ros.core.paths import share_directory

pytest.importorskip('launch_ros')


def load(name: str):
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(share_directory() / 'launch' / name))
    return source.get_launch_description(LaunchContext())


def own_arguments(description) -> list:
    from launch.actions import DeclareLaunchArgument

    return [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]


@pytest.mark.parametrize(('name', 'arguments'), [
    ('robot.launch.py', {'namespace', 'use_sim_time', 'params_file', 'generator', 'model',
                         'execution_mode', 'autostart', 'log_level'}),
    ('sim.launch.py', {'namespace', 'params_file', 'task', 'seed', 'generator', 'model',
                       'execution_mode', 'autostart', 'log_level'}),
    ('record.launch.py', {'namespace', 'use_sim_time', 'params_file', 'output_folder', 'backend',
                          'log_level'}),
    ('replay.launch.py', {'bag', 'rate', 'player', 'wait_for_subscribers', 'params_file', 'model',
                          'autostart', 'log_level'})])
def test_every_argument_is_described(name: str, arguments: set[str]) -> None:
    declared = own_arguments(load(name))
    assert {a.name for a in declared} == arguments
    assert all(len(a.description) > 10 for a in declared)


@pytest.mark.parametrize(('name', 'mode'), [('robot.launch.py', 'dry_run'),
                                            ('sim.launch.py', 'auto')])
def test_only_the_simulated_robot_moves_by_default(name: str, mode: str) -> None:
    argument = next(a for a in own_arguments(load(name)) if a.name == 'execution_mode')
    assert [part.text for part in argument.default_value] == [mode]


@pytest.mark.parametrize('name', ['robot.launch.py', 'sim.launch.py', 'record.launch.py',
                                  'replay.launch.py'])
def test_executables_exist(name: str) -> None:
    from launch.actions import GroupAction
    from launch_ros.actions import Node

    groups = [e for e in load(name).entities if isinstance(e, GroupAction)]
    nodes = [e for g in groups for e in g.get_sub_entities() if isinstance(e, Node)]
    assert nodes
    for node in nodes:
        assert (share_directory() / 'scripts' / 'nodes' / node.node_executable).is_file()


def test_nodes_with_a_lifecycle_start_by_themselves() -> None:
    from launch.actions import GroupAction
    from launch_ros.actions import LifecycleNode

    description = load('robot.launch.py')
    argument = next(a for a in own_arguments(description) if a.name == 'autostart')
    assert [part.text for part in argument.default_value] == ['true']
    managed = [e for g in description.entities if isinstance(g, GroupAction)
               for e in g.get_sub_entities() if isinstance(e, LifecycleNode)]
    assert {node.node_executable for node in managed} == {'generator', 'tracker', 'execution'}


def test_a_replay_can_never_move_anything() -> None:
    from launch.actions import IncludeLaunchDescription

    description = load('replay.launch.py')
    assert 'execution_mode' not in {a.name for a in own_arguments(description)}
    stages = next(e for e in description.entities if isinstance(e, IncludeLaunchDescription))
    assert dict(stages.launch_arguments)['execution_mode'] == 'dry_run'
