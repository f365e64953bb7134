# SPDX-License-Identifier: Apache-2.0
"""The process around MoveItPy: its waypoints, its jump test, and how it fails."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_moveit import ROBOT, fake_paths

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, MissingDependencyError, PlanningError
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.motion.moveit import MoveItPlanner, PathRequest, believe
from fourdgen_ros.motion.robot import SceneBox, Workspace
from fourdgen_ros.nodes.moveit_py import MoveItPyProcess
from fourdgen_ros.nodes.moveit_py_worker import WorkerOptions, load

OPTIONS = WorkerOptions(params_file='none')
MODEL = RobotModel(ROBOT)
START = MODEL.fk(ROBOT.home)


def request(*offsets: tuple[float, float, float], **changes) -> PathRequest:
    """A path through points seen from where the arm is."""
    poses = [START]
    for offset in offsets or [(0.0, 0.1, 0.0)]:
        poses.append(se3.make(START[:3, :3], START[:3, 3] + offset))
    return replace(PathRequest(
        group=ROBOT.group, link=ROBOT.tcp_link, frame=ROBOT.base_link, joints=ROBOT.joints,
        start=ROBOT.home, poses=np.stack(poses), max_step=0.01, velocity_scaling=0.1,
        acceleration_scaling=0.2, workspace=ROBOT.workspace), **changes)


def test_follows_straight_lines() -> None:
    world, paths = fake_paths(OPTIONS)
    answer = paths.path(request((0.0, 0.1, 0.0), (0.0, 0.1, -0.05)))
    assert (answer.error.code, answer.fraction) == (1, 1.0)
    assert len(answer.positions) == 1 + 10 + 5
    tcp = MODEL.fk_path(answer.positions)[:, :3, 3]
    np.testing.assert_allclose(tcp[10], START[:3, 3] + [0.0, 0.1, 0.0], atol=3e-3)
    np.testing.assert_allclose(tcp[-1], START[:3, 3] + [0.0, 0.1, -0.05], atol=3e-3)
    np.testing.assert_allclose(tcp[:11, 2], START[2, 3], atol=3e-3)
    assert world.totg == {'velocity': 0.1, 'acceleration': 0.2, 'tolerance': 0.01}
    believe(answer, ROBOT, 'moveit_py')


def test_a_turn_has_steps_too() -> None:
    _, paths = fake_paths(OPTIONS)
    turned = START.copy()
    turned[:3, :3] = START[:3, :3] @ se3.exp_so3(np.array([0.0, 0.0, 0.45]))
    answer = paths.path(request(poses=np.stack([START, turned])))
    assert len(answer.positions) == 1 + 5


def test_ends_where_there_is_no_solution() -> None:
    world, paths = fake_paths(OPTIONS)
    limit = START[1, 3] + 0.055
    world.reachable = lambda T: T[1, 3] < limit
    answer = paths.path(request())
    assert answer.fraction == pytest.approx(0.5)
    assert 'no inverse kinematics at' in answer.error.message
    assert len(answer.positions) == 6


def test_a_jump_ends_the_path() -> None:
    world, paths = fake_paths(OPTIONS)
    limit = START[1, 3] + 0.035

    def jump(q: np.ndarray) -> np.ndarray:
        return q + 2.0 * np.eye(7)[4] if MODEL.fk(q)[1, 3] > limit else q

    world.jump = jump
    answer = paths.path(request())
    assert answer.fraction == pytest.approx(0.3)
    assert 'panda_joint5 jumps by 2' in answer.error.message
    assert np.abs(np.diff(answer.positions, axis=0)).max() < 0.2


def test_a_collision_ends_the_path() -> None:
    world, paths = fake_paths(OPTIONS)
    limit = START[1, 3] + 0.075
    world.blocked = lambda q: MODEL.fk(q)[1, 3] > limit
    answer = paths.path(request())
    assert answer.fraction == pytest.approx(0.7)
    assert 'a collision at' in answer.error.message


def test_the_workspace_ends_the_path() -> None:
    _, paths = fake_paths(OPTIONS)
    y = float(START[1, 3])
    answer = paths.path(request(workspace=Workspace(max=(None, y + 0.055, None))))
    assert answer.fraction == pytest.approx(0.5)
    assert 'the workspace ends' in answer.error.message


def test_nothing_can_be_reached() -> None:
    world, paths = fake_paths(OPTIONS)
    world.reachable = lambda T: False
    with pytest.raises(PlanningError, match='no inverse kinematics at.*moveit_py'):
        believe(paths.path(request()), ROBOT, 'moveit_py')


def test_no_time_law() -> None:
    world, paths = fake_paths(OPTIONS)
    world.timed = False
    with pytest.raises(PlanningError, match='time law failed'):
        believe(paths.path(request()), ROBOT, 'moveit_py')


def test_scene_and_contacts() -> None:
    world, paths = fake_paths(OPTIONS)
    paths.update_scene((SceneBox('table', (1, 1, 1), (0, 0, 0), ('panda_link0',)),), 'base')
    assert world.boxes == [('table', 'base')]
    assert world.allowed == [('table', 'panda_link0', True)]
    path = np.tile(ROBOT.home, (4, 1))
    path[2:, 0] += 0.3
    assert paths.first_contact(ROBOT.joints, path) is None
    world.blocked = lambda q: q[0] > ROBOT.home[0] + 0.1
    assert paths.first_contact(ROBOT.joints, path).index == 2


def test_without_moveit_py() -> None:
    with pytest.raises(MissingDependencyError, match='ros-jazzy-moveit-py'):
        load(OPTIONS)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A parameter file; the process finds the fakes."""
    monkeypatch.setenv('PYTHONPATH', f'{Path(__file__).parent}:' + ':'.join(sys.path))
    path = tmp_path / 'moveit.yaml'
    path.write_text('{}')
    return str(path)


