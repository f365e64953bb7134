# SPDX-License-Identifier: Apache-2.0
"""The simulated cell as its users see it: a process of its own, over real DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory, GripperCommand
from control_msgs.msg import JointTolerance
from ros_graph import Graph
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectoryPoint

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.synchroniser import Synchroniser
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.conversions import (
    joint_state_to_dict,
    observation_from_set,
    seconds_to_duration,
    stamp_to_ns,
)
from fourdgen_ros.nodes.tf import Transforms
from fourdgen_ros.sim.cell import Cell, CellState
from fourdgen_ros.sim.expert import CONTROL_DT, Expert
from fourdgen_ros.srv import CheckSuccess, GetCellState, ResetCell

TASK = 'PlaceAppleFromBowlIntoBin'
CAMERAS = ('cam_left', 'cam_right')
ARM = [f'panda_joint{i}' for i in range(1, 8)]
FJT = 'panda_arm_controller/follow_joint_trajectory'
HAND = 'panda_hand_controller/gripper_cmd'
TIMEOUT = 60.0  # s; generous, because tests may share their cores
Codes = FollowJointTrajectory.Result


class Process:
    """The cell in a process of its own, and a client."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'fourdgen_ros.nodes.cell', '--ros-args', '-p', f'task:={TASK}',
             '-p', 'seed:=4', '-p', 'camera_rate:=5.0'])
        self.graph = Graph()
        client = self.graph.client
        self.transforms = Transforms(client)
        self.sync = Synchroniser(CAMERAS, slop_s=0.0)
        self._arrived = threading.Condition()
        self._state: JointState | None = None
        client.create_subscription(JointState, '/joint_states', self._on_state, qos.SENSOR,
                                   callback_group=client.group)
        for camera in CAMERAS:
            for kind, topic, message in (
                    ('color', 'color/image_raw', Image),
                    ('depth', 'aligned_depth_to_color/image_raw', Image),
                    ('info', 'color/camera_info', CameraInfo)):
                client.create_subscription(message, f'{camera}/{topic}', self._feed(camera, kind),
                                           qos.SENSOR)

    def _feed(self, camera: str, kind: Any) -> Callable[[Any], None]:
        return lambda m: self.sync.add(camera, kind, stamp_to_ns(m.header.stamp), m)

    def _on_state(self, msg: JointState) -> None:
        with self._arrived:
            self._state = msg
            self._arrived.notify_all()

    def state(self, until: Callable[[JointState], bool] = lambda _: True) -> JointState:
        """The next joint state for which `until` holds."""
        with self._arrived:
            self._state = None
            assert self._arrived.wait_for(
                lambda: self._state is not None and until(self._state), TIMEOUT)
            return self._state

    def arm(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (7,) now."""
        joints = joint_state_to_dict(self.state())
        return tuple(np.array([joints[name][i] for name in ARM]) for i in (0, 1))

    def reset(self, seed: int) -> None:
        response = self.graph.call(ResetCell, 'cell/reset', ResetCell.Request(seed=seed), TIMEOUT)
        assert response.success, response.message

    def cell_state(self) -> GetCellState.Response:
        response = self.graph.call(GetCellState, 'cell/get_state', timeout=TIMEOUT)
        assert response.success, response.message
        return response

    def move(self, goal: FollowJointTrajectory.Goal, **options: Any) -> Any:
        return self.graph.start(FollowJointTrajectory, FJT, goal, **options)

    def grip(self, position: float) -> GripperCommand.Result:
        goal = GripperCommand.Goal()
        goal.command.position = position
        return self.graph.act(GripperCommand, HAND, goal, TIMEOUT)


@pytest.fixture(scope='module')
def cell() -> Iterator[Process]:
    process = Process()
    process.state()
    yield process
    process.graph.close()
    process.process.send_signal(signal.SIGINT)
    code = process.process.wait(30.0)
    assert code == 0  # a clean end on Ctrl-C


def goal_of(times: Any, positions: Any, velocities: Any = None,
            names: list[str] = ARM) -> FollowJointTrajectory.Goal:
    goal = FollowJointTrajectory.Goal()
    goal.trajectory.joint_names = list(names)
    for i, (t, q) in enumerate(zip(times, positions, strict=True)):
        goal.trajectory.points.append(JointTrajectoryPoint(
            positions=np.asarray(q, float).tolist(), time_from_start=seconds_to_duration(t),
            velocities=[] if velocities is None else np.asarray(velocities[i], float).tolist()))
    return goal


def smooth(start: np.ndarray, end: np.ndarray, seconds: float) -> FollowJointTrajectory.Goal:
    """From rest to rest: one cubic, given by its two ends."""
    return goal_of([0.0, seconds], [start, end], np.zeros((2, 7)))


def ended(running: Any) -> Any:
    assert running.wait(TIMEOUT)
    return running.result


def test_cameras_give_what_a_realsense_gives_and_all_at_one_instant(cell):
    newer = stamp_to_ns(cell.state().header.stamp)
    synced = cell.sync.wait(newer, TIMEOUT)
    assert synced is not None, cell.sync.error()
    assert synced.skew_s == 0.0
    for camera in CAMERAS:
        frames = synced.frames[camera]
        assert (frames.color.encoding, frames.depth.encoding) == ('rgb8', '16UC1')
        assert {m.header.frame_id for m in (frames.color, frames.depth, frames.info)} == {
            f'{camera}_color_optical_frame'}
        assert (frames.color.width, frames.color.height) == (640, 480)
        assert (frames.depth.width, frames.depth.height) == (640, 480)
    observation = observation_from_set(synced, CAMERAS)
    assert observation.reference.camera == 'cam_left'
    model = Cell(TASK, 4)
    for view in observation.views:
        T = cell.transforms.lookup('panda_link0', view.frame_id, view.stamp, timeout_s=TIMEOUT)
        np.testing.assert_allclose(T, model.T_base_camera(view.camera), atol=1e-9)
        np.testing.assert_allclose(view.K, model.intrinsics(view.camera, 480, 640))
        # The table is the plane z = 0 of the base frame: half of what is seen lies on it.
        points = se3.apply(T, pointmap(view.depth, view.K).astype(float))
        heights = points[..., 2][np.isfinite(points[..., 2])]
        assert np.mean(np.abs(heights) < 0.01) > 0.2
        assert view.rgb.std() > 20


def test_tf_and_joint_states_agree_with_the_kinematics(cell):
    state = cell.state()
    assert state.name == [*ARM, 'panda_finger_joint1', 'panda_finger_joint2']
    stamp = stamp_to_ns(state.header.stamp)
    assert abs(cell.graph.client.get_clock().now().nanoseconds - stamp) < 2e9
    T = cell.transforms.lookup('panda_link0', 'panda_hand_tcp', stamp, timeout_s=TIMEOUT)
    model = Cell(TASK, 4)
    model.set_robot(np.array(state.position[:7]), 2 * state.position[7])
    np.testing.assert_allclose(T, model.tcp_pose(), atol=1e-4)
    for finger in ('panda_leftfinger', 'panda_rightfinger'):
        cell.transforms.lookup('panda_hand', finger, stamp)


def test_a_motion_with_shuffled_joints_arrives_and_tells_its_progress(cell):
    cell.reset(4)
    q, _ = cell.arm()
    target = q + 0.2 * np.array([1, -1, 1, 1, -1, 1, 1])
    order = [3, 0, 6, 2, 5, 1, 4]
    goal = goal_of([0.0, 1.0], [q[order], target[order]], np.zeros((2, 7)),
                   names=[ARM[i] for i in order])
    feedback = []
    running = cell.move(goal, feedback=feedback.append)
    result = ended(running)
    assert running.succeeded, result.error_string
    assert (result.error_code, result.error_string) == (Codes.SUCCESSFUL, '')
    np.testing.assert_allclose(cell.arm()[0], target, atol=0.02)
    assert len(feedback) >= 5
    for message in feedback:
        assert message.joint_names == ARM
        np.testing.assert_allclose(
            np.array(message.desired.positions) - message.actual.positions,
            message.error.positions, atol=1e-12)
    assert feedback[-1].desired.positions[0] > feedback[0].desired.positions[0]


def test_positions_alone_lead_there_from_wherever_the_arm_is(cell):
    q, _ = cell.arm()
    running = cell.move(goal_of([0.8], [q + 0.04]))
    result = ended(running)
    assert running.succeeded, result.error_string
    np.testing.assert_allclose(cell.arm()[0], q + 0.04, atol=0.02)


def test_wrong_goals_are_refused_and_disturb_nothing(cell):
    q, _ = cell.arm()
    target = q - 0.15
    moving = cell.move(smooth(q, target, 2.0))
    wrong = goal_of([1.0], [q[:6]], names=ARM[:6])
    assert ended(cell.move(wrong)).error_code == Codes.INVALID_JOINTS
    far = ended(cell.move(smooth(q + 1.0, q, 1.0)))
    assert far.error_code == Codes.INVALID_GOAL
    assert 'rad away from panda_joint' in far.error_string
    result = ended(moving)
    assert moving.succeeded, result.error_string
    np.testing.assert_allclose(cell.arm()[0], target, atol=0.02)


def test_cancel_holds_at_once(cell):
    cell.reset(4)
    q, _ = cell.arm()
    under_way = threading.Event()

    def watch(message: Any) -> None:
        if abs(message.actual.positions[0] - q[0]) > 0.1:
            under_way.set()

    running = cell.move(smooth(q, q + [1.5, 0, 0, 0, 0, 0, 0], 4.0), feedback=watch)
    assert under_way.wait(TIMEOUT)
    running.cancel()
    ended(running)
    assert running.status == GoalStatus.STATUS_CANCELED
    cell.state(until=lambda s: np.abs(s.velocity[:7]).max() < 0.02)
    rest = cell.arm()[0]
    assert rest[0] < q[0] + 1.0
    later = stamp_to_ns(cell.state().header.stamp) + 500_000_000
    cell.state(until=lambda s: stamp_to_ns(s.header.stamp) > later)
    np.testing.assert_allclose(cell.arm()[0], rest, atol=0.01)


def test_a_new_goal_preempts_the_old_one(cell):
    cell.reset(4)
    q, _ = cell.arm()
    moving = threading.Event()
    old = cell.move(smooth(q, q + 0.5, 10.0), feedback=lambda _: moving.set())
    assert moving.wait(TIMEOUT)
    new = cell.move(goal_of([1.0], [q]))
    result = ended(old)
    assert old.status == GoalStatus.STATUS_ABORTED
    assert 'preempted' in result.error_string
    assert ended(new).error_code == Codes.SUCCESSFUL
    np.testing.assert_allclose(cell.arm()[0], q, atol=0.02)


@pytest.mark.parametrize(('field', 'code', 'text'), [
    ('path_tolerance', Codes.PATH_TOLERANCE_VIOLATED, 's into the path'),
    ('goal_tolerance', Codes.GOAL_TOLERANCE_VIOLATED, 's after the end')])
def test_a_violated_tolerance_aborts_with_its_code_and_holds(cell, field, code, text):
    cell.reset(4)
    q, _ = cell.arm()
    goal = smooth(q, q + [0.0, 0.3, 0, 0, 0, 0, 0], 0.5)
    setattr(goal, field, [JointTolerance(name='panda_joint2', position=1e-7)])
    goal.goal_time_tolerance = seconds_to_duration(0.1)
    running = cell.move(goal)
    result = ended(running)
    assert running.status == GoalStatus.STATUS_ABORTED
    assert result.error_code == code
    assert text in result.error_string
    assert 'panda_joint2' in result.error_string
    cell.state(until=lambda s: np.abs(s.velocity[:7]).max() < 0.02)


def test_the_empty_gripper_reaches_its_goal_and_refuses_nonsense(cell):
    cell.reset(4)
    for position in (0.0, 0.03, 0.04):
        result = cell.grip(position)
        assert result.reached_goal
        assert not result.stalled
        assert result.position == pytest.approx(position, abs=0.001)
        np.testing.assert_allclose(cell.state().position[7:], position, atol=0.001)
    with pytest.raises(Exception, match='rejected'):
        cell.grip(0.08)


def test_a_reset_is_exact_and_aborts_what_moves(cell):
    cell.reset(8)
    q, _ = cell.arm()
    moving = threading.Event()
    running = cell.move(smooth(q, q + 0.5, 10.0), feedback=lambda _: moving.set())
    assert moving.wait(TIMEOUT)
    cell.reset(7)
    assert 'reset' in ended(running).error_string
    response = cell.cell_state()
    assert (response.task, response.seed) == (TASK, 7)
    state = CellState.from_array(response.state, response.task)
    model = Cell(TASK, 7)
    model.step(state.physics[0])  # the time since the reset
    np.testing.assert_array_equal(model.state().to_array(), state.to_array())
    assert np.abs(Cell(TASK, 8).state().physics[1:24] - state.physics[1:24]).max() > 0.02


def test_an_unknown_task_is_refused_with_the_known_ones(cell):
    response = cell.graph.call(ResetCell, 'cell/reset', ResetCell.Request(task='Juggle'), TIMEOUT)
    assert not response.success
    assert TASK in response.message


def test_the_whole_task_can_be_done_over_the_controllers(cell):
    """The expert plays the task in a copy of the cell; its motion is then sent to the real one."""
    cell.reset(11)
    progress = cell.graph.call(CheckSuccess, 'cell/check_success', timeout=TIMEOUT)
    assert not progress.success
    segments = expert_segments(11)
    stalls = []
    q = cell.arm()[0]
    for opening, joints, speeds in segments:
        result = cell.grip(opening / 2)
        stalls.append(result.stalled)
        times = CONTROL_DT * 5 * np.arange(1, len(joints) + 1)
        running = cell.move(goal_of(times, joints, speeds))
        q = ended(running)
        assert running.succeeded, q.error_string
    assert any(stalls)  # around the apple
    done = cell.graph.call(CheckSuccess, 'cell/check_success', timeout=TIMEOUT)
    assert done.success, done.stage


def expert_segments(seed: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(opening, joints (n, 7), joint velocities (n, 7)) at 10 Hz between changes of the opening."""
    model = Cell(TASK, seed)
    expert = Expert(model)
    segments: list[tuple[float, list, list]] = []
    for _ in range(1000):
        q, qd, opening = expert.step()
        if not segments or opening != segments[-1][0]:
            segments.append((opening, [], []))
        segments[-1][1].append(q)
        segments[-1][2].append(qd)
        model.set_arm_target(q, qd)
        model.set_gripper_target(opening)
        model.step(CONTROL_DT)
        if expert.resting and model.success():
            break
    assert model.success()
    out = []
    for opening, joints, speeds in segments:
        keep = slice(None, None, -5)
        qd = np.array(speeds[keep][::-1])
        qd[-1] = 0.0
        out.append((opening, np.array(joints[keep][::-1]), qd))
    return out
