# SPDX-License-Identifier: Apache-2.0
"""Runs a task over ROS and remembers what was imagined and what the cameras saw meanwhile."""

from __future__ import annotations

import bisect
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from fourdgen_ros.action import ExecutePlan, GenerateFuture, PlanMotion, RunTask, TrackGripper
from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.core.transforms import TransformError
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.evaluation.recording import SHOWN, Recording, match
from fourdgen_ros.msg import GeneratedFuture, MotionPlan
from fourdgen_ros.msg import GripperTrajectory as GripperTrajectoryMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import SafeActionClient, call_action, call_service, wait_for_ready
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.joints import heard
from fourdgen_ros.nodes.qos import LATCHED, SENSOR
from fourdgen_ros.nodes.server_states import ServerStates
from fourdgen_ros.nodes.tf import Transforms
from fourdgen_ros.srv import CheckSuccess

_BEFORE, _AFTER = 200_000_000, 500_000_000  # ns of pictures kept around a motion
_PATIENCE = 5.0  # s to wait for pictures that are late
_PERIOD = 20_000_000  # ns between poses of the executed path
_PICTURES = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_HISTORY = 300.0  # s of transforms; pictures are put together when the task has ended


@dataclass
class _Execution:
    """Pictures by stamp and camera from just before a motion to just after it."""

    start: int
    end: int | None = None
    pictures: dict[int, dict[str, NDArray[np.uint8]]] = field(default_factory=dict)