def process(file: str, name: str = 'works', timeout: float = 120.0) -> MoveItPyProcess:
    return MoveItPyProcess(WorkerOptions(params_file=file, node_name=name), timeout=timeout,
                           start_timeout=120.0, worker='fake_moveit')


def test_plans_in_another_process(file: str) -> None:
    moveit = process(file)
    try:
        planner = MoveItPlanner(ROBOT, moveit=moveit, kinematics=MODEL)
        poses = np.tile(START, (4, 1, 1))
        poses[:, 1, 3] += np.linspace(0.0, 0.06, 4)
        plan = planner.plan(GripperTrajectory(
            poses, np.full(4, 0.08), np.ones(4), 0.4 * np.arange(4), ROBOT.base_link, 0),
            ROBOT.home, 0.08, now_ns=0)
        np.testing.assert_allclose(plan.tcp_path[-1, :3, 3], poses[-1, :3, 3], atol=4e-3)
        with pytest.raises(PlanningError, match='AttributeError'):
            moveit.path('not a request')
        assert moveit.first_contact(ROBOT.joints, ROBOT.home[None]) is None
    finally:
        moveit.close()
    assert moveit._process.returncode is not None


def test_the_process_ends_with_its_owner(file: str) -> None:
    moveit = process(file)
    worker = moveit._process
    del moveit
    assert worker.wait(timeout=60.0) == 0


def test_the_worker_itself_without_moveit_py(file: str) -> None:
    with pytest.raises(PlanningError, match='the start; got moveit_py;.*ros-jazzy-moveit-py'):
        MoveItPyProcess(WorkerOptions(params_file=file), timeout=1.0, start_timeout=120.0)


def test_no_parameter_file() -> None:
    with pytest.raises(InputError, match='moveit_params_file.*docs/robot.md'):
        process('')


def test_a_start_that_fails(file: str) -> None:
    with pytest.raises(PlanningError, match='the start; got moveit_py; got no robot_description'):
        process(file, 'fails')


def test_a_process_that_dies(file: str) -> None:
    moveit = process(file, 'dies')
    for _ in range(2):
        with pytest.raises(PlanningError, match='ended with code 3'):
            moveit.first_contact(ROBOT.joints, ROBOT.home[None])
    moveit.close()


def test_a_process_that_hangs(file: str) -> None:
    moveit = process(file, 'hangs', timeout=0.2)
    with pytest.raises(PlanningError, match=r'an answer in 0.2 s'):
        moveit.first_contact(ROBOT.joints, ROBOT.home[None])
    assert moveit._process.returncode is not None
