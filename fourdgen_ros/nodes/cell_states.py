# SPDX-License-Identifier: Apache-2.0
"""Joint states, transforms and simulated time of the cell."""

from __future__ import annotations

from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from fourdgen_ros.core import se3
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.conversions import header, ns_to_stamp
from fourdgen_ros.nodes.tf import Link, StaticTransformPublisher, TransformPublisher
from fourdgen_ros.sim.cell import Cell

BASE, HAND, TCP = 'panda_link0', 'panda_hand', 'panda_hand_tcp'
ARM_JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
FINGER_JOINTS = ('panda_finger_joint1', 'panda_finger_joint2')
JOINT_STATE_PERIOD_NS = 10_000_000
TF_PERIOD_NS = 20_000_000
_LINKS = (BASE, *(f'panda_link{i}' for i in range(1, 8)))


class CellStates:
    """Publishes /joint_states at 100 Hz and /tf at 50 Hz; a part of the cell's loop."""

    def __init__(self, node: StageNode, *, publish_clock: bool) -> None:
        self._joint_states = node.create_publisher(JointState, '/joint_states', qos.RESULT)
        self._clock = node.create_publisher(Clock, '/clock', qos.SENSOR) if publish_clock else None
        self._tf = TransformPublisher(node)
        self._tf_static = StaticTransformPublisher(node)
        self._joints_due = self._tf_due = 0
        self._finger: tuple[float, float] | None = None  # time and position at the last message

    def update(self, stamp_ns: int, cell: Cell) -> None:
        """Publish what is due; in the physics thread."""
        if stamp_ns >= self._joints_due:
            self._joints_due = _next(stamp_ns, JOINT_STATE_PERIOD_NS)
            if self._clock is not None:
                self._clock.publish(Clock(clock=ns_to_stamp(stamp_ns)))
            self._publish_joints(stamp_ns, cell)
        if stamp_ns >= self._tf_due:
            self._tf_due = _next(stamp_ns, TF_PERIOD_NS)
            self._tf.send(_moving_links(cell), stamp_ns)

    def publish_static(self, stamp_ns: int, cell: Cell) -> None:
        """Frames that stay during an episode: hand, tool centre point and cameras."""
        hand = cell.body_pose(HAND)
        links = [
            (_LINKS[-1], HAND, se3.inverse(cell.body_pose(_LINKS[-1])) @ hand),
            (HAND, TCP, se3.inverse(hand) @ cell.tcp_pose()),
        ]
        links += [(BASE, f'{camera}_color_optical_frame', cell.T_base_camera(camera))
                  for camera in cell.cameras]
        self._tf_static.send(links, stamp_ns)

    def forget(self) -> None:
        """The cell was reset: differences to the state before mean nothing."""
        self._finger = None

    def _publish_joints(self, stamp_ns: int, cell: Cell) -> None:
        finger, speed = cell.opening / 2.0, 0.0
        if self._finger is not None:
            speed = (finger - self._finger[1]) / (cell.time - self._finger[0])
        self._finger = (cell.time, finger)
        self._joint_states.publish(JointState(
            header=header(stamp_ns, BASE), name=[*ARM_JOINTS, *FINGER_JOINTS],
            position=[*cell.joint_positions.tolist(), finger, finger],
            velocity=[*cell.joint_velocities.tolist(), speed, speed]))


def _next(stamp_ns: int, period_ns: int) -> int:
    return stamp_ns - stamp_ns % period_ns + period_ns


def _moving_links(cell: Cell) -> list[Link]:
    poses = [cell.body_pose(name) for name in _LINKS]
    links = [(_LINKS[i], _LINKS[i + 1], se3.inverse(poses[i]) @ poses[i + 1])
             for i in range(len(_LINKS) - 1)]
    hand = se3.inverse(cell.body_pose(HAND))
    return links + [(HAND, name, hand @ cell.body_pose(body)) for name, body in (
        ('panda_leftfinger', 'panda_left_finger'), ('panda_rightfinger', 'panda_right_finger'))]
