# SPDX-License-Identifier: Apache-2.0
"""Node `visualization` over real DDS, and rviz/fourdgen.rviz against the running graph."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shown_things as things
import yaml
from ament_index_python.packages import get_package_share_directory
from camera_server import Cameras, K, distorted
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from moveit_msgs.msg import DisplayTrajectory
from nav_msgs.msg import Path as PathMsg
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from ros_graph import Graph, eventually, parameters
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from fourdgen_ros.core.paths import GRIPPERS, share_directory
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.msg import GripperTrajectory as GripperTrajectoryMsg
from fourdgen_ros.msg import MotionPlan as MotionPlanMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.camera_inputs import CameraInputs
from fourdgen_ros.nodes.qos import IMAGE, LATCHED
from fourdgen_ros.nodes.rviz_messages import gripper_markers
from fourdgen_ros.nodes.tf import StaticTransformPublisher
from fourdgen_ros.nodes.visualization import VisualizationNode
from fourdgen_ros.view.hand import load_hand

RVIZ = share_directory() / 'rviz' / 'fourdgen.rviz'
# What the displays of RViz subscribe to.
TYPES = {'rviz_default_plugins/PointCloud2': (PointCloud2, 'sensor_msgs/msg/PointCloud2'),
         'rviz_default_plugins/MarkerArray': (MarkerArray, 'visualization_msgs/msg/MarkerArray'),
         'rviz_default_plugins/Path': (PathMsg, 'nav_msgs/msg/Path'),
         'rviz_default_plugins/Image': (Image, 'sensor_msgs/msg/Image'),
         'moveit_rviz_plugin/Trajectory': (DisplayTrajectory, 'moveit_msgs/msg/DisplayTrajectory')}
OF_OTHERS = {'robot_description'}  # of robot_state_publisher
CONFIG = yaml.safe_load(RVIZ.read_text(encoding='utf-8'))
DISPLAYS = CONFIG['Visualization Manager']['Displays']


def topic_of(display: dict[str, Any]) -> tuple[str, QoSProfile] | None:
    """Topic and QoS of a display; None for one without."""
    if 'Trajectory Topic' in display:
        # rclcpp's default, not settable
        return display['Trajectory Topic'], QoSProfile(
            depth=10, reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.VOLATILE, liveliness=LivelinessPolicy.AUTOMATIC)
    entry = display.get('Topic', display.get('Description Topic'))
    if entry is None:
        return None
    return entry['Value'], QoSProfile(
        depth=entry['Depth'], liveliness=LivelinessPolicy.AUTOMATIC,
        reliability=ReliabilityPolicy[entry['Reliability Policy'].upper().replace(' ', '_')],
        durability=DurabilityPolicy[entry['Durability Policy'].upper().replace(' ', '_')])


SHOWN = {display['Name']: (display['Class'], *topic_of(display)) for display in DISPLAYS
         if topic_of(display) is not None and topic_of(display)[0] not in OF_OTHERS}


class Road:
    """Publishes what the stages publish."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        client = graph.client
        self.futures = client.create_publisher(GeneratedFuture, 'future', LATCHED)
        self.tracks = client.create_publisher(GripperTrajectoryMsg, 'gripper_trajectory', LATCHED)
        self.plans = client.create_publisher(MotionPlanMsg, 'plan', LATCHED)
        self.diagnostics = client.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.static = StaticTransformPublisher(client)

    def calibrate(self) -> None:
        self.static.send([(things.BASE, f'{camera}_color_optical_frame', things.T_BASE_REF)
                          for camera in things.CAMERAS], time.time_ns())

    def publish(self, stamp: int, *, dt: float = things.DT) -> None:
        self.futures.publish(conversions.future_to_msg(things.future(stamp, dt), 'f1'))
        self.tracks.publish(conversions.gripper_trajectory_to_msg(
            things.trajectory(stamp, dt), 'f1'))
        self.plans.publish(conversions.motion_plan_to_msg(
            things.plan(stamp), things.BASE, ros_now_ns=time.time_ns(),
            steady_now_ns=time.monotonic_ns()))

    def tell(self, name: str, message: str, level: int = 0, **values: str) -> None:
        self.diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(
            level=bytes([level]), name=name, message=message, hardware_id='/',
            values=[KeyValue(key=k, value=v) for k, v in values.items()])]))


@pytest.fixture
def road(graph: Graph) -> Road:
    road = Road(graph)
    road.calibrate()
    return road


@pytest.fixture
def node(graph: Graph, road: Road) -> VisualizationNode:
    return graph.add(VisualizationNode(**parameters(live_rate=20.0, live_stride=2)))


