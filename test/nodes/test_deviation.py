# SPDX-License-Identifier: Apache-2.0
"""A simulated robot that is really pushed, over real DDS: stopped, no fault, and on it goes."""

from __future__ import annotations

import numpy as np
import pytest
from execution_bench import FixedPlanner, planning_goal
from robot_server import move
from ros_graph import Graph, eventually, parameters

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core.types import GripperCommand
from fourdgen_ros.nodes.cell import CellNode
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.sim.cell import Cell

Result = ExecutePlan.Result
UP = np.array([0.0, 0.0, 150.0])  # N at the hand: more than the servos hold against
# The physics may be slower than the clock here; being late is the business of the unit tests.
VALUES = {'execution_mode': 'auto', 'heartbeat_timeout': 0.0, 'joint_state_timeout': 5.0,
          'deviation_lag': 30.0, 'time_margin': 60.0}


class Setup:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.planner = graph, FixedPlanner()
        node = graph.add(CellNode(**parameters(
            camera_rate=0.1, image_width=64, image_height=48,
            path_tolerance=0.0)))  # as ros2_control has it unless configured: nobody else stops
        self.loop = node._loop
        execution = graph.add(ExecutionNode(self.planner, **parameters(**VALUES)))
        assert eventually(lambda: execution._joints.age(execution._robot.finger_joints) < 1.0)

    @property
    def cell(self) -> Cell:
        return self.loop.cell

    def start(self, turn: float, seconds: float) -> ExecutePlan.Result:
        """Turn joint 1 by `turn` rad, then close the gripper."""
        start = self.cell.joint_positions
        goal = start + turn * np.eye(7)[0]
        self.planner.segments = (move(goal, seconds, start), GripperCommand(0.0))
        plan = self.graph.act(PlanMotion, 'plan_motion', planning_goal())
        assert plan.error_msg == ''
        return self.graph.start(ExecutePlan, 'execute_plan',
                                ExecutePlan.Goal(plan_id=plan.plan.plan_id))

    def push(self, force: np.ndarray) -> None:
        self.loop.run(lambda: self.cell.push('panda_hand', force))

    def at_rest(self) -> bool:
        return bool(np.abs(self.cell.joint_velocities).max() < 0.005)


@pytest.fixture
def setup(graph: Graph) -> Setup:
    return Setup(graph)


def test_a_push_stops_the_segment_and_the_next_one_runs(setup: Setup) -> None:
    running = setup.start(-0.3, 3.0)
    assert eventually(lambda: not setup.at_rest())
    setup.push(UP)
    assert running.wait(60.0)
    result = running.result
    assert result.error_code == Result.DEVIATED, result.error_msg
    assert 'not where it was imagined' in result.error_msg
    assert result.deviation > 0.03
    assert setup.cell.gripper_target > 0.07  # what came after was not begun
    setup.push(np.zeros(3))
    assert eventually(setup.at_rest)

    running = setup.start(0.2, 1.0)  # no fault was latched
    assert running.wait(60.0)
    result = running.result
    assert (result.error_code, result.error_msg) == (Result.NONE, '')
    assert 0.0 < result.deviation < 0.015
    assert setup.cell.opening < 0.01
