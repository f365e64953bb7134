# SPDX-License-Identifier: Apache-2.0
"""A stand-in for move_group over real DDS: the services and the action that this package uses.

It answers as upstream's code does, its weaknesses included: SUCCESS whatever the fraction, the
velocity scaling 0 as full speed, a cancel of `execute_trajectory` accepted and without effect, a
collision matrix that replaces the one before, and no answer to a path of a link that is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from control_msgs.action import FollowJointTrajectory
from geometry_msgs.msg import PoseStamped
from moveit_msgs.action import ExecuteTrajectory
from moveit_msgs.msg import AllowedCollisionEntry, ContactInformation, MoveItErrorCodes
from moveit_msgs.srv import (
    ApplyPlanningScene,
    GetCartesianPath,
    GetPlanningScene,
    GetPositionFK,
    GetStateValidity,
)
from rclpy.action import ActionServer, CancelResponse
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectoryPoint

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import PlanningError
from fourdgen_ros.motion.cartesian import CartesianFollower
from fourdgen_ros.motion.kinematics import RobotModel
from fourdgen_ros.motion.robot import RobotConfig, SceneBox
from fourdgen_ros.motion.timing import derivatives
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import SafeActionClient, send_goal
from fourdgen_ros.nodes.base import StageNode

ROBOT = RobotConfig.named('panda')
RESAMPLED = 0.1  # s between points, as upstream's time law has it
T_MODEL_BASE = se3.make(np.eye(3), np.array([0.3, -0.2, 0.8]))  # the base stands on a pedestal


class MoveGroupServer(StageNode):
    """Plans with roboplan. `change(response)` lets a path be wrong; `blocked(q)` adds obstacles;
    `reach` is the share of the waypoints that it gets to; `links` are those that it knows, and
    `tool` (4, 4) is where its TCP is, seen from ours. Services in `without` are switched off.
    """

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        super().__init__('move_group')
        self.links, self.tool = {ROBOT.base_link, ROBOT.tcp_link}, np.eye(4)
        self.fk_requests: list[GetPositionFK.Request] = []
        self.requests: list[GetCartesianPath.Request] = []
        self.scenes: list[Any] = []
        self.executed: list[Any] = []
        self.reach, self.takes_scenes = 1.0, True
        self.change: Callable[[GetCartesianPath.Response], None] = lambda response: None
        self.blocked: Callable[[np.ndarray], bool] = lambda q: False
        self.execute_error: MoveItErrorCodes | None = None
        self._lock = threading.Lock()
        self._follower = CartesianFollower(ROBOT)
        self._model = RobotModel(replace(ROBOT, scene=()))
        # As an SRDF makes it.
        self.names = ['panda_hand', 'panda_leftfinger']
        self.matrix = {frozenset(self.names)}
        for kind, name, callback in (
                (GetPlanningScene, 'get_planning_scene', self._get_scene),
                (ApplyPlanningScene, 'apply_planning_scene', self._apply_scene),
                (GetCartesianPath, 'compute_cartesian_path', self._path),
                (GetPositionFK, 'compute_fk', self._poses),
                (GetStateValidity, 'check_state_validity', self._valid)):
            if name not in without:
                self.create_service(kind, name, callback, callback_group=self.group)
        self._stop = threading.Event()
        self.create_subscription(String, 'trajectory_execution_event', self._on_event, 10,
                                 callback_group=self.group)
        self._controller = SafeActionClient(self, FollowJointTrajectory,
                                            'panda_arm_controller/follow_joint_trajectory')
        ActionServer(self, ExecuteTrajectory, 'execute_trajectory', self._execute,
                     cancel_callback=lambda _: CancelResponse.ACCEPT, callback_group=self.group)

    def _get_scene(self, _: Any, response: Any) -> Any:
        matrix = response.scene.allowed_collision_matrix
        matrix.entry_names = list(self.names)
        matrix.entry_values = [
            AllowedCollisionEntry(enabled=[frozenset((a, b)) in self.matrix for b in self.names])
            for a in self.names]
        return response

    def _apply_scene(self, request: Any, response: Any) -> Any:
        scene = request.scene
        self.scenes.append(scene)
        if scene.allowed_collision_matrix.entry_names:
            self.names = list(scene.allowed_collision_matrix.entry_names)
            self.matrix = {
                frozenset((a, b))
                for a, row in zip(self.names, scene.allowed_collision_matrix.entry_values,
                                  strict=True)
                for b, allowed in zip(self.names, row.enabled, strict=True) if allowed}
        boxes = []
        for item in scene.world.collision_objects:
            p = item.pose.position
            touches = tuple(next(iter(pair - {item.id})) for pair in self.matrix if item.id in pair)
            boxes.append(SceneBox(item.id, tuple(item.primitives[0].dimensions), (p.x, p.y, p.z),
                                  touches))
        with self._lock:
            self._model = RobotModel(replace(ROBOT, scene=tuple(boxes)))
        response.success = self.takes_scenes
        return response

    def _poses(self, request: Any, response: Any) -> Any:
        self.fk_requests.append(request)
        state = dict(zip(request.robot_state.joint_state.name,
                         request.robot_state.joint_state.position, strict=True))
        with self._lock:
            tcp = self._model.fk(np.array([state[name] for name in ROBOT.joints])) @ self.tool
        for link in request.fk_link_names:
            if link in self.links:
                T = T_MODEL_BASE if link == ROBOT.base_link else T_MODEL_BASE @ tcp
                response.pose_stamped.append(PoseStamped(pose=conversions.matrix_to_pose(T)))
                response.fk_link_names.append(link)
        known = len(response.fk_link_names) == len(request.fk_link_names)
        response.error_code.val = (MoveItErrorCodes.SUCCESS if known
                                   else MoveItErrorCodes.INVALID_LINK_NAME)
        return response

    def _path(self, request: Any, response: Any) -> Any:
        self.requests.append(request)
        if request.link_name not in self.links:
            raise RuntimeError(f'no link {request.link_name!r}: upstream ends here')
        response.error_code.val = MoveItErrorCodes.SUCCESS
        state = dict(zip(request.start_state.joint_state.name,
                         request.start_state.joint_state.position, strict=True))
        q = np.array([state[name] for name in ROBOT.joints])
        with self._lock:
            poses = np.stack([self._model.fk(q), *map(conversions.pose_to_matrix,
                                                      request.waypoints)])
            reached = round(self.reach * (len(poses) - 1))
            try:
                timed = self._follower.follow(
                    poses[:reached + 1], q, variant=0,
                    velocity_scaling=request.max_velocity_scaling_factor or 1.0,
                    acceleration_scaling=request.max_acceleration_scaling_factor or 1.0)
            except PlanningError:
                self.change(response)
                return response
        velocity = derivatives(timed.positions, timed.dt)[0]
        every = round(RESAMPLED / timed.dt)
        chosen = sorted({*range(0, len(timed.positions), every), len(timed.positions) - 1})
        response.fraction = timed.fraction * reached / (len(poses) - 1)
        response.solution.joint_trajectory.joint_names = list(ROBOT.joints)
        response.solution.joint_trajectory.points = [
            JointTrajectoryPoint(
                positions=timed.positions[i].tolist(), velocities=velocity[i].tolist(),
                time_from_start=conversions.seconds_to_duration(i * timed.dt)) for i in chosen]
        self.change(response)
        return response

    def _valid(self, request: Any, response: Any) -> Any:
        state = dict(zip(request.robot_state.joint_state.name,
                         request.robot_state.joint_state.position, strict=True))
        q = np.array([state[name] for name in ROBOT.joints])
        opening = ROBOT.opening_at(np.array([state[name] for name in ROBOT.finger_joints]))
        with self._lock:
            pair = self._model.collision(q, opening)
        if pair is None and self.blocked(q):
            pair = ('panda_hand', '<octomap>')
        response.valid = pair is None
        if pair is not None:
            response.contacts = [ContactInformation(contact_body_1=pair[0],
                                                    contact_body_2=pair[1])]
        return response

    def _on_event(self, message: String) -> None:
        if message.data == 'stop':
            self._stop.set()

    def _execute(self, handle: Any) -> Any:
        result = ExecuteTrajectory.Result()
        self.executed.append(handle.request)
        self._stop.clear()
        if self.execute_error is not None:
            result.error_code = self.execute_error
            handle.abort()
            return result
        running = send_goal(self._controller, FollowJointTrajectory.Goal(
            trajectory=handle.request.trajectory.joint_trajectory), timeout=10.0)
        running.wait(120.0, lambda: self._stop.is_set() or self.stopping.is_set())
        if self._stop.is_set():
            running.cancel()
            result.error_code.val = MoveItErrorCodes.PREEMPTED
            handle.abort()
            return result
        result.error_code.val = MoveItErrorCodes.SUCCESS
        handle.succeed()
        return result
