# SPDX-License-Identifier: Apache-2.0
"""The embedded planner as a whole: what it follows, what it keeps to, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.core.types import GripperCommand, JointTrajectory
from fourdgen_ros.motion.base import TimedPath
from fourdgen_ros.motion.cartesian import CartesianFollower
from fourdgen_ros.motion.embedded import EmbeddedPlanner
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.motion.planner import PathSettings, TrajectoryPlanner
from fourdgen_ros.motion.robot import RobotConfig, SceneBox, Workspace
from fourdgen_ros.motion.safety import CheckError, SafetyLimits, check_start

from .motion_cases import CRAMPED, cramped, line, moved, random_path, trajectory

ROBOT = RobotConfig.named('panda')
S = 1_000_000_000


@pytest.fixture(scope='module')
def model():
    return RobotModel(ROBOT)


@pytest.fixture(scope='module')
def planner():
    return EmbeddedPlanner(ROBOT)


@pytest.fixture
def home(model):
    return model.fk(ROBOT.home)


def arm_segments(plan):
    return [s for s in plan.segments if isinstance(s, JointTrajectory)]


def refused(check, planner, poses, *, joints=ROBOT.home, measured=0.08, now_ns=0, **kwargs):
    with pytest.raises(CheckError) as error:
        planner.plan(trajectory(poses, **kwargs), joints, measured, now_ns=now_ns)
    assert error.value.check == check, str(error.value)
    assert error.value.expected
    assert error.value.got
    return error.value


@pytest.mark.parametrize('skip_passed', [False, True])
def test_a_trajectory_of_one_pose_leads_nowhere(planner, home, skip_passed):
    with pytest.raises(InputError, match='at least 2 poses'):
        planner.plan(trajectory(home[None]), ROBOT.home, 0.08, now_ns=0, skip_passed=skip_passed)


@pytest.mark.parametrize(('noise', 'turn_noise'), [(0.0, 0.0), (0.005, 0.03)])
def test_random_tabletop_paths(planner, model, capfd, noise, turn_noise):
    rng, q, failures, n = np.random.default_rng(3), ROBOT.home, [], 30
    for _ in range(n):
        poses = random_path(rng, model.fk(q), noise, turn_noise)
        try:
            plan = planner.plan(trajectory(poses), q, 0.08, now_ns=0)
        except PlanningError as error:
            failures.append(str(error))
            q = ROBOT.home
            continue
        assert_within_limits(plan, ROBOT, 1.0, 1.0)
        assert_free(plan, model, 0.08)
        assert np.abs(arm_segments(plan)[0].positions[0] - q).max() < 1e-6
        if 'path cut' not in plan.checks:
            gaps = np.linalg.norm(plan.tcp_path[:, None, :3, 3] - poses[None, :, :3, 3], axis=2)
            assert gaps.min(axis=0).max() < 0.005 + 3.0 * noise
        q = arm_segments(plan)[-1].positions[-1]
    assert len(failures) <= 0.05 * n, failures
    assert capfd.readouterr().out == '', 'the solver must not write to stdout'


@pytest.mark.parametrize('name', CRAMPED)
def test_where_the_wrist_is_cramped_the_tool_turns_a_little_aside(planner, name):
    joints, poses = cramped(name)
    plan = planner.plan(trajectory(poses, 0.02), joints, 0.02, now_ns=0)
    assert_within_limits(plan, ROBOT, 1.0, 1.0)
    assert plan.frames >= 4
    assert plan.checks['path angle'].endswith('(at most 0.1396 rad)')


def assert_within_limits(plan, robot, velocity_scaling, acceleration_scaling):
    """Finite differences of the positions, independent of the planner's own."""
    for segment in arm_segments(plan):
        q, t = segment.positions, segment.times
        dt = t[1] - t[0]
        rest = np.concatenate([q[:1]] * 3 + [q] + [q[-1:]] * 3)
        v, a, j = (np.abs(np.diff(rest, k, axis=0)).max(axis=0) / dt**k for k in (1, 2, 3))
        assert (v <= 1.002 * velocity_scaling * robot.velocity).all()
        assert (a <= 1.002 * acceleration_scaling * robot.acceleration).all()
        assert (j <= 1.01 * robot.jerk).all()
        assert (q >= robot.lower - 1e-4).all()
        assert (q <= robot.upper + 1e-4).all()
        assert not segment.velocities[[0, -1]].any()
        assert np.abs(segment.velocities[1:-1] - (q[2:] - q[:-2]) / (2 * dt)).max() < 1e-9