def reds(message: PointCloud2) -> set[int]:
    points, rgb = conversions.cloud_to_points(message)
    return set(np.unique(rgb[np.isfinite(points).all(-1)][:, 0]).tolist())


def markers(messages: list[MarkerArray], namespace: str) -> list[Marker]:
    return [m for m in messages[-1].markers if m.ns == namespace and m.action == Marker.ADD]


def test_every_display_of_rviz_receives(graph: Graph, road: Road, node: VisualizationNode) -> None:
    graph.add(Cameras())
    received = {name: graph.listen(TYPES[kind][0], topic, qos)
                for name, (kind, topic, qos) in SHOWN.items()}
    assert eventually(lambda: all(graph.client.count_publishers(topic)
                                  for _, topic, _ in SHOWN.values()))
    road.publish(time.time_ns())
    road.tell('task_loop: task', 'idle')
    eventually(lambda: all(received.values()))
    assert [name for name, messages in received.items() if not messages] == []
    for name, (kind, topic, qos) in SHOWN.items():
        publishers = graph.client.get_publishers_info_by_topic(
            graph.client.resolve_topic_name(topic))
        assert [p.topic_type for p in publishers] == [TYPES[kind][1]], name
        for publisher in publishers:
            compatible, reason = qos_check_compatible(publisher.qos_profile, qos)
            assert compatible == QoSCompatibility.OK, f'{name}: {reason}'


def test_every_topic_of_the_node_has_a_display(graph: Graph, node: VisualizationNode) -> None:
    topics = graph.client.get_publisher_names_and_types_by_node('visualization', '/')
    own = {topic.removeprefix('/') for topic, _ in topics if topic.startswith('/visualization/')}
    assert own
    assert own <= {topic for _, topic, _ in SHOWN.values()}


def test_the_rviz_file_has_what_rviz_cannot_do_without() -> None:
    names = [display['Name'] for display in DISPLAYS]
    assert len(set(names)) == len(names)
    assert all(type(display['Enabled']) is bool for display in DISPLAYS)
    # RViz reads these without a default.
    assert {'Hide Left Dock', 'Hide Right Dock'} <= CONFIG['Window Geometry'].keys()
    assert CONFIG['Visualization Manager']['Global Options']['Fixed Frame'] == things.BASE


def test_the_future_runs_again_and_again_and_stays_where_it_was(
        graph: Graph, road: Road, node: VisualizationNode) -> None:
    clouds = graph.listen(PointCloud2, 'visualization/future/points', LATCHED)
    left = graph.listen(PointCloud2, 'visualization/future/cam_left/points', LATCHED)
    stamp = time.time_ns()
    road.publish(stamp)

    def first(t: int, after: int) -> int:
        """Index of the first cloud of frame t from `after` on."""
        assert eventually(lambda: {80 * t, 80 * t + 10} in [reds(c) for c in clouds[after:]])
        return next(i for i, c in enumerate(clouds) if i >= after and min(reds(c)) == 80 * t)

    order = [0]
    for t in (1, 2, 0, 1, 2):
        order.append(first(t, order[-1]))
    assert eventually(lambda: bool(left))
    assert len(reds(left[0])) == 1
    for t, index in zip((1, 2, 0), order[1:4], strict=True):
        points, _ = conversions.cloud_to_points(clouds[index])
        assert points.shape == (2 * things.H, things.W, 3)
        assert np.isnan(points[0, 0]).all()
        # 0.9 m above the table, looking down; frame t is 0.1 m nearer
        np.testing.assert_allclose(points[1:things.H, :, 2], 0.1 * t, atol=1e-6)
        # the image's right side is at +x, its lower side at -y
        assert points[5, -1, 0] > points[5, 1, 0]
        assert points[-1, 5, 1] < points[things.H + 1, 5, 1]


def test_images_lie_in_the_frames_of_their_cameras(
        graph: Graph, road: Road, node: VisualizationNode) -> None:
    images = {camera: graph.listen(Image, f'visualization/future/{camera}/image', LATCHED)
              for camera in things.CAMERAS}
    road.publish(time.time_ns())
    assert eventually(lambda: all(images.values()))
    assert [found[0].header.frame_id for found in images.values()] == [
        things.REFERENCE, 'zed_optical']


