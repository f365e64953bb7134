# SPDX-License-Identifier: Apache-2.0
"""Node `visualization`: what the stages publish, as things that RViz shows (rviz/fourdgen.rviz)."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from moveit_msgs.msg import DisplayTrajectory
from nav_msgs.msg import Path
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from rclpy.timer import Timer
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.health import Status
from fourdgen_ros.core.paths import GRIPPER_NAMED
from fourdgen_ros.core.types import Future, GripperTrajectory, MotionPlan
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes import conversions, rviz_messages
from fourdgen_ros.nodes.base import StageNode, run_node
from fourdgen_ros.nodes.camera_inputs import CameraInputs
from fourdgen_ros.nodes.qos import IMAGE, LATCHED
from fourdgen_ros.nodes.road_listener import Listeners, RoadListener
from fourdgen_ros.nodes.rviz_messages import TIMELESS
from fourdgen_ros.view.geometry import Playback, frame_cloud
from fourdgen_ros.view.hand import load_hand
from fourdgen_ros.view.status import summary


class VisualizationNode(StageNode):
    """Shows the newest future again and again, at its own pace, and all else once, latched.

    Clouds and images that nobody subscribes to are not built, except the first frame of each
    future: who comes late finds it latched.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('visualization', **options)
        robot = self.parameter('robot', 'panda', 'the name of a file in config/robots, the same as '
                                                 'of the tracker')
        gripper = self.parameter('gripper', 'panda_hand', f'gripper model: {GRIPPER_NAMED}')
        rate = self.parameter('live_rate', 2.0, 'clouds of the cameras per second, at most [Hz]',
                              low=0.1, high=30.0)
        self.parameter('live_stride', 4, 'every n-th pixel of the cameras\' images is shown',
                       low=1, high=32, dynamic=True)
        self._robot, self._hand = RobotConfig.named(robot), load_hand(gripper)
        self._base = self._robot.base_link
        self._lock = threading.RLock()
        self._future: tuple[Future, NDArray[np.float64]] | None = None
        self._trajectory: GripperTrajectory | None = None
        self._planned_for: int | None = None  # stamp of the future that the shown plan follows
        self._frame = 0
        self._timer: Timer | None = None
        self._text = ''
        self._cameras = CameraInputs(self)
        self._open(self._cameras.names)
        self._road = RoadListener(self, self._base, Listeners(
            self._on_future, self._on_trajectory, self._on_plan, self._on_statuses))
        self.create_timer(1.0 / rate, self._show_live, callback_group=self.group)
        self._publish_markers('cell', rviz_messages.cell_markers(self._robot))

    def _open(self, cameras: list[str]) -> None:
        def latched(kind: type, name: str) -> Publisher:
            return self.create_publisher(kind, f'visualization/{name}', LATCHED)

        self._clouds = {camera: latched(PointCloud2, f'future/{camera}/points')
                        for camera in cameras}
        self._images = {camera: latched(Image, f'future/{camera}/image') for camera in cameras}
        self._fused = latched(PointCloud2, 'future/points')
        self._live = self.create_publisher(PointCloud2, 'visualization/live/points', IMAGE)
        self._path = latched(Path, 'path')
        self._planned = latched(DisplayTrajectory, 'planned_path')
        self._markers = {name: latched(MarkerArray, f'markers/{name}')
                         for name in ('cell', 'gripper', 'plan', 'status')}

    def _publish_markers(self, topic: str, markers: list) -> None:
        self._markers[topic].publish(rviz_messages.whole(self._base, markers))

    # --- the future and the gripper -----------------------------------------------------------

    def _on_future(self, future: Future, T_base_ref: NDArray[np.float64]) -> None:
        unknown = sorted(set(future.cameras) - self._clouds.keys())
        if unknown:
            self.get_logger().warning(
                f'views of {unknown} are only shown in the fused cloud; name them in the parameter '
                f'cameras', throttle_duration_sec=60.0)
        with self._lock:
            self._future, self._frame = (future, T_base_ref), 0
            if self._trajectory is not None and self._trajectory.stamp != future.stamp:
                self._trajectory = None
                self._path.publish(Path(header=conversions.header(TIMELESS, self._base)))
                self._publish_markers('gripper', [])
            if self._planned_for not in (None, future.stamp):
                self._planned_for = None
                self._publish_markers('plan', [])
            if self._timer is not None:
                self.destroy_timer(self._timer)
            playback, start = Playback(future.frames, future.dt), self.get_clock().now()
            self._show_frame(0, always=True)
            self._timer = self.create_timer(future.dt, lambda: self._tick(
                playback.frame((self.get_clock().now() - start).nanoseconds * 1e-9)),
                callback_group=self.group)

    def _tick(self, frame: int) -> None:
        with self._lock:
            if frame != self._frame:
                self._frame = frame
                self._show_frame(frame)

    def _show_frame(self, frame: int, *, always: bool = False) -> None:
        future, T = self._future

        def wanted(publisher: Publisher) -> bool:
            return always or publisher.get_subscription_count() > 0

        def publish_cloud(publisher: Publisher, views: list[int] | None) -> None:
            if wanted(publisher):
                publisher.publish(conversions.points_to_cloud(
                    *frame_cloud(future, frame, T, views), TIMELESS, self._base))

        publish_cloud(self._fused, None)
        for v, camera in enumerate(future.cameras):
            if camera in self._clouds:
                publish_cloud(self._clouds[camera], [v])
                if wanted(self._images[camera]):
                    self._images[camera].publish(conversions.rgb_to_image(
                        future.rgb[v, frame], future.stamp, future.frame_ids[v]))
        self._show_gripper()

    def _on_trajectory(self, trajectory: GripperTrajectory) -> None:
        with self._lock:
            self._trajectory = trajectory
            self._path.publish(rviz_messages.path_message(trajectory))
            self._show_gripper()

    def _show_gripper(self) -> None:
        if self._trajectory is not None:
            self._publish_markers('gripper', rviz_messages.gripper_markers(
                self._trajectory, self._frame, self._hand))

    # --- plan, status, cameras ----------------------------------------------------------------

    def _on_plan(self, plan: MotionPlan) -> None:
        self._planned_for = plan.stamp
        self._publish_markers('plan', rviz_messages.plan_markers(plan, self._base))
        self._planned.publish(rviz_messages.display_trajectory(plan, self._robot))

    def _on_statuses(self, statuses: dict[str, Status]) -> None:
        text = summary(statuses)
        if text != self._text:
            self._text = text
            self._publish_markers('status', rviz_messages.text_markers(text, self._robot))

    def _show_live(self) -> None:
        wanted = self._live.get_subscription_count() > 0
        self._cameras.listen(wanted)
        try:
            observation = self._cameras.take() if wanted else None
        except InputError as error:
            self.get_logger().warning(f'no live cloud: {error}', throttle_duration_sec=10.0)
            return
        if observation is None:
            return
        clouds = self._road.live_clouds(observation, self.value('live_stride'))
        if not clouds:
            return
        # Flat: images of cameras may differ in size.
        points, colours = (np.concatenate([part.reshape(1, -1, 3) for part in parts], axis=1)
                           for parts in zip(*clouds, strict=True))
        self._live.publish(conversions.points_to_cloud(
            points, colours, observation.stamp, self._base))


def main() -> int:
    """Entry point of the executable `visualization`."""
    return run_node(VisualizationNode)


if __name__ == '__main__':
    sys.exit(main())