def assert_free(plan, model, opening):
    for segment in arm_segments(plan):
        for q in segment.positions:
            assert model.collision(q, opening) is None


@pytest.mark.parametrize(('velocity', 'acceleration'), [(0.1, 0.1), (0.5, 0.3), (1.0, 0.2)])
def test_scaling_slows_down(home, velocity, acceleration):
    limits = SafetyLimits(velocity_scaling=velocity, acceleration_scaling=acceleration)
    slow = EmbeddedPlanner(ROBOT, limits, PathSettings(timing_factor=0.0))
    plan = slow.plan(trajectory(line(home, moved(home, x=0.1, y=0.15, z=-0.2))), ROBOT.home, 0.08,
                     now_ns=0)
    assert_within_limits(plan, ROBOT, velocity, acceleration)


def test_tcp_speed_is_kept(home):
    planner = EmbeddedPlanner(ROBOT, SafetyLimits(tcp_speed=0.1), PathSettings(timing_factor=0.0))
    plan = planner.plan(trajectory(line(home, moved(home, y=0.2))), ROBOT.home, 0.08, now_ns=0)
    speed = np.linalg.norm(np.diff(plan.tcp_path[1:, :3, 3], axis=0), axis=1) / 0.01
    assert 0.05 < speed.max() <= 0.1001


def test_never_faster_than_imagined_unless_asked(planner, home):
    path = trajectory(line(home, moved(home, y=0.05)))
    imagined = path.times[-1]
    assert planner.plan(path, ROBOT.home, 0.08, now_ns=0).duration >= imagined
    fast = EmbeddedPlanner(ROBOT, settings=PathSettings(timing_factor=0.0))
    assert fast.plan(path, ROBOT.home, 0.08, now_ns=0).duration < imagined / 2


def test_stops_for_the_gripper_where_the_future_does(planner, home, model):
    down = moved(home, z=-0.25)
    poses = np.concatenate([line(home, down, frames=4), down[None], line(down, home, frames=4)])
    opening = [0.08, 0.08, 0.08, 0.08, 0.03, 0.03, 0.03, 0.03, 0.03]
    plan = planner.plan(trajectory(poses, opening=opening), ROBOT.home, 0.08, now_ns=0)
    reach, grasp, lift = plan.segments
    assert isinstance(reach, JointTrajectory)
    assert isinstance(lift, JointTrajectory)
    assert (grasp.opening, grasp.max_effort) == (0.0, ROBOT.effort)
    assert se3.distance(model.fk(reach.positions[-1]), down)[0] < 0.004
    assert np.abs(lift.positions[0] - reach.positions[-1]).max() < 1e-9
    assert se3.distance(model.fk(lift.positions[-1]), home)[0] < 0.004
    assert plan.frames == 9


def test_opens_fully(planner, home):
    plan = planner.plan(trajectory(line(home, moved(home, y=0.1)),
                                   opening=[0.05] * 8 + [0.08]), ROBOT.home, 0.05, now_ns=0)
    assert plan.segments[-1].opening == 0.08


def test_only_the_first_frames_are_followed(planner, home, model):
    poses = line(home, moved(home, y=0.2))
    plan = planner.plan(trajectory(poses, opening=[0.08] * 6 + [0.03] * 3), ROBOT.home, 0.08,
                        frames=5, now_ns=0)
    assert plan.frames == 5
    assert [type(s) for s in plan.segments] == [JointTrajectory], 'the grasp comes later'
    assert se3.distance(plan.tcp_path[-1], poses[4])[0] < 0.004


