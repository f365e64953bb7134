# SPDX-License-Identifier: Apache-2.0
"""Every gate in front of a motion, with the node's own planner and over real DDS: the plan is
refused by name, and the robot's controllers hear nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from execution_bench import Bench
from robot_server import HOME, Robot
from ros_graph import Graph, eventually

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core import se3
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.motion.kinematics import ForwardKinematics
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.msg import GripperTrajectory as Message
from fourdgen_ros.nodes import conversions

Code = PlanMotion.Result
FRAMES = 9


class Gates:
    """Node with its own planner, and a robot that counts what it is sent."""

    def __init__(self, graph: Graph) -> None:
        self.bench = Bench(graph, None)
        robot = RobotConfig.named('panda')
        self.start = ForwardKinematics(robot, robot.urdf.read_text()).fk(HOME)

    @property
    def robot(self) -> Robot:
        return self.bench.robot

    def message(self, *, to: tuple[float, float, float] = (0.0, 0.0, 0.05), age: float = 0.0,
                confidence: float = 0.9) -> Message:
        """A straight path from where the robot is."""
        poses = np.tile(self.start, (FRAMES, 1, 1))
        poses[:, :3, 3] += np.linspace(0.0, 1.0, FRAMES)[:, None] * np.array(to)
        trajectory = GripperTrajectory(
            poses, np.full(FRAMES, 0.08), np.full(FRAMES, confidence), 0.4 * np.arange(FRAMES),
            'panda_link0', time.time_ns() - round(age * 1e9))
        return conversions.gripper_trajectory_to_msg(trajectory, 'f')

    def plan(self, message: Message) -> PlanMotion.Result:
        return self.bench.graph.act(PlanMotion, 'plan_motion', PlanMotion.Goal(trajectory=message))


@pytest.fixture(scope='module')
def gates() -> Iterator[Gates]:
    graph = Graph()
    yield Gates(graph)
    graph.close()


def shifted(gates: Gates, twist: list[float]) -> Message:
    message = gates.message()
    for pose in message.poses:
        T = conversions.pose_to_matrix(pose)
        moved = conversions.matrix_to_pose(T @ se3.exp(np.array(twist)))
        pose.position, pose.orientation = moved.position, moved.orientation
    return message


def with_pose(gates: Gates, frame: int, **numbers: float) -> Message:
    message = gates.message()
    for name, value in numbers.items():
        part = message.poses[frame].position if name in 'xyz' else message.poses[frame].orientation
        setattr(part, name[-1], value)
    return message


def in_frame(gates: Gates, frame: str) -> Message:
    message = gates.message()
    message.header.frame_id = frame
    return message


CASES: dict[str, tuple[Callable[[Gates], Message], int, str]] = {
    'workspace': (lambda g: g.message(to=(0.45, 0.0, 0.0)), Code.CHECK_FAILED,
                  "check 'workspace (waypoints)'"),
    'table': (lambda g: g.message(to=(0.0, 0.0, -float(g.start[2, 3]) - 0.05)), Code.CHECK_FAILED,
              "check 'table clearance"),
    'confidence': (lambda g: g.message(confidence=0.1), Code.CHECK_FAILED, "check 'confidence'"),
    'age': (lambda g: g.message(age=31.0), Code.CHECK_FAILED, "check 'trajectory age'"),
    'clock': (lambda g: g.message(age=-5.0), Code.CHECK_FAILED, "check 'clock'"),
    'start distance': (lambda g: shifted(g, [0.05, 0, 0, 0, 0, 0]), Code.CHECK_FAILED,
                       "check 'start pose distance'"),
    'start angle': (lambda g: shifted(g, [0, 0, 0, 0.45, 0, 0]), Code.CHECK_FAILED,
                    "check 'start pose angle'"),
    'jump': (lambda g: with_pose(g, 4, y=0.5), Code.CHECK_FAILED, "check 'frame distance'"),
    'frame': (lambda g: in_frame(g, 'map'), Code.CHECK_FAILED, "check 'frame of trajectory'"),
    'NaN': (lambda g: with_pose(g, 3, x=np.nan), Code.INVALID_TRAJECTORY, 'poses'),
    'zero quaternion': (lambda g: with_pose(g, 3, qx=0.0, qy=0.0, qz=0.0, qw=0.0),
                        Code.INVALID_TRAJECTORY, 'quaternion'),
    'long quaternion': (lambda g: with_pose(g, 3, qx=1.0, qy=1.0), Code.INVALID_TRAJECTORY,
                        'quaternion'),
    'no poses': (lambda g: Message(), Code.INVALID_TRAJECTORY, ''),
}


@pytest.mark.parametrize('case', list(CASES))
def test_what_fails_a_gate_moves_nothing(gates: Gates, case: str) -> None:
    make, code, text = CASES[case]
    assert gates.plan(gates.message()).error_code == Code.NONE  # passes but for this
    result = gates.plan(make(gates))
    assert (result.error_code, text in result.error_msg) == (code, True), result.error_msg
    assert result.plan.segments == []
    assert gates.bench.execute(result.plan.plan_id).error_code == ExecutePlan.Result.UNKNOWN_PLAN
    assert (gates.robot.goals, gates.robot.gripper_goals) == ([], [])


def test_a_robot_that_does_not_know_where_it_is_is_not_moved(gates: Gates) -> None:
    plan_id = gates.plan(gates.message()).plan.plan_id
    gates.robot.q = np.full(7, np.nan)
    try:
        assert eventually(lambda: not np.isfinite(gates.bench.joints()).all())
        assert gates.plan(gates.message()).error_code == Code.NO_JOINT_STATE
        assert gates.bench.execute(plan_id).error_code == ExecutePlan.Result.CHECK_FAILED
        assert gates.robot.goals == []
    finally:
        gates.robot.q = HOME.copy()


def test_what_passes_every_gate_moves(gates: Gates) -> None:
    """Last, and the control of all the others."""
    assert eventually(lambda: gates.plan(gates.message()).error_code == Code.NONE)
    result = gates.bench.execute(gates.plan(gates.message()).plan.plan_id)
    assert (result.error_code, result.error_msg) == (ExecutePlan.Result.NONE, '')
    assert len(gates.robot.goals) == 1