def test_tf_never_extrapolates(graph: Graph, road: Road, node: VisualizationNode) -> None:
    """Stamps that RViz may ask TF for are zero, in the frame that is fixed in RViz; a future's own
    stamp is long out of its memory."""
    topics = {'future/points': PointCloud2, 'future/cam_right/points': PointCloud2,
              'path': PathMsg, **{f'markers/{name}': MarkerArray for name in
                                  ('cell', 'gripper', 'plan', 'status')}}
    received = {topic: graph.listen(kind, f'visualization/{topic}', LATCHED)
                for topic, kind in topics.items()}
    road.publish(time.time_ns() - 3600 * 10**9)
    road.tell('task_loop: task', 'idle')
    assert eventually(lambda: all(received.values()))
    assert eventually(lambda: any(m.action == Marker.ADD for a in received['markers/gripper']
                                  for m in a.markers))
    for messages in received.values():
        for message in messages:
            parts = message.markers if isinstance(message, MarkerArray) else [message]
            for part in [*parts, *getattr(message, 'poses', [])]:
                assert conversions.stamp_to_ns(part.header.stamp) == 0
                assert part.header.frame_id == things.BASE


def test_who_comes_late_finds_all_of_it(graph: Graph, road: Road, node: VisualizationNode) -> None:
    seen = graph.listen(MarkerArray, 'visualization/markers/plan', LATCHED)
    road.publish(time.time_ns(), dt=5.0)
    assert eventually(lambda: bool(seen) and bool(markers(seen, 'plan')))
    late = {topic: graph.listen(kind, f'visualization/{topic}', LATCHED) for topic, kind in (
        ('future/points', PointCloud2), ('path', PathMsg), ('markers/gripper', MarkerArray),
        ('planned_path', DisplayTrajectory), ('markers/cell', MarkerArray))}
    assert eventually(lambda: all(late.values()))
    assert len(late['path'][0].poses) == things.FRAMES
    assert reds(late['future/points'][0]) == {0, 10}


def test_a_future_before_its_calibration_is_shown_when_that_comes(graph: Graph) -> None:
    road = Road(graph)
    graph.add(VisualizationNode())
    clouds = graph.listen(PointCloud2, 'visualization/future/points', LATCHED)
    assert eventually(lambda: road.futures.get_subscription_count() == 1)
    road.publish(time.time_ns())
    road.calibrate()
    assert eventually(lambda: bool(clouds))


def test_a_mesh_of_the_user_is_shown_from_its_file(tmp_path: Path) -> None:
    shutil.copytree(GRIPPERS / 'panda_hand', tmp_path / 'my hand')
    path = GripperTrajectory(np.eye(4)[None], np.full(1, 0.04), np.ones(1), np.zeros(1), 'base', 0)
    shown = gripper_markers(path, 0, load_hand(f'{tmp_path}/my hand'))
    meshes = [m.mesh_resource for m in shown if m.mesh_resource]
    assert meshes[0] == (tmp_path / 'my hand' / 'hand.ply').as_uri()
    assert len(meshes) == 3


def test_the_gripper_has_its_mesh_place_and_confidence(
        graph: Graph, road: Road, node: VisualizationNode) -> None:
    arrays = graph.listen(MarkerArray, 'visualization/markers/gripper', LATCHED)
    road.publish(time.time_ns(), dt=5.0)
    assert eventually(lambda: bool(arrays) and bool(markers(arrays, 'gripper')))
    hand, *fingers = markers(arrays, 'gripper')
    package, _, file = hand.mesh_resource.removeprefix('package://').partition('/')
    assert Path(get_package_share_directory(package), file).is_file()
    # The TCP is at (0.4, 0, 0.3) and looks down: the hand's origin is 0.1034 m above it.
    p = hand.pose.position
    np.testing.assert_allclose([p.x, p.y, p.z], [0.4, 0.0, 0.4034], atol=1e-6)
    ys = sorted(f.pose.position.y for f in fingers)
    assert ys == pytest.approx([-0.04, 0.04])
    assert hand.color.g > 0.5 > hand.color.r  # sure
    last = markers(arrays, 'gripper_along_the_path')[-1]
    assert last.color.r > 0.5 > last.color.g  # unsure
    assert last.color.a < 0.5


def test_the_plan_is_a_line_and_a_motion_for_moveit(
        graph: Graph, road: Road, node: VisualizationNode) -> None:
    arrays = graph.listen(MarkerArray, 'visualization/markers/plan', LATCHED)
    motions = graph.listen(DisplayTrajectory, 'visualization/planned_path', LATCHED)
    road.publish(time.time_ns())
    assert eventually(lambda: bool(motions) and bool(arrays) and bool(markers(arrays, 'plan')))
    assert [p.x for p in markers(arrays, 'plan')[0].points] == pytest.approx([0.4, 0.45, 0.5])
    motion = motions[-1]
    assert len(motion.trajectory) == 1
    assert len(motion.trajectory[0].joint_trajectory.points) == 4
    assert motion.trajectory_start.joint_state.name[0] == 'panda_joint1'
    # Another future: the old plan is not its.
    road.futures.publish(conversions.future_to_msg(things.future(time.time_ns()), 'f2'))
    assert eventually(lambda: not markers(arrays, 'plan'))