@pytest.mark.parametrize('passed', [0, 2, 5])
def test_what_the_robot_has_passed_is_left_out(planner, home, passed):
    poses = [*(moved(home, y=-0.02 * k) for k in range(passed, 0, -1)),
             *line(home, moved(home, y=0.2))]
    plan = planner.plan(trajectory(poses), ROBOT.home, 0.08, frames=5, now_ns=0, skip_passed=True)
    assert plan.frames == 5
    assert se3.distance(plan.tcp_path[-1], poses[passed + 4])[0] < 0.004
    assert plan.tcp_path[:, 1, 3].min() > home[1, 3] - 1e-3, 'it does not go back'


def test_a_grasp_is_not_skipped_though_the_robot_is_nearer_to_what_follows(planner, home):
    there_and_back = line(moved(home, y=0.02), moved(home, y=0.1), home)
    plan = planner.plan(trajectory(there_and_back, opening=[0.08] * 5 + [0.03] * 4), ROBOT.home,
                        0.08, now_ns=0, skip_passed=True)
    assert [type(s) for s in plan.segments] == [JointTrajectory, GripperCommand, JointTrajectory]
    assert plan.segments[1].opening == 0.0


@pytest.mark.parametrize('passed', [0, 3])
def test_a_path_that_returns_is_followed_out_and_back(planner, home, passed):
    below = moved(home, z=-0.025 * passed)
    poses = line(below, moved(below, z=0.1), below)
    plan = planner.plan(trajectory(poses), ROBOT.home, 0.08, now_ns=0, skip_passed=True)
    assert plan.frames == 9 - passed
    assert plan.tcp_path[:, 2, 3].max() == pytest.approx(poses[4, 2, 3], abs=0.005)
    assert se3.distance(plan.tcp_path[-1], below)[0] < 0.004


def test_a_robot_that_is_not_on_the_path_is_not_taken_along(planner, home):
    poses = line(moved(home, z=0.05), moved(home, y=0.2, z=0.05))
    with pytest.raises(CheckError, match='start pose distance'):
        planner.plan(trajectory(poses), ROBOT.home, 0.08, now_ns=0, skip_passed=True)
    with pytest.raises(PlanningError, match='not passed yet'):
        planner.plan(trajectory(line(moved(home, y=-0.2), home)), ROBOT.home, 0.08, now_ns=0,
                     skip_passed=True)


@pytest.mark.parametrize('frames', [0, 1, 10, -1])
def test_impossible_frame_counts(planner, home, frames):
    with pytest.raises(InputError, match='frames to follow'):
        planner.plan(trajectory(line(home, home)), ROBOT.home, 0.08, frames=frames, now_ns=0)


def test_a_still_future_moves_nothing(planner, home):
    plan = planner.plan(trajectory(line(home, home)), ROBOT.home, 0.08, now_ns=0)
    assert plan.segments == ()
    assert plan.duration == 0.0
    assert 'nothing moves' in plan.checks['segments']


def test_a_still_future_may_close_the_gripper(planner, home):
    plan = planner.plan(trajectory(line(home, home), opening=[0.08] * 4 + [0.02] * 5), ROBOT.home,
                        0.08, now_ns=0)
    assert [s.opening for s in plan.segments] == [0.0]


def test_a_turned_gripper_is_the_same_gripper(planner, home):
    poses = line(home, moved(home, y=0.1, z=-0.1))
    turned = poses @ np.diag([-1.0, -1.0, 1.0, 1.0])
    plan = planner.plan(trajectory(turned), ROBOT.home, 0.08, now_ns=0)
    assert se3.distance(plan.tcp_path[-1], poses[-1])[1] < 0.02
    assert plan.checks['half turns of the gripper'] == '9'


def test_plans_expire_in_the_steady_clock(planner, home):
    path = trajectory(line(home, moved(home, y=0.1)), stamp=1_000 * S)
    plan = planner.plan(path, ROBOT.home, 0.08, now_ns=1_001 * S, steady_ns=5 * S)
    assert plan.stamp == 1_000 * S
    assert plan.expiry == 35 * S
    again = planner.plan(path, ROBOT.home, 0.08, now_ns=1_001 * S)
    assert again.expiry == 1_031 * S
    assert again.plan_id != plan.plan_id


