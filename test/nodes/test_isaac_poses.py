# SPDX-License-Identifier: Apache-2.0
"""The adapter to the FoundationPose nodes of Isaac ROS, over real DDS to a stand-in of them."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from isaac_standin import IsaacStandIn
from ros_graph import Graph

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import MissingDependencyError, TrackingError
from fourdgen_ros.nodes.isaac_poses import IsaacOptions, IsaacPoses
from fourdgen_ros.tracker.by_estimator import EstimatorTracker, object_image
from fourdgen_ros.tracker.clip import TrackerSettings, prepare_clip
from fourdgen_ros.tracker.estimator import ObjectImage, gripper_object
from fourdgen_ros.tracker.gripper_model import load_gripper

sys.path.insert(0, str(Path(__file__).parents[1]))
from unit.tracker_scene import Clip, random_clip

GRIPPER = load_gripper('panda_hand')
OBJECT = gripper_object(GRIPPER, 0.07)  # as far open as in the images
OPTIONS = IsaacOptions(timeout=20.0, start_timeout=20.0, track_iterations=2)


@pytest.fixture(scope='module')
def clip() -> Clip:
    return random_clip(GRIPPER, 0, frames=4)


@pytest.fixture(scope='module')
def images(clip: Clip) -> list[ObjectImage]:
    """Both views of frame 2."""
    prepared = prepare_clip(GRIPPER, TrackerSettings(), clip.future, clip.poses[0], 0.07)
    return [object_image(clip.future, view, i, 2) for i, view in enumerate(prepared.frames[2])]


def isaac(graph: Graph, folder: Path, **options: object) -> IsaacStandIn:
    mesh = folder / 'hand.obj'
    OBJECT.mesh.export(mesh)
    return graph.add(IsaacStandIn(mesh, folder, **options))


def true(clip: Clip, view: int) -> np.ndarray:
    return se3.inverse(clip.T_ref_cam[view]) @ clip.poses[2] @ OBJECT.T_tcp_object


def offset(pose: np.ndarray, clip: Clip, view: int) -> float:
    """m of the tool centre point to the truth, or to the same gripper turned."""
    a, b = pose @ OBJECT.T_object_tcp, true(clip, view) @ OBJECT.T_object_tcp
    return se3.distance(GRIPPER.nearest_symmetric(a, b), b)[0]


NEAR = se3.exp(np.array([0.01, -0.01, 0.01, 0.02, -0.02, 0.02]))


def test_a_pose_goes_out_with_its_image_and_comes_back_refined(
        graph, tmp_path, clip, images) -> None:
    node = isaac(graph, tmp_path)
    poses = IsaacPoses(graph.client, OPTIONS)
    for i, image in enumerate(images):
        assert offset(true(clip, i) @ NEAR, clip, i) > 0.012
        assert offset(poses.track(image, true(clip, i) @ NEAR), clip, i) < 0.008
    found = [poses.register(image) for image in images]
    assert min(offset(pose, clip, i) for i, pose in enumerate(found)) < 0.012
    assert node.asked == [*2 * [('tracking', 'cam0')], *2 * [('tracking', 'cam1')],
                          ('pose_estimation', 'cam0'), ('pose_estimation', 'cam1')]
    node.answers = {'tracking': 'empty'}
    assert poses.track(images[0], true(clip, 0)) is None


def test_a_clip_is_followed_over_the_topics(graph, tmp_path, clip) -> None:
    isaac(graph, tmp_path)
    tracker = EstimatorTracker(GRIPPER, OBJECT, IsaacPoses(graph.client, OPTIONS))
    result = tracker.track(clip.future, clip.poses[0], float(clip.opening[0]))
    distances = [se3.distance(a, b)[0] for a, b in zip(result.poses, clip.poses, strict=True)]
    assert max(distances) < 0.015
    assert result.confidence.min() > 0.5


def test_what_is_missing_is_said_for_every_input(graph) -> None:
    with pytest.raises(TrackingError) as caught:
        IsaacPoses(graph.client, IsaacOptions(start_timeout=0.1))
    for topic in ('image', 'depth_image', 'camera_info', 'pose_input'):
        assert f'/tracking/{topic}: nobody listens' in str(caught.value)
    assert '/tracking/output: nobody publishes' in str(caught.value)
    assert 'isaac_namespace' in str(caught.value)


def test_a_namespace(graph, tmp_path, clip, images) -> None:
    isaac(graph, tmp_path, namespace='/isaac')
    with pytest.raises(TrackingError, match='/tracking/image: nobody listens'):
        IsaacPoses(graph.client, IsaacOptions(start_timeout=0.1))
    poses = IsaacPoses(graph.client, IsaacOptions(namespace='/isaac', timeout=20.0))
    assert offset(poses.track(images[0], true(clip, 0)), clip, 0) < 0.008


def test_a_qos_that_does_not_match_is_named(graph, tmp_path) -> None:
    isaac(graph, tmp_path)
    with pytest.raises(TrackingError, match='tracking/image: QoS RELIABILITY does not match'):
        IsaacPoses(graph.client, IsaacOptions(reliable=False, start_timeout=3.0))


def test_no_answer_and_answers_to_something_else(graph, tmp_path, clip, images) -> None:
    node = isaac(graph, tmp_path)
    IsaacPoses(graph.client, OPTIONS)
    poses = IsaacPoses(graph.client, IsaacOptions(timeout=1.0, start_timeout=20.0))
    node.answers = {'tracking': 'none'}
    with pytest.raises(TrackingError, match='all its topics are connected, no answer'):
        poses.track(images[0], true(clip, 0))
    node.answers = {'tracking': 'late'}
    with pytest.raises(TrackingError, match='but 1 with other stamps'):
        poses.track(images[0], true(clip, 0))
    node.answers = {}
    assert offset(poses.track(images[0], true(clip, 0)), clip, 0) < 0.008


def test_without_its_estimation_node_a_lost_gripper_stays_lost(
        graph, tmp_path, clip, images) -> None:
    isaac(graph, tmp_path, estimation=False)
    poses = IsaacPoses(graph.client, OPTIONS)
    assert poses.register(images[0]) is None
    assert offset(poses.track(images[0], true(clip, 0)), clip, 0) < 0.008


def test_a_mask_without_depth_is_a_gripper_that_is_not_found(
        graph, tmp_path, clip, images) -> None:
    """Isaac says nothing then; that must not end the clip."""
    node = isaac(graph, tmp_path)
    poses = IsaacPoses(graph.client, IsaacOptions(timeout=1.0, start_timeout=20.0))
    noise = np.random.default_rng(0).uniform(0.5, 1.5, images[0].depth.shape).astype(np.float32)
    image = replace(images[0], depth=noise.repeat(5, 0).repeat(5, 1)[:480, :640],
                    rgb=np.zeros((480, 640, 3), np.uint8), mask=np.zeros((480, 640), bool),
                    K=images[0].K * [[5.0], [5.0], [1.0]])
    image.mask[100:103, 100:104] = True
    image.depth[98:106, 98:106] = np.linspace(0.5, 1.5, 64).reshape(8, 8)
    assert poses.register(image) is None
    assert node.asked == [('pose_estimation', 'cam0')]


def test_closing_lets_go_of_a_question(graph, tmp_path, clip, images) -> None:
    node = isaac(graph, tmp_path)
    node.answers = {'tracking': 'none'}
    poses = IsaacPoses(graph.client, OPTIONS)
    caught: list[TrackingError] = []

    def ask() -> None:
        try:
            poses.track(images[0], true(clip, 0))
        except TrackingError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    start = time.monotonic()
    thread.start()
    while not node.asked:
        time.sleep(0.01)
    poses.close()
    thread.join(timeout=20.0)
    assert 'the end of this node' in str(caught[0])
    assert time.monotonic() - start < OPTIONS.timeout


def test_without_the_messages_the_error_says_what_to_install(graph, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', None)
    with pytest.raises(MissingDependencyError, match='ros-jazzy-vision-msgs'):
        IsaacPoses(graph.client, OPTIONS)
