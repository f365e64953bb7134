# SPDX-License-Identifier: Apache-2.0
"""The FoundationPose nodes of Isaac ROS as a `PoseEstimator`, over their topics.

`tracking/` (FoundationPoseTrackingNode) refines a pose that comes with every image, so one node
serves all views; `pose_estimation/` (FoundationPoseNode) finds it from a mask. Both join their
inputs by exactly equal stamps, and the answer bears that stamp. As in isaac_ros_foundationpose 4.4.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from sensor_msgs.msg import CameraInfo, Image

from fourdgen_ros.core.errors import InputError, MissingDependencyError, TrackingError
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.qos import qos_events
from fourdgen_ros.tracker.estimator import MIN_VALID, ObjectImage

Array = NDArray[np.float64]

TRACKING, ESTIMATION = 'tracking', 'pose_estimation'
FLOAT32 = 9  # data_type of a Tensor
POLL = 0.02


class SilenceError(TrackingError):
    """No answer in time."""


@dataclass(frozen=True, kw_only=True)
class IsaacOptions:
    """`namespace` of Isaac's nodes; `timeout` s for an answer, `start_timeout` s to be there;
    `reliable` as their topics are; track_iterations: refinements per image, as Isaac does one."""

    namespace: str = ''
    timeout: float = 5.0
    start_timeout: float = 30.0
    reliable: bool = True
    track_iterations: int = 2


class IsaacPoses:
    """Asks Isaac's nodes, one image at a time. Calls block; they need the node to be spinning."""

    def __init__(self, node: StageNode, options: IsaacOptions) -> None:
        """Raises MissingDependencyError without the messages, TrackingError without Isaac's nodes.

        What it creates belongs to `node`, which destroys it.
        """
        self._vision, self._tensors = _messages()
        self._node, self._options = node, options
        reliability = (ReliabilityPolicy.RELIABLE if options.reliable
                       else ReliabilityPolicy.BEST_EFFORT)
        self._qos = QoSProfile(depth=1, reliability=reliability)
        self._lock = threading.Lock()  # one question at a time
        self._changed = threading.Condition()
        self._wanted: tuple[str, int] | None = None
        self._answer: Any = None
        self._strange = 0
        self._stamp = 0
        self._mismatched: dict[str, str] = {}
        self._inputs: dict[str, dict[str, Publisher]] = {}
        for stage, last, kind in ((TRACKING, 'pose_input', self._tensors.TensorList),
                                  (ESTIMATION, 'segmentation', Image)):
            types = {'image': Image, 'depth_image': Image, 'camera_info': CameraInfo, last: kind}
            self._inputs[stage] = {
                name: self._publisher(type_, self._topic(stage, name))
                for name, type_ in types.items()}
            topic = self._topic(stage, 'output')
            node.create_subscription(
                self._vision.Detection3DArray, topic, partial(self._on_answer, stage), self._qos,
                callback_group=node.group, event_callbacks=qos_events(
                    node, topic, 'set the parameter isaac_reliability to best_effort'))
        self._wait_for_isaac()

    def register(self, image: ObjectImage) -> Array | None:
        """See `PoseEstimator`; nothing is found where no FoundationPoseNode runs."""
        missing = self._missing(ESTIMATION)
        if missing:
            self._node.get_logger().warning(
                'the gripper is lost and cannot be looked for: ' + '; '.join(missing), once=True)
        if missing or image.valid < MIN_VALID:
            return None
        stamp, image = self._next_stamp(), image.large_enough()
        mask = conversions.mono_to_image(255 * image.mask.astype(np.uint8), stamp, image.camera)
        try:
            return self._ask(ESTIMATION, image, stamp, {'segmentation': mask})
        except SilenceError as error:  # so it does when too little depth is left in the mask
            self._node.get_logger().warning(str(error))
            return None

    def track(self, image: ObjectImage, start: Array) -> Array | None:
        """See `PoseEstimator`."""
        pose: Array | None = start
        for _ in range(self._options.track_iterations):
            stamp = self._next_stamp()
            tensor = self._pose_tensor(pose, stamp, image.camera)
            pose = self._ask(TRACKING, image, stamp, {'pose_input': tensor})
            if pose is None:
                break
        return pose

    def close(self) -> None:
        """Let go of a question that is waited for; the node destroys the topics."""
        with self._changed:
            self._wanted = None
            self._changed.notify_all()

    def _ask(self, stage: str, image: ObjectImage, stamp: int,
             others: dict[str, Any]) -> Array | None:
        h, w = image.depth.shape
        messages = {
            **others,
            'image': conversions.rgb_to_image(image.rgb, stamp, image.camera),
            'depth_image': conversions.depth_to_image(image.depth, stamp, image.camera, '32FC1'),
            'camera_info': conversions.K_to_camera_info(image.K, h, w, stamp, image.camera)}
        with self._lock:
            with self._changed:
                self._wanted, self._answer, self._strange = (stage, stamp), None, 0
            for name, message in messages.items():
                self._inputs[stage][name].publish(message)
            with self._changed:
                self._changed.wait_for(
                    lambda: self._answer is not None or self._wanted is None,
                    self._options.timeout)
                answer, closed, self._wanted = self._answer, self._wanted is None, None
        if answer is None and closed:
            raise TrackingError('Isaac ROS', got='the end of this node')
        if answer is None:
            raise self._silent(stage, self._options.timeout)
        return _pose(answer)

    def _on_answer(self, stage: str, message: Any) -> None:
        with self._changed:
            if self._wanted == (stage, conversions.stamp_to_ns(message.header.stamp)):
                self._answer = message
                self._changed.notify_all()
            elif self._wanted is not None:
                self._strange += 1

    def _next_stamp(self) -> int:
        """A stamp of its own for each question; of now, or Isaac may drop it as too old."""
        with self._lock:
            self._stamp = max(self._node.get_clock().now().nanoseconds, self._stamp + 1)
            return self._stamp

    def _pose_tensor(self, T: Array, stamp: int, frame_id: str) -> Any:
        """A pose as Isaac has it: float32 (1, 4, 4) by name, columns first."""
        data = np.asarray(T, '<f4').T.tobytes()
        tensor = self._tensors.Tensor(
            name='poses', shape=self._tensors.TensorShape(rank=3, dims=[1, 4, 4]),
            data_type=FLOAT32, strides=[64, 16, 4], data=data)
        return self._tensors.TensorList(header=conversions.header(stamp, frame_id),
                                        tensors=[tensor])

    def _topic(self, stage: str, name: str) -> str:
        return '/'.join(part for part in (self._options.namespace.rstrip('/'), stage, name) if part)

    def _publisher(self, kind: type, topic: str) -> Publisher:
        def incompatible(info: Any) -> None:
            self._mismatched[topic] = qos_policy_name_from_kind(info.last_policy_kind)

        return self._node.create_publisher(
            kind, topic, self._qos,
            event_callbacks=PublisherEventCallbacks(incompatible_qos=incompatible))

    def _wait_for_isaac(self) -> None:
        """Wait for the tracking node; the other one is needed only when the gripper is lost."""
        end = time.monotonic() + self._options.start_timeout
        while self._missing(TRACKING):
            if time.monotonic() >= end:
                raise self._silent(TRACKING, self._options.start_timeout)
            time.sleep(POLL)

    def _missing(self, stage: str) -> list[str]:
        """What is not connected, each with the reason."""
        missing = []
        for name, publisher in self._inputs[stage].items():
            if not publisher.get_subscription_count():
                topic = self._topic(stage, name)
                why = (f'QoS {self._mismatched[topic]} does not match'
                       if topic in self._mismatched else 'nobody listens')
                missing.append(f'{publisher.topic_name}: {why}')
        output = self._node.resolve_topic_name(self._topic(stage, 'output'))
        if not self._node.count_publishers(output):
            missing.append(f'{output}: nobody publishes')
        return missing

    def _silent(self, stage: str, timeout: float) -> SilenceError:
        missing = self._missing(stage)
        if missing:
            got, hint = '; '.join(missing), (
                'Start Isaac\'s FoundationPose nodes, or set isaac_namespace to where they are '
                '(`ros2 topic list`); docs/foundationpose.md says how.')
        else:
            strange = f', but {self._strange} with other stamps' if self._strange else ''
            got, hint = f'all its topics are connected, no answer{strange}', (
                'See its log: the mesh, the TensorRT engines. Raise isaac_timeout if it is slow.')
        return SilenceError(f'Isaac ROS: {stage}', expected=f'an answer in {timeout:g} s',
                            got=got, hint=hint)


def _messages() -> tuple[Any, Any]:
    try:
        import isaac_ros_tensor_list_interfaces.msg as tensors
        import vision_msgs.msg as vision
    except ImportError as error:
        raise MissingDependencyError(
            'messages of Isaac ROS', expected='vision_msgs and isaac_ros_tensor_list_interfaces',
            got=str(error), hint='Install ros-jazzy-vision-msgs; the other comes with Isaac ROS. '
            'Or set the parameter backend to embedded.') from error
    return vision, tensors


def _pose(answer: Any) -> Array | None:
    """T_camera_object (4, 4) of a Detection3DArray; None when it is empty or no pose."""
    if not answer.detections:
        return None
    try:
        T = conversions.pose_to_matrix(answer.detections[0].bbox.center)
    except InputError:
        return None
    return T if np.isfinite(T).all() else None