def test_every_check_is_in_the_plan(planner, home):
    plan = planner.plan(trajectory(line(home, moved(home, y=0.1))), ROBOT.home, 0.08, now_ns=0)
    assert set(plan.checks) >= {
        'trajectory age', 'clock', 'finite numbers', 'rigid poses', 'joint state',
        'start pose distance', 'start pose angle', 'confidence', 'frame distance', 'frame angle',
        'workspace (waypoints)', 'workspace (motion)', 'table clearance (lift)',
        'table clearance (motion)', 'start state', 'joint limits (distance)',
        'joint velocity (of its limit)', 'joint acceleration (of its limit)',
        'joint jerk (of its limit)', 'joint jump', 'tcp speed', 'waypoint distance',
        'waypoint angle', 'motion stamps', 'path fraction', 'collision (now)',
        'collision (in motion)'}
    assert all(plan.checks.values())


# ------------------------------------------------------------------------------ refusals

def test_old_trajectories_are_refused(planner, home):
    poses = line(home, moved(home, y=0.1))
    refused('trajectory age', planner, poses, now_ns=31 * S)
    refused('clock', planner, poses, stamp=S, now_ns=0)


def test_wrong_frame_is_refused(planner, home):
    path = trajectory(line(home, moved(home, y=0.1)))
    with pytest.raises(CheckError, match='frame of trajectory'):
        planner.plan(replace(path, frame_id='camera'), ROBOT.home, 0.08, now_ns=0)


@pytest.mark.parametrize(('field', 'check'), [
    ('poses', 'rigid poses'), ('opening', 'finite numbers'), ('confidence', 'finite numbers'),
    ('times', 'finite numbers')])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_nan_written_into_a_trajectory_is_refused(planner, home, field, check, value):
    path = trajectory(line(home, moved(home, y=0.1)))
    getattr(path, field)[3] = value
    with pytest.raises(CheckError, match=check):
        planner.plan(path, ROBOT.home, 0.08, now_ns=0)


def test_sheared_pose_is_refused(planner, home):
    path = trajectory(line(home, moved(home, y=0.1)))
    path.poses[3, :3, :3] *= 1.1
    with pytest.raises(CheckError, match='rigid poses'):
        planner.plan(path, ROBOT.home, 0.08, now_ns=0)


@given(joint=st.integers(0, 6), value=st.sampled_from([np.nan, np.inf, -np.inf]))
@settings(deadline=None)
def test_bad_joint_states_are_refused(planner, model, joint, value):
    joints = ROBOT.home.copy()
    joints[joint] = value
    poses = line(model.fk(ROBOT.home), model.fk(ROBOT.home))
    refused('joint state', planner, poses, joints=joints)


def test_other_bad_states_are_refused(planner, home):
    poses = line(home, moved(home, y=0.1))
    refused('joint state', planner, poses, joints=ROBOT.home[:6])
    beyond = ROBOT.home.copy()
    beyond[3] = 0.0
    refused('joint state within limits', planner, poses, joints=beyond)
    for opening in (np.nan, -0.02, 0.1):
        refused('gripper opening outside its range', planner, poses, measured=opening)


def test_a_start_elsewhere_names_both_places(planner, home):
    off = moved(home, x=0.04)
    error = refused('start pose distance', planner, line(off, moved(off, y=0.1)))
    assert str(np.round(off[:3, 3], 3).tolist()) in str(error)
    assert str(np.round(home[:3, 3], 3).tolist()) in str(error)
    tilted = home.copy()
    tilted[:3, :3] = home[:3, :3] @ se3.exp_so3(np.array([0.4, 0.0, 0.0]))
    refused('start pose angle', planner, line(tilted, moved(tilted, y=0.1)))


def test_a_start_slightly_off_is_replaced_by_where_the_robot_is(planner, home):
    off = moved(home, x=0.015)
    plan = planner.plan(trajectory(line(off, moved(off, y=0.1))), ROBOT.home, 0.08, now_ns=0)
    assert np.allclose(plan.tcp_path[0], home)


def test_untracked_grippers_are_refused(planner, home):
    poses = line(home, moved(home, y=0.1))
    refused('confidence', planner, poses, confidence=0.1)
    refused('confident fraction', planner, poses, confidence=[.9, .9, .9, .1, .1, .1, .1, .1, .1])


