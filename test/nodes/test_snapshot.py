# SPDX-License-Identifier: Apache-2.0
"""What `fourdgen calibrate-check` sees of a running cell, over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
from camera_server import Cameras
from ros_graph import Graph, parameters

from fourdgen_ros.cli.calibrate_check import _TOPICS
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes.cell import CellNode
from fourdgen_ros.nodes.snapshot import SnapshotNode


def snapshot(graph: Graph, *cameras: str) -> SnapshotNode:
    return graph.add(SnapshotNode(cameras, RobotConfig.named('panda'), _TOPICS, {}))


def test_views_come_with_the_transforms_of_their_stamp(graph: Graph) -> None:
    node = graph.add(CellNode(**parameters(camera_rate=2.0, image_width=160, image_height=120)))
    cell = node._loop.cell
    views, opening = snapshot(graph, 'cam_left', 'cam_right').take(60.0)
    assert opening == pytest.approx(cell.opening, abs=1e-3)
    assert [v.view.camera for v in views] == ['cam_left', 'cam_right']
    for posed in views:
        assert posed.error == ''
        np.testing.assert_allclose(posed.T_base_camera, cell.T_base_camera(posed.view.camera),
                                   atol=1e-6)
        np.testing.assert_allclose(posed.T_base_tcp, cell.tcp_pose(), atol=1e-3)
        assert posed.view.size == (120, 160)


def test_calibration_that_was_latched_before_is_heard(graph: Graph) -> None:
    graph.add(Cameras(('cam_left',), latched_info=True))
    node = snapshot(graph, 'cam_left')
    assert node._synchroniser.wait(None, 30.0) is not None


def test_a_camera_that_does_not_send_is_named(graph: Graph) -> None:
    with pytest.raises(InputError, match='/cam_x/color/image_raw'):
        snapshot(graph, 'cam_x').take(0.3)