class RunWatcher(StageNode):
    """Client of the task loop that also listens to the results of all stages."""

    def __init__(self, cameras: Sequence[str], *, base_frame: str = 'panda_link0',
                 tcp_frame: str = 'panda_hand_tcp',
                 fingers: Sequence[str] = ('panda_finger_joint1', 'panda_finger_joint2'),
                 **options: Any) -> None:
        """`cameras` by name, the reference first; `options` go to `rclpy.node.Node`."""
        super().__init__('run_watcher', **options)
        self._cameras, self._base, self._tcp = tuple(cameras), base_frame, tcp_frame
        self._fingers = tuple(fingers)
        self._lock = threading.Lock()
        self._futures: dict[int, Future] = {}
        self._trajectories: dict[int, GripperTrajectory] = {}
        self._plans: list[tuple[int, MotionPlan]] = []
        self._openings: list[tuple[int, float]] = []
        self._executions: list[_Execution] = []
        self._newest: dict[str, int] = {}  # stamp of the last picture
        self._run = SafeActionClient(self, RunTask, 'run_task')
        self._stages = {name: SafeActionClient(self, kind, name) for name, kind in (
            ('generate_future', GenerateFuture), ('track_gripper', TrackGripper),
            ('plan_motion', PlanMotion), ('execute_plan', ExecutePlan))}
        self._servers = ServerStates(self)
        self._check = self.create_client(CheckSuccess, 'cell/check_success',
                                         callback_group=self.group)
        self._transforms = Transforms(self, cache_s=_HISTORY)
        for topic, kind, callback in (('future', GeneratedFuture, self._on_future),
                                      ('gripper_trajectory', GripperTrajectoryMsg,
                                       self._on_trajectory),
                                      ('plan', MotionPlan, self._on_plan)):
            self.create_subscription(kind, topic, callback, LATCHED, callback_group=self.group)
        for camera in self._cameras:
            self.inputs.subscribe(
                Image, f'{camera}/color/image_raw', functools.partial(self._on_image, camera),
                _PICTURES)
        self.inputs.subscribe(JointState, '/joint_states', self._on_joints, SENSOR)

    def missing(self) -> list[str]:
        """What a run still waits for: action servers of active nodes, and cameras."""
        servers = {'run_task': self._run, **self._stages}
        waiting = [name for name, client in servers.items()
                   if not self._servers.of(client).usable]
        return waiting + [camera for camera in self._cameras if camera not in self._newest]

    def run(self, task: str, *, seed: int, max_segments: int, timeout: float,
            interrupted: Callable[[], bool],
            feedback: Callable[[RunTask.Feedback], None]) -> RunTask.Result:
        """Run a task to its end. Raises Canceled when interrupted, and ExecutionError."""
        def hear(message: RunTask.Feedback) -> None:
            self._on_stage(message.stage)
            feedback(message)

        goal = RunTask.Goal(task=task, seed=seed, max_segments=max_segments)
        try:
            return call_action(self._run, goal, timeout=timeout, interrupted=interrupted,
                               feedback=hear)
        finally:
            self._on_stage('end')

    def stage(self) -> str:
        """How far the task is, as the simulated cell says; '?' when it does not answer."""
        try:
            return call_service(self._check, CheckSuccess.Request(), timeout=15.0).stage
        except ExecutionError:
            return '?'

    def recordings(self) -> list[Recording]:
        """What has been executed so far, with the pictures that belong to the imagined frames.

        Executions of which something was not received are left out, with a warning.
        """
        with self._lock:
            executions = list(self._executions)
        end = max((e.end for e in executions if e.end is not None), default=0)
        wait_for_ready(lambda: all(self._newest.get(c, 0) > end for c in self._cameras),
                       _PATIENCE)
        found = []
        for i, execution in enumerate(executions):
            try:
                found.append(self._recording(execution))
            except LookupError as error:
                self.get_logger().warning(f'no picture of motion {i}: {error} did not come')
        return found

    def _recording(self, execution: _Execution) -> Recording:
        """Raises LookupError naming what has not been received."""
        end = execution.end
        plans = [plan for arrived, plan in self._plans if end is None or arrived <= end]
        if not plans:
            raise LookupError('its plan')
        stamp = conversions.stamp_to_ns(plans[-1].header.stamp)
        future, trajectory = self._futures.get(stamp), self._trajectories.get(stamp)
        if future is None or trajectory is None:
            raise LookupError(f'its {"future" if future is None else "gripper trajectory"}')
        try:
            cameras = [self._transforms.lookup(self._base, f'{c}_color_optical_frame')
                       for c in future.cameras]
        except TransformError as error:
            raise LookupError(f'the cameras\' transforms ({error})') from error
        shown = [s for s, pictures in sorted(execution.pictures.items())
                 if len(pictures) == len(self._cameras)]
        if not shown:
            raise LookupError('pictures of all cameras')
        stamps, path = self._path(shown[0], shown[-1])
        frames = int(plans[-1].frames)
        moments = match(trajectory.poses[:frames], trajectory.opening[:frames], path,
                        np.array([self._opening(s) for s in stamps]))
        nearest = [min(shown, key=lambda s, i=i: abs(s - stamps[i])) for i in moments]
        real = np.stack([[execution.pictures[s][c] for s in nearest] for c in future.cameras])
        return Recording(future, trajectory, real, path[moments], path, np.stack(cameras))

    def _path(self, start: int, end: int) -> tuple[list[int], NDArray[np.float64]]:
        """Stamps and TCP poses (n, 4, 4) of a motion."""
        stamps, poses = [], []
        for stamp in range(start, end + 1, _PERIOD):
            try:
                poses.append(self._transforms.lookup(self._base, self._tcp, stamp))
            except TransformError as error:
                reason = str(error)
            else:
                stamps.append(stamp)
        if not stamps:
            raise LookupError(f'the gripper\'s transforms ({reason})')
        return stamps, np.stack(poses)

    def _opening(self, stamp: int) -> float:
        i = bisect.bisect_left(self._openings, stamp, key=lambda entry: entry[0])
        near = self._openings[max(0, i - 1):i + 1]
        return min(near, key=lambda entry: abs(entry[0] - stamp))[1] if near else 0.0

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_stage(self, stage: str) -> None:
        with self._lock:
            last = self._executions[-1] if self._executions else None
            if stage == 'execute':
                self._executions.append(_Execution(self._now() - _BEFORE))
            elif last is not None and last.end is None:
                last.end = self._now() + _AFTER

    def _on_image(self, camera: str, message: Image) -> None:
        stamp = self._newest[camera] = conversions.stamp_to_ns(message.header.stamp)
        with self._lock:
            last = self._executions[-1] if self._executions else None
            if last is None or stamp < last.start or (last.end is not None and stamp > last.end):
                return
        rgb = conversions.image_to_rgb(message)
        height, width = SHOWN
        rows = np.arange(height) * rgb.shape[0] // height
        columns = np.arange(width) * rgb.shape[1] // width
        small = np.ascontiguousarray(rgb[rows[:, None], columns])
        with self._lock:
            last.pictures.setdefault(stamp, {})[camera] = small

    def _on_future(self, message: GeneratedFuture) -> None:
        future = conversions.future_from_msg(message)
        self._futures[future.stamp] = future

    def _on_trajectory(self, message: GripperTrajectoryMsg) -> None:
        trajectory = conversions.gripper_trajectory_from_msg(message)
        self._trajectories[trajectory.stamp] = trajectory

    def _on_plan(self, message: MotionPlan) -> None:
        self._plans.append((self._now(), message))

    def _on_joints(self, message: JointState) -> None:
        state = heard(self, message)
        if all(name in state for name in self._fingers):
            opening = sum(state[name][0] for name in self._fingers)
            self._openings.append((conversions.stamp_to_ns(message.header.stamp), opening))