def test_doubtful_frames_are_bridged(planner, home):
    poses = line(home, moved(home, y=0.2))
    poses[4] = moved(poses[4], z=0.2)
    confidence = np.full(9, 0.9)
    confidence[4] = 0.05
    plan = planner.plan(trajectory(poses, confidence=confidence), ROBOT.home, 0.08, now_ns=0)
    assert plan.checks['frames left out'] == '4'
    assert np.abs(plan.tcp_path[:, 2, 3] - home[2, 3]).max() < 0.005


def test_frames_without_trust_do_not_move_the_gripper(planner, home):
    poses, confidence = line(home, moved(home, y=0.1)), np.full(9, 0.9)
    confidence[3:5] = 0.02
    held = trajectory(poses, [.03, .03, .03, .08, .08, .03, .03, .03, .03], confidence)
    plan = planner.plan(held, ROBOT.home, 0.03, now_ns=0)
    assert [type(s) for s in plan.segments] == [JointTrajectory], 'what is held is not dropped'
    opened = trajectory(poses, [0.03] * 3 + [0.08] * 6, confidence)
    plan = planner.plan(opened, ROBOT.home, 0.03, now_ns=0)
    there, opening, _ = plan.segments
    assert opening.opening == 0.08
    end = plan.tcp_path[len(there.positions)]
    assert se3.distance(end, poses[5])[0] < 0.004, 'where it is first seen open'


def test_frames_without_trust_do_not_turn_the_gripper(planner, home):
    poses, confidence = line(home, moved(home, y=0.2)), np.full(9, 0.9)
    confidence[3:5] = 0.02
    for frame, angle in ((3, 80.0), (4, 160.0)):
        poses[frame, :3, :3] = home[:3, :3] @ se3.exp_so3(np.deg2rad([0.0, 0.0, angle]))
    plan = planner.plan(trajectory(poses, confidence=confidence), ROBOT.home, 0.08, now_ns=0)
    assert plan.checks['half turns of the gripper'] == '0'


def test_jumps_of_the_track_are_refused(planner, home):
    poses = line(home, home)
    poses[5:] = moved(home, x=-0.1, y=0.3)
    refused('frame distance', planner, poses)
    poses = line(home, home)
    poses[5:, :3, :3] = home[:3, :3] @ se3.exp_so3(np.array([1.7, 0.0, 0.0]))
    refused('frame angle', planner, poses)


def test_paths_into_the_table_are_lifted_or_refused(planner, home, model):
    def down_to(height):
        return line(home, moved(home, z=height - home[2, 3]))

    plan = planner.plan(trajectory(down_to(0.0)), ROBOT.home, 0.08, now_ns=0)
    assert ROBOT.tip.lowest(plan.tcp_path, 0.08).min() > -0.001
    assert float(plan.checks['table clearance (lift)'].split()[0]) > 0.008
    refused('table clearance (lift)', planner, down_to(-0.02))
    strict = EmbeddedPlanner(ROBOT, SafetyLimits(z_clearance=0.0))
    refused('table clearance (lift)', strict, down_to(0.0))


def test_the_gripper_is_not_opened_into_the_table(planner, home):
    def down(tilt, height):
        pose = moved(home, z=height - home[2, 3])
        pose[:3, :3] = pose[:3, :3] @ se3.exp_so3(np.deg2rad([tilt, 0.0, 0.0]))
        return {'poses': line(home, pose), 'opening': [0.004] * 8 + [0.08]}

    planner.plan(trajectory(**down(0.0, 0.01)), ROBOT.home, 0.004, now_ns=0)
    error = refused('table clearance (opening)', planner, **down(35.0, 0.03), measured=0.004)
    assert 'open higher up' in error.hint


def test_the_gripper_is_not_opened_into_an_obstacle(home):
    peg = SceneBox('peg', (0.02, 0.02, 0.06), tuple(home[:3, 3] + [0.0, 0.05, -0.02]))
    planner = EmbeddedPlanner(replace(ROBOT, scene=(*ROBOT.scene, peg)))
    error = refused('collision (opening)', planner, line(home, home),
                    opening=[0.004] * 7 + [0.08] * 2, measured=0.004)
    assert 'peg' in error.got


