# SPDX-License-Identifier: Apache-2.0
"""Node `view`: the page in the browser, fed from topics; its buttons call the execution node."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_srvs.srv import Trigger

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import ExecutionError, InputError
from fourdgen_ros.core.paths import GRIPPER_NAMED
from fourdgen_ros.core.types import Future, GripperTrajectory, MotionPlan, Observation
from fourdgen_ros.evaluation.recording import match
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes.actions import call_service
from fourdgen_ros.nodes.base import StageNode, run_node
from fourdgen_ros.nodes.camera_inputs import CameraInputs
from fourdgen_ros.nodes.joints import Joints
from fourdgen_ros.nodes.road_listener import Listeners, RoadListener
from fourdgen_ros.srv import ConfirmPlan
from fourdgen_ros.view.gate import Gate, serve, token_for
from fourdgen_ros.view.geometry import box_edges, only_finite
from fourdgen_ros.view.hand import load_hand
from fourdgen_ros.view.page import Actions, Outlook, Page
from fourdgen_ros.view.segment import PICTURE, Picture

Array = NDArray[np.float64]
_ANSWER_TIMEOUT = 5.0  # s
# m; the middle of a table in front of an arm, seen from beyond it
_CENTRE, _EYE = np.array([0.45, 0.0, 0.0]), np.array([1.35, 0.75, 0.85])
KEPT = 240  # moments of one future's execution, at most
_SAME = 0.001  # m; a robot that has moved less has not moved
_NEAR = 0.03  # m between an imagined and an executed pose that show the same moment
_NO_CLOUD = np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class _Sample:
    """What the cameras saw when the TCP was at `pose` (4, 4), the fingers `opening` m apart."""

    pose: Array
    opening: float
    pictures: Mapping[str, Picture]


class ViewNode(StageNode):
    """Serves the page; stops and confirms when its buttons are pressed."""

    def __init__(self, *, token: str | None = None, **options: Any) -> None:
        """`token` lets browsers of other machines in; on the loopback none is asked for."""
        super().__init__('view', **options)
        robot = self.parameter('robot', 'panda', 'the name of a file in config/robots, the same as '
                                                 'of the tracker')
        gripper = self.parameter('gripper', 'panda_hand', f'gripper model: {GRIPPER_NAMED}')
        host = self.parameter('host', '127.0.0.1', 'address that the page is served on; any but '
                                                   'the loopback asks for a token')
        port = self.parameter('port', 8080, 'port of the page, or the next that is free; 0: any',
                              low=0, high=65535)
        rate = self.parameter('live_rate', 4.0, 'looks at the cameras per second [Hz]',
                              low=0.1, high=30.0)
        self.parameter('live_stride', 4, 'every n-th pixel of the cameras\' images is shown',
                       low=1, high=32, dynamic=True)
        execution = self.parameter('execution', 'execution', 'name of the node that moves the '
                                                             'robot')
        self._robot = RobotConfig.named(robot)
        self._base = self._robot.base_link
        self._lock = threading.Lock()
        self._samples: list[_Sample] = []
        self._news = False  # whether there are moments, or a plan, that were not compared yet
        self._future: Future | None = None
        self._trajectory: GripperTrajectory | None = None
        self._plan: MotionPlan | None = None
        self._stop = self.create_client(Trigger, f'{execution}/stop', callback_group=self.group)
        self._confirm = self.create_client(ConfirmPlan, 'confirm_plan', callback_group=self.group)
        self._cameras = CameraInputs(self)
        self._joints = Joints(self, self._robot.finger_joints, lambda: None)
        box = self._robot.workspace
        self.token = token_for(host, token)
        self._page = Page(serve(host, port, Gate(host, self.token)), load_hand(gripper),
                          Outlook(_CENTRE, _EYE, box_edges(box.min, box.max)),
                          Actions(self._confirm_plan, self._stop_robot))
        self._road = RoadListener(self, self._base, Listeners(
            self._on_future, self._on_trajectory, self._on_plan, self._page.show_statuses))
        self._cameras.listen(True)
        self.create_timer(1.0 / rate, self._look, callback_group=self.group)
        self.steady_timer(1.0, self._compare)
        self.get_logger().info(f'open {self.url}')

    @property
    def url(self) -> str:
        """Address of the page."""
        return self._page.url

    def close(self) -> None:
        """End the page."""
        super().close()
        self._page.close()

    # --- buttons ------------------------------------------------------------------------------

    def _stop_robot(self) -> str:
        return self._ask(self._stop, Trigger.Request())

    def _confirm_plan(self, plan_id: str) -> str:
        return self._ask(self._confirm, ConfirmPlan.Request(plan_id=plan_id))

    def _ask(self, client: Any, request: Any) -> str:
        try:
            response = call_service(client, request, timeout=_ANSWER_TIMEOUT,
                                    interrupted=self.closing.is_set)
        except ExecutionError as error:
            return f'**Nobody answered: {error}. Use the robot\'s own stop.**'
        return response.message if response.success else f'**Refused:** {response.message}'

    # --- topics -------------------------------------------------------------------------------

    def _on_future(self, future: Future, T_base_ref: Array) -> None:
        with self._lock:
            if self._future is None or future.stamp != self._future.stamp:
                # Where the robot was when it saw is also where the future begins.
                self._samples = self._samples[-1:]
                self._future = future
        self._page.show_future(future, T_base_ref)

    def _on_trajectory(self, trajectory: GripperTrajectory) -> None:
        with self._lock:
            self._trajectory, self._news = trajectory, True
        self._page.show_trajectory(trajectory)

    def _on_plan(self, plan: MotionPlan) -> None:
        with self._lock:
            self._plan, self._news = plan, True
        self._page.show_plan(plan)

    # --- cameras ------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            observation = self._cameras.take()
        except InputError as error:
            self.get_logger().warning(f'no camera image: {error}', throttle_duration_sec=10.0)
            return
        if observation is None:
            return
        clouds = [_NO_CLOUD, *(only_finite(*cloud) for cloud in self._road.live_clouds(
            observation, self.value('live_stride')))]
        points, colours = (np.concatenate(parts) for parts in zip(*clouds, strict=True))
        pictures = {view.camera: _small(view.rgb) for view in observation.views}
        self._page.show_live(points, colours, pictures)
        self._remember(observation, pictures)

    def _remember(self, observation: Observation, pictures: Mapping[str, Picture]) -> None:
        """Keep the moment."""
        try:
            pose = self._road.transforms.lookup(self._base, self._robot.tcp_link,
                                                observation.stamp)
            opening = self._robot.opening_at(
                self._joints.positions(self._robot.finger_joints, 1.0))
        except InputError:
            return  # a robot that does not tell where it is has no real moments
        sample = _Sample(pose, opening, pictures)
        with self._lock:
            if self._samples and _rests(self._samples[-1], sample):
                self._samples[-1] = sample
                return
            # Of what comes long after a future only the newest is of use: the next may begin there.
            del self._samples[KEPT - 1:]
            self._samples.append(sample)
            self._news = True

    def _compare(self) -> None:
        """Show which imagined frames have really come by now."""
        with self._lock:
            if not self._news or not self._samples:
                return
            self._news = False
            trajectory, plan, samples = self._trajectory, self._plan, list(self._samples)
            stamp = None if self._future is None else self._future.stamp
        if (trajectory is not None and plan is not None
                and stamp == trajectory.stamp == plan.stamp):
            self._page.show_real(plan.stamp, _executed(trajectory, plan.frames, samples))


def _rests(before: _Sample, now: _Sample) -> bool:
    metres, _ = se3.distance(before.pose, now.pose)
    return metres < _SAME and abs(before.opening - now.opening) < _SAME


def _executed(trajectory: GripperTrajectory, frames: int,
              samples: Sequence[_Sample]) -> dict[int, Mapping[str, Picture]]:
    """Pictures of the frames, among the first `frames`, that the robot has come to."""
    path = np.stack([s.pose for s in samples])
    openings = np.array([s.opening for s in samples])
    moments = match(trajectory.poses[:frames], trajectory.opening[:frames], path, openings)
    return {t: samples[i].pictures for t, i in enumerate(moments)
            if se3.distance(trajectory.poses[t], path[i])[0] < _NEAR
            and abs(trajectory.opening[t] - openings[i]) < _NEAR}


def _small(rgb: Picture) -> Picture:
    rows = np.arange(PICTURE[0]) * rgb.shape[0] // PICTURE[0]
    columns = np.arange(PICTURE[1]) * rgb.shape[1] // PICTURE[1]
    return np.ascontiguousarray(rgb[rows[:, None], columns])


def main() -> int:
    """Run the node alone."""
    return run_node(ViewNode)


if __name__ == '__main__':
    sys.exit(main())
