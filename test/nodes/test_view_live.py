# SPDX-License-Identifier: Apache-2.0
"""What node `view` shows of the cameras, over real DDS; the page in a browser has its own test."""

from __future__ import annotations

import time

import pytest
import shown_things as things
from camera_server import Cameras
from ros_graph import Graph, eventually, parameters

from fourdgen_ros.nodes.tf import StaticTransformPublisher
from fourdgen_ros.nodes.view import ViewNode


@pytest.mark.parametrize('calibrated', [(), ('cam_right',)])
def test_pictures_need_no_tf_and_the_cloud_is_of_the_views_that_have_it(
        graph: Graph, calibrated: tuple[str, ...]) -> None:
    graph.add(Cameras())
    StaticTransformPublisher(graph.client).send(
        [(things.BASE, f'{camera}_color_optical_frame', things.T_BASE_REF)
         for camera in calibrated], time.time_ns())
    page = graph.add(ViewNode(**parameters(port=0, live_rate=20.0, live_stride=2)))._page
    page._scene.set_visible('live', True)
    assert eventually(lambda: page._now is not None)
    assert page._now.keys() == {'cam_left', 'cam_right'}
    pixels = 24 * 32 - 1  # without the hole
    assert eventually(lambda: len(page._scene._live[0]) == pixels * len(calibrated))