def test_workspace_holds_for_waypoints(planner, home):
    refused('workspace (waypoints)', planner, line(home, moved(home, x=0.1, z=0.6)))


def test_a_workspace_bound_of_zero_holds(home):
    robot = replace(ROBOT, workspace=Workspace(min=(None, 0.0, None)))
    start = ROBOT.home.copy()
    start[0] = 0.1
    planner = EmbeddedPlanner(robot)
    tcp = RobotModel(robot).fk(start)
    planner.plan(trajectory(line(tcp, moved(tcp, y=0.1))), start, 0.08, now_ns=0)
    error = refused('workspace (waypoints)', planner, line(tcp, moved(tcp, y=-0.1)), joints=start)
    assert 'along y' in error.got


def test_obstacles_are_refused(home):
    wall = SceneBox('wall', (0.4, 0.02, 0.6), (0.45, 0.15, 0.3))
    planner = EmbeddedPlanner(replace(ROBOT, scene=(*ROBOT.scene, wall)))
    error = refused('collision (in motion)', planner, line(home, moved(home, y=0.25)))
    assert 'wall' in error.got
    around = SceneBox('block', (0.1, 0.1, 0.1), tuple(home[:3, 3]))
    blocked = EmbeddedPlanner(replace(ROBOT, scene=(around,)))
    refused('collision (now)', blocked, line(home, moved(home, y=0.1)))


def test_unreachable_paths_are_cut_or_refused(model, home):
    far = EmbeddedPlanner(replace(ROBOT, workspace=Workspace()))
    plan = far.plan(trajectory(line(home, moved(home, x=0.4))), ROBOT.home, 0.08, now_ns=0)
    assert 'path cut' in plan.checks
    assert 0.5 <= float(plan.checks['path fraction'].split()[0]) < 1.0
    assert plan.frames < 9
    assert plan.tcp_path[-1, 0, 3] > home[0, 3] + 0.2
    refused('path fraction', far, line(home, moved(home, x=1.0)))


class HalfWay(CartesianFollower):
    """Gets over a bit more than the first half of every path."""

    def follow(self, poses, joints, **kwargs):
        end = int(0.51 * (len(poses) - 1))
        timed = super().follow(poses[:end + 1], joints, **kwargs)
        return TimedPath(timed.positions, timed.dt, timed.fraction * end / (len(poses) - 1))


def test_a_path_that_is_cut_is_no_faster_than_imagined_and_names_its_last_frame(model, home):
    slow = line(home, moved(home, y=0.02), frames=9)
    poses = np.concatenate([slow, line(slow[-1], moved(home, y=0.14), frames=4)[1:]])
    path = trajectory(poses)
    planner = TrajectoryPlanner(ROBOT, settings=PathSettings(pose_noise=(1e-4, 1e-3)),
                                follower=HalfWay(ROBOT), kinematics=model, bodies=model)
    plan = planner.plan(path, ROBOT.home, 0.08, now_ns=0)
    assert poses[8, 1, 3] < plan.tcp_path[-1, 1, 3] < poses[9, 1, 3]
    assert plan.frames == 9, 'frame 8 is the last one that was passed'
    assert plan.duration >= path.times[8]


def test_nothing_is_grasped_after_a_cut(home):
    far = EmbeddedPlanner(replace(ROBOT, workspace=Workspace()))
    plan = far.plan(trajectory(line(home, moved(home, x=0.4)), opening=[0.08] * 8 + [0.03]),
                    ROBOT.home, 0.08, now_ns=0)
    assert not any(isinstance(s, GripperCommand) for s in plan.segments)


def test_an_arm_that_moved_meanwhile_is_refused(planner, home):
    plan = planner.plan(trajectory(line(home, moved(home, y=0.1))), ROBOT.home, 0.08, now_ns=0)
    check_start(plan, ROBOT.home + 0.005, SafetyLimits())
    with pytest.raises(CheckError, match='start state'):
        check_start(plan, ROBOT.home + 0.02, SafetyLimits())
