# SPDX-License-Identifier: Apache-2.0
"""The launch files under the real launch: arguments, what is started with what, a real run."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.motion.robot import RobotConfig

pytest.importorskip('launch_ros')

RUN = """\
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService(argv=[])
arguments = [tuple(a.split(':=', 1)) for a in sys.argv[2:]]
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)]))
sys.exit(service.run())
"""


def load(name: str):
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(share_directory() / 'launch' / name))
    return source.get_launch_description(LaunchContext())


def launch_file(name: str) -> Any:
    """A launch file as a module."""
    spec = importlib.util.spec_from_file_location(
        f'{name}_launch', share_directory() / 'launch' / f'{name}.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own_arguments(description) -> list:
    from launch.actions import DeclareLaunchArgument

    return [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]


def started(name: str, **arguments: str) -> dict[str, dict[str, Any]]:
    """What a launch file would start: node name -> package, executable, class, parameters.

    `parameters` are merged as rcl does: later files win. The bag of a replay is any folder.
    """
    from launch import LaunchContext
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
    from launch_ros.actions import Node

    context = LaunchContext()
    context.launch_configurations.update(
        {'bag': str(share_directory() / 'config')} if name == 'replay.launch.py' else {},
        **arguments)
    nodes = {}

    def visit(entity: Any) -> None:
        if isinstance(entity, Node):
            if entity.condition is not None and not entity.condition.evaluate(context):
                return
            entity._perform_substitutions(context)
            command = [perform_substitutions(context, normalize_to_list_of_substitutions(part))
                       for part in entity._Node__arguments]
            parameters: dict[str, Any] = {}
            for file, is_file in entity._Node__expanded_parameter_arguments or []:
                if is_file:
                    for key, values in yaml.full_load(Path(file).read_text()).items():
                        if key == '/**' or key.split('/')[-1] == entity._Node__node_name:
                            parameters |= values['ros__parameters']
            nodes[entity._Node__node_name] = {
                'package': entity.node_package, 'executable': entity.node_executable,
                'class': type(entity).__name__, 'parameters': parameters, 'arguments': command}
            return
        for sub in entity.visit(context) or []:
            visit(sub)

    for entity in load(name).entities:
        try:
            visit(entity)
        except InputError:
            assert not nodes, 'some have been started'
            raise
    return nodes


@pytest.mark.parametrize(('name', 'arguments'), [
    ('robot.launch.py', {'namespace', 'use_sim_time', 'params_file', 'nodes', 'cameras', 'robot',
                         'tracker', 'planner', 'generator', 'model', 'execution_mode', 'autostart',
                         'record', 'rviz', 'log_level'}),
    ('sim.launch.py', {'namespace', 'params_file', 'task', 'seed', 'generator', 'model',
                       'execution_mode', 'autostart', 'rviz', 'log_level'}),
    ('realsense.launch.py', {'namespace', 'cameras', 'serial_numbers', 'params_file',
                             'hardware_sync', 'log_level'}),
    ('record.launch.py', {'namespace', 'use_sim_time', 'params_file', 'cameras', 'output_folder',
                          'backend', 'log_level'}),
    ('replay.launch.py', {'bag', 'rate', 'player', 'wait_for_subscribers', 'params_file', 'model',
                          'autostart', 'log_level'})])
def test_every_argument_is_described(name: str, arguments: set[str]) -> None:
    declared = own_arguments(load(name))
    assert arguments <= {a.name for a in declared}
    assert all(len(a.description) > 10 for a in declared)


@pytest.mark.parametrize(('name', 'mode'), [('robot.launch.py', 'dry_run'),
                                            ('sim.launch.py', 'auto')])
def test_only_the_simulated_robot_moves_by_default(name: str, mode: str) -> None:
    argument = next(a for a in own_arguments(load(name)) if a.name == 'execution_mode')
    assert [part.text for part in argument.default_value] == [mode]
    assert started(name)['execution']['parameters']['execution_mode'] == mode


@pytest.mark.parametrize(('name', 'nodes'), [
    ('robot.launch.py', {'generator', 'tracker', 'execution', 'task_loop'}),
    ('sim.launch.py', {'cell', 'generator', 'tracker', 'execution', 'task_loop'}),
    ('record.launch.py', {'recorder'}), ('replay.launch.py', {'player'})])
def test_starts_executables_that_exist(name: str, nodes: set[str]) -> None:
    found = started(name)
    assert nodes <= found.keys()
    for node in found.values():
        assert (share_directory() / 'scripts' / 'nodes' / node['executable']).is_file()


def test_nodes_with_a_lifecycle_start_by_themselves() -> None:
    nodes = started('robot.launch.py')
    # The class LifecycleNode has launch itself join ROS, without an enclave of ours.
    assert {node['class'] for node in nodes.values()} == {'Node'}
    assert all(nodes[name]['parameters']['autostart'] is True
               for name in ('generator', 'tracker', 'execution'))


def test_each_node_has_its_enclave() -> None:
    for file in ('sim.launch.py', 'record.launch.py', 'replay.launch.py'):
        for name, node in started(file).items():
            assert node['arguments'][-2:] == ['--enclave', f'/fourdgen/{name}']


def test_any_number_of_cameras() -> None:
    for names in ('only', 'cam_left cam_right', 'a b c d'):
        node = started('robot.launch.py', cameras=names)['generator']
        assert node['parameters']['cameras'] == tuple(names.split())


def test_an_empty_argument_leaves_it_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / 'my_cell.yaml'
    file.write_text(
        '/**/generator: {ros__parameters: {cameras: [one, two, three], model: /m}}\n'
        '/**/tracker: {ros__parameters: {robot: fr3, backend: isaac_ros}}\n'
        '/**/execution: {ros__parameters: {robot: fr3, planner: move_group, '
        'execution_mode: auto}}\n')
    nodes = started('robot.launch.py', params_file=str(file))
    assert nodes['generator']['parameters']['cameras'] == ['one', 'two', 'three']
    assert nodes['generator']['parameters']['model'] == '/m'
    assert nodes['tracker']['parameters']['robot'] == 'fr3'
    assert nodes['tracker']['parameters']['backend'] == 'isaac_ros'
    assert nodes['execution']['parameters']['planner'] == 'move_group'
    # Whether it moves is said where it is started, and nowhere else.
    assert nodes['execution']['parameters']['execution_mode'] == 'dry_run'
    nodes = started('robot.launch.py', params_file=str(file), robot='xarm7', planner='moveit_py',
                    tracker='foundationpose')
    assert nodes['tracker']['parameters']['robot'] == 'xarm7'
    assert nodes['tracker']['parameters']['backend'] == 'foundationpose'
    assert nodes['execution']['parameters']['robot'] == 'xarm7'
    assert nodes['execution']['parameters']['planner'] == 'moveit_py'


@pytest.mark.parametrize('name', [
    'robot.launch.py', 'sim.launch.py', 'realsense.launch.py', 'record.launch.py',
    'replay.launch.py'])
def test_a_file_of_parameters_is_there_or_nothing_starts(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {'serial_numbers': '1 2'} if name == 'realsense.launch.py' else {}
    for missing in ('my_sell.yaml', '', '~/cell.yaml', str(tmp_path)):
        with pytest.raises(InputError, match='params_file; expected a file'):
            started(name, params_file=missing, **more)
    (tmp_path / 'cell.yaml').write_text('/**: {ros__parameters: {from_file: 7}}')
    monkeypatch.setenv('HOME', str(tmp_path))
    for node in started(name, params_file='~/cell.yaml', **more).values():
        assert node['parameters']['from_file'] == 7


def test_a_model_and_a_bag_are_there_or_nothing_starts(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    for name in ('robot.launch.py', 'sim.launch.py', 'replay.launch.py'):
        with pytest.raises(InputError, match='model; expected a folder; got .*mine'):
            started(name, model='~/mine')
    # It is needed only where the generator runs.
    started('robot.launch.py', model='~/mine', nodes='tracker')
    for missing in ('', '~/mine'):
        with pytest.raises(InputError, match='bag; expected a folder'):
            started('replay.launch.py', bag=missing)
    (tmp_path / 'mine').mkdir()
    nodes = started('robot.launch.py', model='~/mine')
    assert nodes['generator']['parameters']['model'] == str(tmp_path / 'mine')
    nodes = started('replay.launch.py', bag='~/mine')
    assert nodes['player']['parameters']['bag'] == str(tmp_path / 'mine')


def test_digits_keep_the_type_of_their_parameter(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('2024').mkdir()
    parameters = started('replay.launch.py', bag='2024', rate='2',
                         wait_for_subscribers='60')['player']['parameters']
    values = {name: parameters[name] for name in ('bag', 'rate', 'wait_for_subscribers')}
    assert values == {'bag': '2024', 'rate': 2.0, 'wait_for_subscribers': 60.0}
    assert [type(value) for value in values.values()] == [str, float, float]
    assert started('sim.launch.py', task='2024')['cell']['parameters']['task'] == '2024'
    node = started('robot.launch.py', model='2024', robot='2024')['generator']
    assert node['parameters']['model'] == '2024'
    parameters = started('record.launch.py', output_folder='2024')['recorder']['parameters']
    assert parameters['output_folder'] == '2024'


def test_the_generator_on_one_machine_and_the_rest_on_another() -> None:
    assert started('robot.launch.py', nodes='generator').keys() == {'generator'}
    rest = started('robot.launch.py', nodes='tracker execution task_loop')
    assert rest.keys() == {'tracker', 'execution', 'task_loop'}
    with pytest.raises(ValueError, match='expected some of generator, tracker'):
        started('robot.launch.py', nodes='generater')


@pytest.mark.parametrize('name', ['robot.launch.py', 'sim.launch.py'])
def test_rviz_comes_when_asked_for(name: str) -> None:
    assert 'rviz2' not in started(name)
    node = started(name, rviz='true')['rviz2']
    assert node['package'] == 'rviz2'
    assert node['arguments'][0] == '-d'
    assert node['arguments'][1].endswith('share/fourdgen_ros/rviz/fourdgen.rviz')
    assert node['arguments'][2:] == ['-f', 'panda_link0']


def test_rviz_shows_the_base_of_the_robot(tmp_path: Path) -> None:
    def fixed_frame(**arguments: str) -> str:
        return started('robot.launch.py', rviz='true', **arguments)['rviz2']['arguments'][-1]

    file = tmp_path / 'my_cell.yaml'
    for section in ('/**/visualization', '/cell_7/visualization', '/**'):
        file.write_text(f'{section}: {{ros__parameters: {{robot: xarm7}}}}')
        assert fixed_frame(params_file=str(file)) == RobotConfig.named('xarm7').base_link
    assert fixed_frame(params_file=str(file), robot='fr3') == 'fr3_link0'
    file.write_text('/**/execution: {ros__parameters: {robot: fr3}}')  # of another node
    assert fixed_frame(params_file=str(file)) == 'panda_link0'
    # What is no file of parameters is refused by the nodes, which name the line.
    for text in ('', '/**/visualization:', '/**/visualization: {ros__parameters: }',
                 '- visualization', '/**: 7', '7: {ros__parameters: {robot: fr3}}', '/**: [1'):
        file.write_text(text)
        assert launch_file('robot').shown_robot([str(file)]) == ''
    with pytest.raises(InputError, match='robot file'):
        fixed_frame(robot='no_such')


def test_the_recorder_comes_when_asked_for(tmp_path: Path) -> None:
    file = tmp_path / 'my_cell.yaml'
    file.write_text('/**/recorder: {ros__parameters: {output_folder: ~/apple, backend: ros2bag}}')
    assert 'recorder' not in started('robot.launch.py')
    nodes = started('robot.launch.py', params_file=str(file), record='true')
    assert nodes['recorder'] == started('record.launch.py', params_file=str(file))['recorder']
    parameters = nodes['recorder']['parameters']
    assert (parameters['output_folder'], parameters['backend']) == ('~/apple', 'ros2bag')
    nodes = started('robot.launch.py', cameras='a b c', record='true')
    assert nodes['recorder']['parameters']['cameras'] == ('a', 'b', 'c')
    parameters = started('record.launch.py', params_file=str(file), output_folder='/data/pear',
                         backend='python')['recorder']['parameters']
    assert (parameters['output_folder'], parameters['backend']) == ('/data/pear', 'python')


def test_realsense_cameras() -> None:
    nodes = started('realsense.launch.py', serial_numbers='831612073525 _831612074321',
                    hardware_sync='true')
    assert nodes.keys() == {'cam_left', 'cam_right'}
    left, right = nodes['cam_left']['parameters'], nodes['cam_right']['parameters']
    assert (left['serial_no'], right['serial_no']) == ('_831612073525', '_831612074321')
    assert left['depth_module.inter_cam_sync_mode'] == 1
    assert right['depth_module.inter_cam_sync_mode'] == 2
    assert left['camera_name'] == 'cam_left'  # its frames begin with it
    assert left['align_depth.enable'] is True
    assert left['rgb_camera.color_profile'] == '640x480x30'
    with pytest.raises(ValueError, match='expected 2, one per camera, got 1'):
        started('realsense.launch.py', serial_numbers='831612073525')
    assert 'serial_no' not in started('realsense.launch.py', cameras='cam')['cam']['parameters']
    for wrong in ({'cameras': ' '}, {'cameras': 'cam cam', 'serial_numbers': '1 2'},
                  {'serial_numbers': '1 1'}):
        with pytest.raises(ValueError, match='one or more, each another'):
            started('realsense.launch.py', **wrong)


def test_the_nodes_really_start(tmp_path: Path, ros: None, spin: Any) -> None:
    """`ros2 launch` as a process: the nodes get active with the given parameters, and end."""
    import rclpy
    from lifecycle_msgs.srv import GetState
    from rcl_interfaces.srv import GetParameters

    from fourdgen_ros.nodes.actions import call_service

    log = (tmp_path / 'log').open('w')
    process = subprocess.Popen(
        [sys.executable, '-c', RUN, str(share_directory() / 'launch' / 'robot.launch.py'),
         'namespace:=cell_7', 'nodes:=generator tracker task_loop', 'robot:=fr3',
         'cameras:=front side top'], stdout=log, stderr=subprocess.STDOUT,
        env={**os.environ, 'ROS_LOG_DIR': str(tmp_path), 'PATH': os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ['PATH']])}, start_new_session=True)
    try:
        client = rclpy.create_node('asks')
        spin(client)

        def call(kind: type, name: str, **request: Any) -> Any:
            service = client.create_client(kind, f'/cell_7/{name}')
            return call_service(service, kind.Request(**request), timeout=60.0,
                                interrupted=lambda: process.poll() is not None)

        for node in ('generator', 'tracker'):
            while call(GetState, f'{node}/get_state').current_state.label != 'active':
                assert process.poll() is None
        values = call(GetParameters, 'generator/get_parameters', names=['cameras']).values
        assert list(values[0].string_array_value) == ['front', 'side', 'top']
        values = call(GetParameters, 'tracker/get_parameters', names=['robot']).values
        assert values[0].string_value == 'fr3'
        assert call(GetParameters, 'task_loop/get_parameters', names=['frames']).values
        names = client.get_node_names_and_namespaces_with_enclaves()
        assert ('generator', '/cell_7', '/fourdgen/generator') in names
        assert not any(name.startswith('launch_ros') for name, *_ in names)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        try:
            process.wait(60.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            log.close()
    text = (tmp_path / 'log').read_text()
    assert process.returncode == 0, text
    assert text.count('process has finished cleanly') == 3, text


def test_a_replay_can_never_move_anything() -> None:
    from launch.actions import IncludeLaunchDescription

    description = load('replay.launch.py')
    assert 'execution_mode' not in {a.name for a in own_arguments(description)}
    stages = next(e for e in description.entities if isinstance(e, IncludeLaunchDescription))
    assert dict(stages.launch_arguments)['execution_mode'] == 'dry_run'
