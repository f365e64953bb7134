# SPDX-License-Identifier: Apache-2.0
"""Planning and moving with move_group over real DDS, and everything that it may answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from rcl_interfaces.msg import Log
from robot_server import HOME, Robot
from ros_graph import Graph, eventually, parameters
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, MissingDependencyError, PlanningError
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.motion.kinematics import ForwardKinematics, RobotModel
from fourdgen_ros.motion.moveit import PathRequest
from fourdgen_ros.motion.robot import RobotConfig, SceneBox, Workspace
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.nodes.move_group import MoveGroup, moveit_msgs
from fourdgen_ros.nodes.planners import robot_description
from fourdgen_ros.nodes.qos import LATCHED, RESULT

pytest.importorskip('moveit_msgs', reason='run `make setup`')
from move_group_server import MoveGroupServer

ROBOT = RobotConfig.named('panda')
START = RobotModel(ROBOT).fk(HOME)
END = START.copy()
END[2, 3] -= 0.05
PATIENT = 60.0


def goal(x: float = 0.0, y: float = 0.08, z: float = -0.05) -> PlanMotion.Goal:
    """A straight line from where the robot is, in 2 s."""
    poses = np.tile(START, (6, 1, 1))
    poses[:, :3, 3] += np.linspace(0.0, 1.0, 6)[:, None] * [x, y, z]
    trajectory = GripperTrajectory(poses, np.full(6, 0.08), np.ones(6), 0.4 * np.arange(6),
                                   'panda_link0', time.time_ns())
    return PlanMotion.Goal(trajectory=conversions.gripper_trajectory_to_msg(trajectory, 'f'))


class Cell:
    """Robot, move_group and execution node."""

    def __init__(self, graph: Graph, **values: Any) -> None:
        self.graph = graph
        self.robot = graph.add(Robot())
        self.move_group = graph.add(MoveGroupServer())
        values = {'execution_mode': 'auto', 'heartbeat_timeout': 0.0, 'planner': 'move_group',
                  'joint_state_timeout': 5.0, 'moveit_timeout': PATIENT, 'time_margin': 60.0,
                  'max_age': 600.0, 'plan_lifetime': 600.0, 'velocity_scaling': 0.5,
                  'acceleration_scaling': 0.5, **values}
        self.node = graph.add(ExecutionNode(**parameters(**values)))
        assert eventually(lambda: self.node._joints.age(list(ROBOT.finger_joints)) < PATIENT)

    def plan(self, **fields: Any) -> Any:
        return self.graph.act(PlanMotion, 'plan_motion', goal(**fields), timeout=120.0)

    def change(self, change: Callable[[Any], None]) -> Any:
        """Plan with a path that `change` has spoilt."""
        self.move_group.change = change
        return self.plan()


@pytest.fixture
def cell(graph: Graph) -> Iterator[Cell]:
    return Cell(graph)


def points(response: Any) -> list[Any]:
    return list(response.solution.joint_trajectory.points)


def test_a_plan_of_move_group(cell: Cell) -> None:
    result = cell.plan()
    assert (result.error_code, result.error_msg) == (0, '')
    checks = dict(zip(result.plan.check_names, result.plan.check_values, strict=True))
    assert {'joint jump', 'path distance', 'tcp speed', 'workspace (motion)', 'start state',
            'joint velocity (of its limit)', 'collision (in motion)'} <= checks.keys()
    end = conversions.pose_to_matrix(result.plan.tcp_path[-1])
    np.testing.assert_allclose(end[:3, 3], START[:3, 3] + [0.0, 0.08, -0.05], atol=3e-3)
    # No faster than imagined, whatever the answer's own stamps say.
    last = result.plan.segments[0].trajectory.points[-1].time_from_start
    assert conversions.duration_to_seconds(last) >= 1.99

    request = cell.move_group.requests[-1]
    assert (request.group_name, request.link_name) == ('panda_arm', 'panda_hand_tcp')
    assert request.header.frame_id == 'panda_link0'
    assert request.avoid_collisions
    assert request.start_state.is_diff
    assert request.max_step == pytest.approx(0.01)
    assert request.max_velocity_scaling_factor == pytest.approx(0.5)
    assert request.max_acceleration_scaling_factor == pytest.approx(0.5)
    region = request.path_constraints.position_constraints[0].constraint_region
    np.testing.assert_allclose(region.primitives[0].dimensions, [0.72, 1.2, 0.9])
    p = region.primitive_poses[0].position
    np.testing.assert_allclose([p.x, p.y, p.z], [0.46, 0.0, 0.45])


def test_the_planning_scene(cell: Cell) -> None:
    assert cell.plan().error_code == 0
    scene = cell.move_group.scenes[-1]
    assert scene.is_diff
    assert [item.id for item in scene.world.collision_objects] == ['table']
    assert scene.world.collision_objects[0].header.frame_id == 'panda_link0'
    # What the SRDF allows stays allowed, and the table may touch the base alone.
    assert cell.move_group.matrix == {frozenset(('panda_hand', 'panda_leftfinger')),
                                      frozenset(('table', 'panda_link0'))}
    assert cell.plan().error_code == 0
    assert len(cell.move_group.scenes) == 2
    assert sorted(cell.move_group.names) == ['panda_hand', 'panda_leftfinger', 'panda_link0',
                                             'table']


def test_its_robot_is_compared_once(cell: Cell) -> None:
    for _ in range(2):
        result = cell.plan()
        assert (result.error_code, result.error_msg) == (0, '')
    request, = cell.move_group.fk_requests
    assert list(request.fk_link_names) == ['panda_link0', 'panda_hand_tcp']
    assert request.robot_state.is_diff
    assert list(request.robot_state.joint_state.name) == list(ROBOT.joints)


@pytest.mark.parametrize(('key', 'link'), [
    ('base_link', 'panda_link0'), ('tcp_link', 'panda_hand_tcp')])
def test_a_link_that_it_does_not_know_is_never_asked_for(graph: Graph, key: str,
                                                         link: str) -> None:
    cell = Cell(graph, moveit_timeout=10.0)
    cell.move_group.links.remove(link)
    for _ in range(2):
        result = cell.plan()
        assert result.error_code == PlanMotion.Result.PLANNING_FAILED
        assert f"`{key}` '{link}' of config/robots/panda.yaml" in result.error_msg
        assert 'got none of that name' in result.error_msg
        assert 'docs/robot.md' in result.error_msg
    assert cell.move_group.requests == []
    cell.move_group.links.add(link)
    assert cell.plan().error_code == PlanMotion.Result.NONE


def test_another_tool_is_refused(cell: Cell) -> None:
    cell.move_group.tool = se3.make(se3.exp_so3(np.array([0.0, 0.0, np.pi / 4])),
                                    np.array([0.0, 0.0, 0.02]))
    result = cell.plan()
    assert result.error_code == PlanMotion.Result.PLANNING_FAILED
    assert "`tcp_link` 'panda_hand_tcp'" in result.error_msg
    assert '20.0 mm and 45.0 deg beside' in result.error_msg
    assert cell.move_group.requests == []


def test_forward_kinematics_may_be_switched_off(graph: Graph, capfd: Any) -> None:
    graph.add(MoveGroupServer(without=('compute_fk',)))
    moveit = MoveGroup(graph.client, timeout=0.2)
    assert eventually(moveit._cartesian.service_is_ready)
    assert moveit.link_poses(('panda_hand_tcp',), ROBOT.joints, HOME) is None
    assert "no service '/compute_fk'" in capfd.readouterr().err


def test_what_move_group_sees_in_the_way(cell: Cell) -> None:
    """An obstacle that only its octomap has, met by the timed motion."""
    start = HOME[0]
    cell.move_group.blocked = lambda q: abs(q[0] - start) > 0.05
    result = cell.plan()
    assert result.error_code == PlanMotion.Result.CHECK_FAILED
    assert 'panda_hand touches <octomap>' in result.error_msg
    assert 'collision (in motion)' in result.error_msg


def test_a_part_of_the_path(cell: Cell) -> None:
    cell.move_group.reach = 0.8
    result = cell.plan()
    assert (result.error_code, result.error_msg) == (0, '')
    checks = dict(zip(result.plan.check_names, result.plan.check_values, strict=True))
    assert 'path cut' in checks
    assert result.plan.frames < 6
    cell.move_group.reach = 0.3
    result = cell.plan()
    assert result.error_code == PlanMotion.Result.CHECK_FAILED
    assert "check 'path fraction'; expected at least 0.5; got 0.3" in result.error_msg


def test_joints_in_another_order(cell: Cell) -> None:
    def change(response: Any) -> None:
        trajectory = response.solution.joint_trajectory
        trajectory.joint_names = list(reversed(trajectory.joint_names))
        for point in trajectory.points:
            point.positions = list(reversed(point.positions))
            point.velocities = list(reversed(point.velocities))

    result = cell.change(change)
    assert (result.error_code, result.error_msg) == (0, '')
    assert list(result.plan.segments[0].trajectory.joint_names) == list(ROBOT.joints)


def no_path(response: Any) -> None:
    response.solution.joint_trajectory.points = []
    response.fraction = 0.0


def no_stamps(response: Any) -> None:
    for point in points(response):
        point.time_from_start = conversions.seconds_to_duration(0.0)


def other_joints(response: Any) -> None:
    response.solution.joint_trajectory.joint_names = [f'fr3_joint{i}' for i in range(1, 8)]


def too_few_positions(response: Any) -> None:
    points(response)[1].positions = [0.0]


def unknown_group(response: Any) -> None:
    no_path(response)
    response.error_code.val = -15
    response.error_code.message = 'no group'


def refused(code: int) -> Callable[[Any], None]:
    """As upstream refuses a request: with nothing but the code, not even names of joints."""
    def change(response: Any) -> None:
        response.solution.joint_trajectory = JointTrajectory()
        response.fraction, response.error_code.val = 0.0, code

    return change


def jump(response: Any) -> None:
    for point in points(response)[2:]:
        q = point.positions
        q[4] += 2.0
        point.positions = q


def swing(response: Any) -> None:
    """A detour of the whole arm, well timed, and back to the path."""
    kept = points(response)
    n, middle = 40, len(kept) // 2
    q, begin = np.array(kept[middle].positions), conversions.duration_to_seconds(
        kept[middle].time_from_start)
    detour = []
    for i in range(1, n):
        point = type(kept[0])()
        away = 0.5 * (1 - np.cos(2 * np.pi * i / n)) * 0.4
        point.positions = (q + away * np.eye(7)[0]).tolist()
        point.velocities = [0.0] * 7
        point.velocities[0] = 0.2 * 2 * np.pi / 4.0 * np.sin(2 * np.pi * i / n)
        point.time_from_start = conversions.seconds_to_duration(begin + 0.1 * i)
        detour.append(point)
    for point in kept[middle + 1:]:
        point.time_from_start = conversions.seconds_to_duration(
            conversions.duration_to_seconds(point.time_from_start) + 0.1 * n)
    kept[middle].velocities = [0.0] * 7
    response.solution.joint_trajectory.points = [*kept[:middle + 1], *detour,
                                                 *kept[middle + 1:]]


@pytest.mark.parametrize(('change', 'text'), [
    (no_path, '0 points, fraction 0'), (no_stamps, 'all zero'), (other_joints, 'fr3_joint1'),
    (too_few_positions, 'expected 7 per point'),
    (unknown_group, 'INVALID_GROUP_NAME (-15): no group'), (jump, 'joint jump'),
    (refused(-15), 'Set `group` in the robot file'), (refused(-21), 'FRAME_TRANSFORM_FAILURE'),
    (refused(1), 'Not even the first step can be made')],
    ids=lambda v: getattr(v, '__name__', ''))
def test_a_useless_path(cell: Cell, change: Callable[[Any], None], text: str) -> None:
    result = cell.change(change)
    assert result.error_code == PlanMotion.Result.PLANNING_FAILED
    assert text in result.error_msg


def test_a_swing_of_the_arm(cell: Cell) -> None:
    result = cell.change(swing)
    assert result.error_code == PlanMotion.Result.CHECK_FAILED
    assert "check 'path distance'" in result.error_msg


def test_configured_again(cell: Cell) -> None:
    """What configure made for MoveIt is gone after cleanup, and made anew."""
    for transition in ('deactivate', 'cleanup'):
        assert cell.graph.change('execution', transition)
    assert not list(cell.node.clients)
    for transition in ('configure', 'activate'):
        assert cell.graph.change('execution', transition)
    assert eventually(lambda: cell.node._joints.age(list(ROBOT.finger_joints)) < PATIENT)
    assert cell.plan().error_code == 0


def test_no_move_group(graph: Graph) -> None:
    graph.add(Robot())
    node = graph.add(ExecutionNode(**parameters(
        planner='move_group', moveit_timeout=0.2, joint_state_timeout=5.0)))
    assert eventually(lambda: node._joints.age(list(ROBOT.finger_joints)) < 5.0)
    result = graph.act(PlanMotion, 'plan_motion', goal())
    assert result.error_code == PlanMotion.Result.PLANNING_FAILED
    assert 'no service' in result.error_msg
    assert 'Start move_group' in result.error_msg


def test_no_moveit_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split('.')[0] == 'moveit_msgs']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'moveit_msgs', None)
    with pytest.raises(MissingDependencyError, match='ros-jazzy-moveit-msgs'):
        moveit_msgs()


def test_what_may_touch_is_what_the_file_says_now(graph: Graph) -> None:
    server = graph.add(MoveGroupServer())
    srdf = set(server.matrix)
    moveit = MoveGroup(graph.client, timeout=PATIENT)
    moveit.update_scene((), 'panda_link0')
    assert server.scenes == []
    box = SceneBox('wall', (0.1, 1.0, 1.0), (0.9, 0.0, 0.5), ('panda_link0', 'panda_hand'))
    moveit.update_scene((box,), 'panda_link0')
    assert server.matrix == srdf | {frozenset(('wall', link)) for link in box.touches}
    moveit.update_scene((replace(box, touches=()),), 'panda_link0')
    assert server.matrix == srdf


def test_a_scene_that_is_refused(graph: Graph) -> None:
    server = graph.add(MoveGroupServer())
    server.takes_scenes = False
    with pytest.raises(PlanningError, match=r"planning scene.*\['table'\].*'panda_link0'"):
        MoveGroup(graph.client, timeout=PATIENT).update_scene(ROBOT.scene, 'panda_link0')


def test_a_workspace_with_open_sides(graph: Graph) -> None:
    server = graph.add(MoveGroupServer())
    moveit = MoveGroup(graph.client, timeout=PATIENT)
    request = PathRequest(
        group='panda_arm', link='panda_hand_tcp', frame='panda_link0', joints=ROBOT.joints,
        start=HOME, poses=np.stack([START, END]), max_step=0.01, velocity_scaling=0.1,
        acceleration_scaling=0.1, workspace=Workspace())
    moveit.path(request)
    assert server.requests[0].path_constraints.position_constraints == []
    moveit.path(replace(request, workspace=Workspace(min=(None, None, 0.0))))
    region = server.requests[1].path_constraints.position_constraints[0].constraint_region
    np.testing.assert_allclose(region.primitives[0].dimensions, [20.0, 20.0, 10.0])
    assert region.primitive_poses[0].position.z == pytest.approx(5.0)


def test_moves_through_move_group(graph: Graph) -> None:
    cell = Cell(graph, execute_action='execute_trajectory')
    plan = cell.plan().plan
    result = graph.act(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id=plan.plan_id), 120.0)
    assert (result.error_code, result.error_msg) == (0, '')
    assert len(cell.move_group.executed) == 1
    np.testing.assert_allclose(cell.robot.q, plan.segments[0].trajectory.points[-1].positions,
                               atol=1e-6)


def test_a_failure_of_move_group_is_named(graph: Graph) -> None:
    cell = Cell(graph, execute_action='execute_trajectory')
    cell.move_group.execute_error = moveit_msgs().msg.MoveItErrorCodes(
        val=-4, message='start deviates', source='tem')
    plan = cell.plan().plan
    result = graph.act(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id=plan.plan_id), 120.0)
    assert result.error_code == ExecutePlan.Result.CONTROLLER_ABORTED
    assert 'CONTROL_FAILED (-4): start deviates [tem]' in result.error_msg
    assert cell.robot.goals == []


def test_a_stop_reaches_the_controller(graph: Graph) -> None:
    """A cancel of `execute_trajectory` has no effect; the arm stops all the same."""
    cell = Cell(graph, execute_action='execute_trajectory', velocity_scaling=0.01,
                acceleration_scaling=0.01)
    plan = cell.plan().plan
    running = graph.start(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id=plan.plan_id))
    assert eventually(lambda: cell.robot.moving and not np.array_equal(cell.robot.q, HOME))
    assert graph.call(Trigger, 'execution/stop').success
    assert running.wait(30.0)
    assert running.result.error_code == ExecutePlan.Result.STOPPED
    assert eventually(lambda: not cell.robot.moving)
    end = plan.segments[0].trajectory.points[-1].positions
    assert np.abs(cell.robot.q - end).max() > 1e-3


def test_a_robot_without_a_file_of_its_own(graph: Graph) -> None:
    with pytest.raises(InputError, match='robot_description.*robot_state_publisher'):
        robot_description(graph.client, 0.1)
    publisher = graph.client.create_publisher(String, 'robot_description', LATCHED)
    publisher.publish(String(data=ROBOT.urdf.read_text()))
    urdf = robot_description(graph.client, PATIENT)
    bare = replace(ROBOT, urdf=None, srdf=None)
    np.testing.assert_allclose(ForwardKinematics(bare, urdf).fk(HOME), START, atol=1e-12)
    with pytest.raises(InputError, match='embedded planner'):
        RobotModel(bare)


def test_the_listener_for_the_description_leaves_name_and_log_to_the_node(graph: Graph) -> None:
    log = graph.listen(Log, '/rosout', RESULT)
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '-r', '__node:=execution', '-r',
                                      'robot_description:=elsewhere/description'])
    try:
        node = StageNode('any', context=context)
        publisher = node.create_publisher(String, '/elsewhere/description', LATCHED)
        publisher.publish(String(data='<robot/>'))
        assert robot_description(node, PATIENT) == '<robot/>'

        def heard() -> bool:
            node.get_logger().info('still there')
            return any((m.name, m.msg) == ('execution', 'still there') for m in log)

        assert eventually(heard, 10.0)
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_a_description_that_is_none() -> None:
    with pytest.raises(InputError, match='expected a URDF'):
        ForwardKinematics(ROBOT, '<robot')
    with pytest.raises(InputError, match="link 'tcp'"):
        ForwardKinematics(replace(ROBOT, tcp_link='tcp'), ROBOT.urdf.read_text())


def test_parameters_of_the_file_are_those_of_the_node(graph: Graph) -> None:
    file = Path(__file__).parents[2] / 'config' / 'execution.yaml'
    values = yaml.safe_load(file.read_text())['/**/execution']['ros__parameters']
    graph.add(Robot())
    node = graph.add(ExecutionNode(**parameters(**values)))
    assert set(values) == {name for name in node._parameters
                           if name not in ('use_sim_time', 'start_type_description_service')}


def test_move_group_that_dies_in_between(graph: Graph) -> None:
    server = graph.add(MoveGroupServer())
    q = np.r_[HOME, 0.04, 0.04][None]
    patient, hasty = (MoveGroup(graph.client, timeout=t) for t in (PATIENT, 0.2))
    assert patient.first_contact(ROBOT.joints + ROBOT.finger_joints, q) is None
    graph.remove(server)
    with pytest.raises(PlanningError, match='Start move_group'):
        hasty.first_contact(ROBOT.joints + ROBOT.finger_joints, q)
