# SPDX-License-Identifier: Apache-2.0
"""A robot, the execution node and calls of its interfaces, for the tests of the node."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import numpy as np
from robot_server import HOME, Robot
from ros_graph import Graph, eventually, parameters
from std_msgs.msg import String

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core.types import GripperCommand, GripperTrajectory, JointTrajectory, MotionPlan
from fourdgen_ros.motion.kinematics import ForwardKinematics
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.execution import ExecutionNode

GOAL = HOME + 0.2
# Motions that a test ends early last LONG s, so that whoever arrives late still finds them under
# way; robot, node and client share one process here, so silence is only what lasts PATIENT s.
LONG = 60.0
PATIENT = 5.0


class FixedPlanner:
    """Plans the same segments whatever the trajectory."""

    def __init__(self, *segments: JointTrajectory | GripperCommand, lifetime: float = 30.0) -> None:
        self.segments, self.lifetime = segments, lifetime
        robot = RobotConfig.named('panda')
        self._kinematics = ForwardKinematics(robot, robot.urdf.read_text())
        self.error: Exception | None = None
        self.calls: list[dict[str, Any]] = []
        self.thinks = threading.Event()  # while set, a plan does not come to an end

    def plan(self, trajectory: GripperTrajectory, joints: np.ndarray, opening: float, *,
             frames: int | None = None, now_ns: int, steady_ns: int | None = None,
             skip_passed: bool = False) -> MotionPlan:
        self.calls.append({'joints': joints, 'opening': opening, 'frames': frames,
                           'now_ns': now_ns, 'skip_passed': skip_passed})
        while self.thinks.is_set():
            time.sleep(0.005)
        if self.error is not None:
            raise self.error
        return MotionPlan(uuid.uuid4().hex, self.segments, {'workspace': 'inside'},
                          trajectory.stamp, steady_ns + round(self.lifetime * 1e9),
                          frames or len(trajectory.poses), self._path(joints))

    def _path(self, joints: np.ndarray) -> np.ndarray:
        if len(joints) != len(HOME):
            return np.eye(4)[None]  # another robot, of which only the gripper moves
        arm = [s.positions for s in self.segments if isinstance(s, JointTrajectory)]
        return self._kinematics.fk_path(np.concatenate([joints[None], *arm]))


def planning_goal(**fields: Any) -> PlanMotion.Goal:
    trajectory = GripperTrajectory(
        np.tile(np.eye(4), (3, 1, 1)), np.full(3, 0.08), np.ones(3), 0.4 * np.arange(3),
        'panda_link0', time.time_ns())
    return PlanMotion.Goal(
        trajectory=conversions.gripper_trajectory_to_msg(trajectory, 'f'), **fields)


class Bench:
    """Robot, execution node and calls."""

    def __init__(self, graph: Graph, planner: Any, robot: Robot | None = None,
                 robot_name: str = 'panda', **values: Any) -> None:
        self.graph, self.planner = graph, planner
        self.robot = graph.add(robot if robot is not None else Robot())
        self.events = graph.listen(String, 'trajectory_execution_event')
        values = {'execution_mode': 'auto', 'heartbeat_timeout': 0.0,
                  'joint_state_timeout': PATIENT, 'robot': robot_name, **values}
        self.node = graph.add(ExecutionNode(planner, **parameters(**values)))
        assert eventually(lambda: self.joints_age() < 1.0)

    def joints_age(self) -> float:
        return self.node._joints.age(self.robot.config.finger_joints)

    def joints(self) -> list[float]:
        """Positions of the arm that the node has heard of last, finite or not."""
        return [self.node._joints._positions[name][0] for name in self.robot.config.joints]

    def plan(self, **fields: Any) -> Any:
        return self.graph.act(PlanMotion, 'plan_motion', planning_goal(**fields))

    def start(self, plan_id: str | None = None, **options: Any) -> Any:
        plan_id = self.plan().plan.plan_id if plan_id is None else plan_id
        return self.graph.start(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id=plan_id),
                                **options)

    def execute(self, plan_id: str | None = None) -> Any:
        running = self.start(plan_id)
        assert running.wait(30.0)
        return running.result

    def start_moving(self) -> Any:
        running = self.start()
        assert eventually(lambda: self.robot.moving and not np.array_equal(self.robot.q, HOME))
        return running

    def holds(self) -> bool:
        """Whether the arm comes to rest short of the goal."""
        return (eventually(lambda: not self.robot.moving)
                and not np.allclose(self.robot.q, GOAL, atol=1e-3))
