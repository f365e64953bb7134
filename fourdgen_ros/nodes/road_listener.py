# SPDX-License-Identifier: Apache-2.0
"""What the stages publish, as value types in the robot's base frame, for those who show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.core.transforms import TransformError
from fourdgen_ros.core.types import Future, GripperTrajectory, MotionPlan, Observation
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.msg import GripperTrajectory as GripperTrajectoryMsg
from fourdgen_ros.msg import MotionPlan as MotionPlanMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import LATCHED, qos_events
from fourdgen_ros.nodes.tf import Transforms
from fourdgen_ros.view.geometry import Colours, Points, live_cloud

SILENCE = 5.0  # s without diagnostics, which come at 1 Hz, after which a state is no longer known
SHOWN = ('task_loop: task', 'generator: generator', 'tracker: tracker', 'execution: execution')


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Listeners:
    """What is called: with a future and T_base_reference (4, 4), a trajectory in the base frame,
    a plan, and the statuses by name of `SHOWN`."""

    future: Callable[[Future, NDArray[np.float64]], None] = _ignore
    trajectory: Callable[[GripperTrajectory], None] = _ignore
    plan: Callable[[MotionPlan], None] = _ignore
    statuses: Callable[[dict[str, Status]], None] = _ignore


@dataclass
class RoadListener:
    """Subscribes on a node and calls `listeners`, one call at a time."""

    node: StageNode
    base_frame: str
    listeners: Listeners
    transforms: Transforms = field(init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: dict[str, Status] = {}
        self._heard: dict[str, float] = {}  # steady s
        node = self.node
        node.parameter('history', 60.0, 'how far back transforms are kept: longer than a '
                                        'generation takes [s]', low=1.0, high=3600.0)
        node.parameter('tf_timeout', 5.0, 'how long to wait for the pose of the reference camera '
                       'when a future was seen [s]', low=0.0, high=60.0, dynamic=True)
        self.transforms = Transforms(node, cache_s=node.value('history'))
        for kind, topic, callback in (
                (GeneratedFuture, 'future', self._on_future),
                (GripperTrajectoryMsg, 'gripper_trajectory', self._on_trajectory),
                (MotionPlanMsg, 'plan', self._on_plan)):
            node.create_subscription(kind, topic, self._guarded(callback, topic), LATCHED,
                                     callback_group=node.group,
                                     event_callbacks=qos_events(node, topic))
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10,
                                 callback_group=node.group)
        node.steady_timer(1.0, self._forget_the_silent)

    def live_clouds(self, observation: Observation, stride: int) -> list[tuple[Points, Colours]]:
        """Clouds in the base frame, see `live_cloud`, of the views whose pose TF knows now."""
        found, unknown = [], []
        for view in observation.views:
            try:
                T = self.transforms.lookup(self.base_frame, view.frame_id, view.stamp)
            except TransformError as error:  # perhaps one that has not come yet
                unknown.append(f'no live cloud of {view.camera}: {error}')
                continue
            found.append(live_cloud(view, T, stride))
        if unknown:
            self.node.get_logger().warning(' '.join(unknown), throttle_duration_sec=10.0)
        return found

    def _guarded(self, callback: Callable[..., None], topic: str) -> Callable[..., None]:
        def guarded(message: object) -> None:
            try:
                callback(message)
            except InputError as error:  # a TransformError is one
                self.node.get_logger().warning(f'not shown, a message on {topic}: {error}')
        return guarded

    def _on_future(self, message: GeneratedFuture) -> None:
        future = conversions.future_from_msg(message)
        T = self._pose_then(future.frame_id, future.stamp)
        with self._lock:
            self.listeners.future(future, T)

    def _pose_then(self, frame: str, stamp: int) -> NDArray[np.float64]:
        """Pose of a camera when it saw; a future is often latched before the first transform."""
        return self.transforms.lookup(self.base_frame, frame, stamp,
                                      timeout_s=self.node.value('tf_timeout'))

    def _on_trajectory(self, message: GripperTrajectoryMsg) -> None:
        trajectory = conversions.gripper_trajectory_from_msg(message)
        if trajectory.frame_id != self.base_frame:
            raise InputError('its frame', expected=self.base_frame, got=trajectory.frame_id,
                             hint='Give this node and the tracker the same parameter `robot`.')
        with self._lock:
            self.listeners.trajectory(trajectory)

    def _on_plan(self, message: MotionPlanMsg) -> None:
        plan = conversions.motion_plan_from_msg(
            message, ros_now_ns=self.node.get_clock().now().nanoseconds,
            steady_now_ns=time.monotonic_ns())
        with self._lock:
            self.listeners.plan(plan)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        heard = {s.name: Status(Level(s.level[0]), s.message, {v.key: v.value for v in s.values})
                 for s in message.status
                 if s.name in SHOWN and s.hardware_id == self.node.get_namespace()}
        if heard:
            with self._lock:
                self._statuses.update(heard)
                self._heard.update(dict.fromkeys(heard, time.monotonic()))
                self.listeners.statuses(dict(self._statuses))

    def _forget_the_silent(self) -> None:
        """A node that died, or is out of reach, must not look as it did when it was last heard."""
        now = time.monotonic()
        with self._lock:
            silent = {name: Status(Level.STALE, f'nothing heard for {now - heard:.0f} s')
                      for name, heard in self._heard.items() if now - heard > SILENCE}
            if silent:
                self._statuses.update(silent)
                self.listeners.statuses(dict(self._statuses))
