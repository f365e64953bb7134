# SPDX-License-Identifier: Apache-2.0
"""What node `view` shows of the cameras, over real DDS; the page in a browser has its own test."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shown_things as things
from camera_server import Cameras
from ros_graph import Graph, eventually, parameters

from fourdgen_ros.cli.view import free_port
from fourdgen_ros.core import se3
from fourdgen_ros.nodes.tf import StaticTransformPublisher
from fourdgen_ros.nodes.view import KEPT, ViewNode


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


class Moving(ViewNode):
    """The robot is where the test says; its fingers stay."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._road.transforms.lookup = lambda *_: self.pose
        self._joints.positions = lambda names, _: np.full(len(names), 0.025)

    def sees(self, x: float) -> None:
        """The cameras see the tool at `x` m, and the picture knows it in half cm."""
        self.pose = se3.make(np.diag([1.0, -1.0, -1.0]), np.array([x, 0.0, 0.3]))
        self._remember(SimpleNamespace(stamp=0), {
            'cam_left': np.full((1, 1, 3), min(200.0 * x, 255.0), np.uint8)})


@pytest.fixture
def moving(graph: Graph) -> Moving:
    node = graph.add(Moving(**parameters(port=0)))
    node._on_future(things.future(1), things.T_BASE_REF)
    node._on_trajectory(replace(things.trajectory(1), opening=np.full(things.FRAMES, 0.05)))
    node._on_plan(things.plan(1))
    return node


def real(node: Moving) -> dict[int, float]:
    """x of the real picture of each frame that has one."""
    return {t: pictures['cam_left'][0, 0, 0] / 200.0
            for t, pictures in node._page._segments[1].real.items()}


def test_a_long_motion_is_remembered_in_bounds(moving: Moving) -> None:
    xs = np.linspace(0.4, 0.5, 81)  # along the path of the trajectory
    for x in xs:
        moving.sees(x)
    for x in 0.5 + 0.0011 * np.arange(1, 1000):  # and far beyond
        moving.sees(x)
    assert len(moving._samples) <= KEPT
    assert eventually(lambda: len(real(moving)) == 3)
    assert real(moving)[0] == pytest.approx(0.4)
    assert real(moving)[1] == pytest.approx(0.45, abs=0.005)
    assert moving._samples[-1].pose[0, 3] == pytest.approx(0.5 + 0.0011 * 999)


def test_a_robot_that_rests_is_not_compared_again(
        moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    moving.sees(0.4)
    moving.sees(0.45)
    assert eventually(lambda: len(real(moving)) == 2)
    compared = []
    monkeypatch.setattr('fourdgen_ros.nodes.view.match', lambda *_: compared.append(1))
    for _ in range(10):
        moving.sees(0.45)
    moving._compare()
    assert not compared


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
