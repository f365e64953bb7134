# SPDX-License-Identifier: Apache-2.0
"""What MoveIt answers is tested before it is believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.motion import safety
from fourdgen_ros.motion.base import Contact
from fourdgen_ros.motion.moveit import (
    ErrorCode,
    MoveItBodies,
    PathAnswer,
    PathRequest,
    believe,
    require_same_tool,
    sparse,
)
from fourdgen_ros.motion.robot import RobotConfig, Workspace
from fourdgen_ros.motion.safety import CheckError, CheckLog, SafetyLimits

ROBOT = RobotConfig.named('panda')
TOOL = se3.make(se3.exp_so3(np.array([3.0, 0.0, 0.0])), np.array([0.4, 0.1, 0.3]))


def answer(**changes) -> PathAnswer:
    """Joint 1 moves by 0.2 rad in 1 s, from rest to rest."""
    u = np.linspace(0.0, 1.0, 11)
    q, v = np.tile(ROBOT.home, (11, 1)), np.zeros((11, 7))
    q[:, 0] += 0.2 * u**2 * (3 - 2 * u)
    v[:, 0] = 0.2 * 6 * u * (1 - u)
    return replace(PathAnswer(error=ErrorCode(1), fraction=1.0, joints=ROBOT.joints, times=u,
                              positions=q, velocities=v), **changes)


def refused(*needles: str, **changes) -> None:
    with pytest.raises(PlanningError) as error:
        believe(answer(**changes), ROBOT, 'move_group')
    for needle in needles:
        assert needle in str(error.value)


def test_a_good_answer_is_sampled_evenly() -> None:
    timed = believe(answer(fraction=0.75), ROBOT, 'move_group')
    assert timed.fraction == 0.75
    assert (len(timed.positions) - 1) * timed.dt == pytest.approx(1.0)
    u = np.linspace(0.0, 1.0, len(timed.positions))
    np.testing.assert_allclose(timed.positions[:, 0], ROBOT.home[0] + 0.2 * u**2 * (3 - 2 * u),
                               atol=1e-9)
    np.testing.assert_array_equal(timed.positions[:, 1:], np.tile(ROBOT.home[1:], (len(u), 1)))


def test_joints_may_come_in_any_order() -> None:
    right = answer()
    order = [3, 0, 6, 1, 5, 2, 4]
    shuffled = answer(joints=tuple(ROBOT.joints[i] for i in order),
                      positions=right.positions[:, order], velocities=right.velocities[:, order])
    np.testing.assert_array_equal(believe(shuffled, ROBOT, 'm').positions,
                                  believe(right, ROBOT, 'm').positions)


def test_velocities_may_be_missing() -> None:
    timed = believe(answer(velocities=None), ROBOT, 'move_group')
    np.testing.assert_allclose(timed.positions[-1], answer().positions[-1])
    speed = np.diff(timed.positions[:, 0]) / timed.dt
    assert abs(speed[0]) < 0.02 and abs(speed[-1]) < 0.02


@pytest.mark.parametrize(('code', 'name'), [
    (-15, 'INVALID_GROUP_NAME'), (99999, 'FAILURE'), (-21, 'FRAME_TRANSFORM_FAILURE'),
    (0, 'UNDEFINED'), (-77, 'unknown code')])
def test_errors_are_named(code: int, name: str) -> None:
    refused(f'{name} ({code}): why [kdl]', 'expected SUCCESS',
            error=ErrorCode(code, 'why', 'kdl'))


@pytest.mark.parametrize('fraction', [0.0, -1.0, float('nan'), 1.2])
def test_success_without_a_path_is_none(fraction: float) -> None:
    refused('fraction', fraction=fraction)


@pytest.mark.parametrize('points', [0, 1])
def test_an_empty_path_is_none(points: int) -> None:
    right = answer()
    refused(f'{points} points', times=right.times[:points], positions=right.positions[:points],
            velocities=right.velocities[:points])


def test_stamps_that_are_all_zero() -> None:
    refused('all zero', 'joint_limits.yaml', times=np.zeros(11))


def test_stamps_that_do_not_increase() -> None:
    times = answer().times.copy()
    times[5] = times[4]
    refused('expected increasing', times=times)
    refused('expected increasing', times=answer().times + 0.5)


def test_joints_of_another_group() -> None:
    refused('panda_finger_joint1', 'SRDF', joints=(*ROBOT.joints[:6], 'panda_finger_joint1'))


def test_numbers_that_are_none() -> None:
    q = answer().positions.copy()
    q[3, 3] = np.nan
    refused('finite', positions=q)


def test_a_joint_jump_is_seen_in_the_speed() -> None:
    q = answer().positions.copy()
    q[5:, 4] += 2.0
    refused('joint jump', 'panda_joint5', 'point 5 of 11', positions=q)


@pytest.mark.parametrize('scaling', [0.0, 1.01, -0.5, float('nan')])
@pytest.mark.parametrize('name', ['velocity_scaling', 'acceleration_scaling'])
def test_a_request_cannot_ask_for_full_speed_by_accident(name: str, scaling: float) -> None:
    fields = {'velocity_scaling': 0.1, 'acceleration_scaling': 0.1, name: scaling}
    with pytest.raises(InputError, match=f'{name}.*full speed'):
        PathRequest(group='arm', link='tcp', frame='base', joints=ROBOT.joints, start=ROBOT.home,
                    poses=np.tile(np.eye(4), (2, 1, 1)), max_step=0.01, workspace=Workspace(),
                    **fields)


def told(**changes) -> dict[str, np.ndarray]:
    """Links as MoveIt has them, in a frame of its own, for T_base_tcp = TOOL."""
    T_model_base = se3.make(se3.exp_so3(np.array([0.0, 0.0, 1.0])), np.array([0.0, 0.0, 0.8]))
    return {'panda_link0': T_model_base, 'panda_hand_tcp': T_model_base @ TOOL, **changes}


def test_the_same_tool_is_accepted_to_a_few_millimetres() -> None:
    require_same_tool(told(), ROBOT, TOOL, 'move_group')
    near = TOOL @ se3.make(se3.exp_so3(np.array([0.0, 0.01, 0.0])), np.array([0.004, 0.0, 0.0]))
    require_same_tool(told(), ROBOT, near, 'move_group')


@pytest.mark.parametrize(('T', 'text'), [
    (se3.make(np.eye(3), np.array([0.0, 0.0, 0.006])), '6.0 mm and 0.0 deg'),
    (se3.make(se3.exp_so3(np.array([0.0, 0.0, 0.02])), np.zeros(3)), '0.0 mm and 1.1 deg'),
    (np.full((4, 4), np.nan), 'nan mm')])
def test_another_tool_is_refused(T: np.ndarray, text: str) -> None:
    with pytest.raises(PlanningError, match=r'tcp_link.*within 5 mm and 1 deg') as error:
        require_same_tool(told(), ROBOT, TOOL @ T, 'move_group')
    assert text in error.value.got


@pytest.mark.parametrize(('key', 'link'), [
    ('base_link', 'panda_link0'), ('tcp_link', 'panda_hand_tcp')])
def test_a_link_that_moveit_does_not_know(key: str, link: str) -> None:
    links = told()
    del links[link]
    with pytest.raises(PlanningError, match=rf"`{key}` '{link}' of config/robots/panda.yaml"):
        require_same_tool(links, ROBOT, TOOL, 'move_group')


def test_states_to_check_are_never_far_apart() -> None:
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.uniform(0.0, 0.012, (400, 7)), axis=0)
    chosen = sparse(path, 0.02)
    assert chosen[0] == 0 and chosen[-1] == 399
    assert np.abs(np.diff(path[chosen], axis=0)).max() <= 0.02
    assert len(chosen) < 390
    jump = np.r_[np.zeros((3, 7)), np.ones((3, 7))]
    assert sparse(jump, 0.02).tolist() == [0, 2, 3, 5]
    assert sparse(np.zeros((1, 7)), 0.02).tolist() == [0]


def test_contacts_are_those_of_the_whole_path() -> None:
    class Touching:
        name = 'move_group'

        def first_contact(self, joints, path):
            assert joints[-2:] == ROBOT.finger_joints
            assert path[0, -1] == pytest.approx(0.02)
            hit = np.flatnonzero(path[:, 0] > 0.5)
            return Contact(int(hit[0]), 'hand', 'box') if len(hit) else None

    path = np.tile(ROBOT.home, (300, 1))
    path[:, 0] = np.linspace(0.0, 1.0, 300)
    contact = MoveItBodies(ROBOT, Touching()).first_contact(path, 0.04)
    assert (contact.a, contact.b) == ('hand', 'box')
    assert path[contact.index, 0] == pytest.approx(0.5, abs=0.03)
    assert MoveItBodies(ROBOT, Touching()).first_contact(path[:100], 0.04) is None


def test_a_swing_between_waypoints_leaves_the_path() -> None:
    """All waypoints are met, and still the arm is elsewhere in between."""
    path = np.stack([se3.make(np.eye(3), np.array([x, 0.0, 0.3]))
                     for x in np.linspace(0.3, 0.5, 21)])
    log, limits = CheckLog(), SafetyLimits()
    safety.check_on_path(log, path, path, limits)
    assert log.values['path distance'].startswith('0 m')
    swing = np.concatenate([path[:10], path[9:10], path[10:]])
    swing[10, 1, 3] = 0.1
    with pytest.raises(CheckError, match='path distance') as error:
        safety.check_on_path(CheckLog(), swing, path, limits)
    assert '0.1' in error.value.got
    turned = path.copy()
    turned[10, :3, :3] = se3.exp_so3(np.array([0.0, 0.0, 0.3]))
    with pytest.raises(CheckError, match='path angle'):
        safety.check_on_path(CheckLog(), turned, path, limits)
