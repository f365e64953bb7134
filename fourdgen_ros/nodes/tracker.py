# SPDX-License-Identifier: Apache-2.0
"""Node `tracker`: Future -> GripperTrajectory in the base frame (action `track_gripper`)."""

from __future__ import annotations

import bisect
import sys
import threading
import time
from collections import OrderedDict, deque
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState

from fourdgen_ros.action import TrackGripper
from fourdgen_ros.core.errors import InputError, TrackingError
from fourdgen_ros.core.health import Latencies, tracker_status
from fourdgen_ros.core.transforms import SET_BACK, TransformError
from fourdgen_ros.core.types import Future
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.msg import GeneratedFuture, GripperTrajectory
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import POLL, ActionError, Goal, Worker, serve_action
from fourdgen_ros.nodes.base import run_node
from fourdgen_ros.nodes.joints import heard
from fourdgen_ros.nodes.lifecycle import ManagedNode
from fourdgen_ros.nodes.qos import LATCHED, SENSOR, qos_events
from fourdgen_ros.nodes.tf import Transforms, on_jump_back
from fourdgen_ros.nodes.trackers import declare_tracking, make_tracker
from fourdgen_ros.tracker.base import Tracker

Result = TrackGripper.Result
FUTURES_KEPT = 4


class TrackerNode(ManagedNode):
    """Follows the gripper through published futures, from the pose that the kinematics give."""

    def __init__(self, tracker: Tracker | None = None, **options: Any) -> None:
        """`tracker` overrides the one that the parameters name."""
        super().__init__('tracker', **options)
        self.parameter('robot', 'panda', 'the name of a file in config/robots: its base frame, in '
                       'which results lie, its tool centre point and its finger joints')
        self.parameter('history', 240.0,
                       'how far back transforms and joint states are kept: longer than a '
                       'generation may take, stage_timeout of the task loop [s]',
                       low=1.0, high=3600.0)
        self.parameter('tf_timeout', 1.0, 'how long to wait for a transform [s]',
                       low=0.0, high=60.0, dynamic=True)
        self.parameter('tf_gap', 0.25, 'the robot\'s pose is interpolated between transforms at '
                       'most this far apart; more is an error [s]', low=0.001, high=60.0,
                       dynamic=True)
        self.parameter('future_timeout', 2.0, 'how long to wait for the future of a goal [s]',
                       low=0.0, high=60.0, dynamic=True)
        self.parameter('low_confidence', 0.2, 'a track whose confidence falls below this is a '
                                              'warning in /diagnostics', low=0.0, high=1.0,
                       dynamic=True)
        declare_tracking(self)
        self._given = tracker
        self._tracker: Tracker | None = None
        self._lock = threading.Lock()
        self._latencies = Latencies()
        self._confidence: list[float] | None = None  # of the last track
        serve_action(self, TrackGripper, 'track_gripper', self._track,
                     unexpected=Result.TRACKING_FAILED, canceled=Result.CANCELED,
                     codes={TransformError: Result.NO_TRANSFORM,
                            TrackingError: Result.TRACKING_FAILED})
        self.report(lambda: {'tracker': tracker_status(
            self._confidence, self.value('low_confidence'), len(self._futures), self._latencies)})

    def configure(self) -> None:
        """Read the robot, load the gripper model, start the tracker's process if it has one."""
        self._worker = Worker()
        self._robot = RobotConfig.named(self.value('robot'))
        self._base_frame, self._tcp_frame = self._robot.base_link, self._robot.tcp_link
        self._tracker = self._given if self._given is not None else make_tracker(self)

    def activate(self) -> None:
        """Listen to futures, transforms and joint states."""
        history = self.value('history')
        self._history = round(history * 1e9)
        self._futures: OrderedDict[str, GeneratedFuture] = OrderedDict()
        self._openings: deque[tuple[int, float]] = deque()
        self._transforms = Transforms(self, cache_s=history)
        self._jumps = on_jump_back(self, self._forget_openings)
        self._publisher = self.create_publisher(GripperTrajectory, 'gripper_trajectory', LATCHED)
        self.create_subscription(GeneratedFuture, 'future', self._on_future, LATCHED,
                                 callback_group=self.group,
                                 event_callbacks=qos_events(self, 'future'))
        self.inputs.subscribe(JointState, '/joint_states', self._on_joints, SENSOR,
                              event_callbacks=qos_events(self, '/joint_states'))

    def deactivate(self) -> None:
        """Hear no more of the clock."""
        self._transforms.close()
        self._jumps.unregister()

    def cleanup(self) -> None:
        """Forget the model, end the tracker's process; a stage that computes runs on unseen."""
        self._worker.close()
        tracker, self._tracker = self._tracker, None
        if tracker is not None and tracker is not self._given:
            tracker.close()

    def _on_future(self, message: GeneratedFuture) -> None:
        with self._lock:
            self._futures[message.future_id] = message
            while len(self._futures) > FUTURES_KEPT:
                self._futures.popitem(last=False)

    def _on_joints(self, message: JointState) -> None:
        state = heard(self, message)
        # Arm and gripper may publish their joints in separate messages.
        fingers = self._robot.finger_joints
        if all(name in state for name in fingers):
            opening = self._robot.opening_at(np.array([state[name][0] for name in fingers]))
            stamp = conversions.stamp_to_ns(message.header.stamp)
            with self._lock:
                if self._openings and stamp < self._openings[-1][0] - SET_BACK:
                    self._openings.clear()
                self._openings.append((stamp, opening))
                while stamp - self._openings[0][0] > self._history:
                    self._openings.popleft()

    def _forget_openings(self) -> None:
        with self._lock:
            self._openings.clear()

    def _track(self, goal: Goal, result: Any) -> None:
        future = self._future(goal)
        goal.feedback(progress=0.0)
        first_pose, T_base_ref = self._worker.run(goal, lambda: self._poses(future))
        opening = self._opening(future.stamp)
        start = time.monotonic()
        trajectory = self._worker.run(
            goal, lambda: self._tracker.track(future, first_pose, opening))
        self._latencies.add('track', time.monotonic() - start)
        message = conversions.gripper_trajectory_to_msg(
            trajectory.transformed(T_base_ref, self._base_frame), goal.request.future_id)
        result.trajectory = message
        self._publisher.publish(message)
        goal.feedback(progress=1.0)
        self._confidence = trajectory.confidence.tolist()

    def _future(self, goal: Goal) -> Future:
        future_id = goal.request.future_id
        end = time.monotonic() + self.value('future_timeout')
        while True:
            with self._lock:
                message, known = self._futures.get(future_id), list(self._futures)
            if message is not None:
                try:
                    return conversions.future_from_msg(message)
                except InputError as error:
                    raise ActionError(Result.TRACKING_FAILED, str(error)) from error
            if time.monotonic() >= end:
                raise ActionError(
                    Result.UNKNOWN_FUTURE,
                    f'future {future_id!r} is not known; known are {known}. Generate one first, '
                    f'and check that generator and tracker share the topic `future`.')
            goal.check()
            time.sleep(POLL)

    def _poses(self, future: Future) -> tuple[Any, Any]:
        """T_ref_tcp and T_base_ref (4, 4) when the observation was taken."""
        timeout, gap = self.value('tf_timeout'), self.value('tf_gap')
        return tuple(
            self._transforms.lookup(target, source, future.stamp, timeout_s=timeout,
                                    max_gap_s=gap)
            for target, source in ((future.frame_id, self._tcp_frame),
                                   (self._base_frame, future.frame_id)))

    def _opening(self, stamp: int) -> float | None:
        """Return the opening in m nearest to a stamp; None: the fingers were never heard of."""
        with self._lock:
            openings = sorted(self._openings)
        if not openings:
            self.get_logger().warning(
                f'/joint_states has not named {list(self._robot.finger_joints)}: tracking without '
                f'the first opening')
            return None
        i = bisect.bisect_left(openings, stamp, key=lambda o: o[0])
        return min(openings[max(0, i - 1):i + 1], key=lambda o: abs(o[0] - stamp))[1]


def main() -> int:
    """Entry point of the executable `tracker`."""
    return run_node(TrackerNode)


if __name__ == '__main__':
    sys.exit(main())
