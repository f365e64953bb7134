# SPDX-License-Identifier: Apache-2.0
"""What node `view` shows of the cameras, over real DDS; the page in a browser has its own test."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shown_things as things
from camera_server import Cameras
from ros_graph import Graph, eventually, parameters

from fourdgen_ros.cli.view import free_port
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


def announced(file: Path, *options: str) -> str:
    """The address that `fourdgen view --params-file FILE ...` prints."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'fourdgen_ros.cli', 'view', '--params-file', str(file), *options],
        stdout=subprocess.PIPE, text=True)
    try:
        return process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60.0)


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / 'my_cell.yaml'
    ports = free_port(21000), free_port(22000)
    file.write_text(f'/**/view: {{ros__parameters: {{host: 0.0.0.0, port: {ports[0]}}}}}')
    assert re.fullmatch(rf'open http://.*:{ports[0]}/\?token=.{{16,}}\n', announced(file))
    assert announced(file, '--host', '127.0.0.1', '--port', str(ports[1])) == (
        f'open http://127.0.0.1:{ports[1]}\n')