def test_the_status_names_task_and_robot(graph: Graph, road: Road,
                                         node: VisualizationNode) -> None:
    arrays = graph.listen(MarkerArray, 'visualization/markers/status', LATCHED)

    def text() -> str:
        road.tell('task_loop: task', 'segment 1: track', task='PutSpatulaOnTable')
        road.tell('execution: execution', 'stopped on request', 2, mode='confirm')
        return arrays[-1].markers[-1].text if arrays else ''

    assert eventually(lambda: text() == 'PutSpatulaOnTable, segment 1: track\n'
                                        'confirm: stopped on request')


def test_the_last_state_of_a_node_that_died_is_not_shown_for_ever(
        graph: Graph, road: Road, node: VisualizationNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('fourdgen_ros.nodes.road_listener.SILENCE', 0.5)
    arrays = graph.listen(MarkerArray, 'visualization/markers/status', LATCHED)

    def shown(text: str) -> bool:
        return bool(arrays) and text in arrays[-1].markers[-1].text

    def told(text: str) -> bool:
        road.tell('execution: execution', text, mode='confirm')
        return shown(f'confirm: {text}')

    assert eventually(lambda: told('waiting for the confirmation of plan p1'))
    assert eventually(lambda: shown('\nnothing heard for '))
    assert not shown('waiting')
    assert eventually(lambda: told('ready'))


def test_a_camera_without_tf_does_not_hide_the_others(graph: Graph, capfd: Any) -> None:
    graph.add(Cameras())
    StaticTransformPublisher(graph.client).send(
        [(things.BASE, 'cam_right_color_optical_frame', things.T_BASE_REF)], time.time_ns())
    graph.add(VisualizationNode(**parameters(live_rate=20.0, live_stride=2)))
    clouds = graph.listen(PointCloud2, 'visualization/live/points', IMAGE)
    assert eventually(lambda: bool(clouds))
    assert conversions.cloud_to_points(clouds[0])[0].shape == (1, 24 * 32, 3)
    log = capfd.readouterr().err
    assert "no live cloud of cam_left: TF frame 'cam_left_color_optical_frame' is unknown" in log


def test_the_cameras_are_listened_to_only_when_somebody_looks(
        graph: Graph, road: Road, node: VisualizationNode) -> None:
    graph.add(Cameras())
    topic = 'cam_left/color/image_raw'
    assert graph.client.count_subscribers(topic) == 0
    clouds: list[PointCloud2] = []
    subscription = graph.client.create_subscription(
        PointCloud2, 'visualization/live/points', clouds.append, IMAGE,
        callback_group=graph.client.group)
    assert eventually(lambda: bool(clouds))
    points, rgb = conversions.cloud_to_points(clouds[0])
    assert points.shape == (1, 2 * 24 * 32, 3)
    np.testing.assert_allclose(points[0, 1:32, 2], 0.1, atol=1e-3)  # 0.8 m below the camera
    assert rgb[0, 31, 0] > rgb[0, 1, 0]
    assert clouds[0].header.frame_id == things.BASE
    graph.client.destroy_subscription(subscription)
    assert eventually(lambda: graph.client.count_subscribers(topic) == 0)


def test_what_is_live_has_the_calibration_of_rectified_images(graph: Graph) -> None:
    sender = Cameras()
    sender.calibrate = distorted
    graph.add(sender)
    cameras = CameraInputs(graph.add(StageNode('looker', **parameters(rectified=True))))
    cameras.listen(True)
    seen: list[Any] = []
    assert eventually(lambda: seen.append(cameras.take()) or seen[-1] is not None)
    assert seen[-1].views[0].K[0, 0] == pytest.approx(0.9 * K[0, 0])


def test_a_timer_that_comes_upon_itself_opens_the_cameras_once(
        graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = CameraInputs(graph.add(StageNode('looker')))
    subscribe = cameras._cameras.subscribe
    calls = [threading.Thread(target=cameras.listen, args=(True,)) for _ in range(2)]

    def slowly(*args: Any) -> Any:
        if not calls[1].is_alive():
            calls[1].start()  # while the first call is half-way
            calls[1].join(0.5)
        return subscribe(*args)

    monkeypatch.setattr(cameras._cameras, 'subscribe', slowly)
    calls[0].start()
    for call in calls:
        call.join()
    topic = 'cam_left/color/image_raw'
    assert eventually(lambda: graph.client.count_subscribers(topic) > 0)
    assert graph.client.count_subscribers(topic) == 1
