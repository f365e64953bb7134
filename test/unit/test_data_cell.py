# SPDX-License-Identifier: Apache-2.0
"""What a bag says of the cell: calibration, static links, fingers, and where the cameras look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.data.bag_job import check

from .data_bags import write_bag
from .data_checks import LEFT_INFO, SHORT, changed, edited, problems, warnings

RECTIFIED = ('cameras', 'cam_left', 'rectified')
P = np.array([50.0, 0, 30, 0, 0, 50, 22, 0, 0, 0, 1, 0])


def _rectified(_: float, message) -> None:
    message.p, message.d = P, np.array([-0.3, 0.1, 0.0, 0.0, 0.0])


def _binned(_: float, message) -> None:
    message.binning_x = message.binning_y = 2


def _cut_out(_: float, message) -> None:
    message.roi.x_offset, message.roi.y_offset = 10, 6
    message.roi.width, message.roi.height = 64, 48


def _other_frame(_: float, message) -> None:
    message.header.frame_id = 'cam_left_depth_optical_frame'


def test_a_projection_that_is_not_k_is_a_warning(tmp_path: Path) -> None:
    line, = (w for w in warnings(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, _rectified)))
             if 'of P' in w)
    assert line.startswith(f'{LEFT_INFO}: fx 60.0 of K, 50.0 of P')
    assert 'rectified: true' in line and str(tmp_path / 'map.yaml') in line


def test_rectified_images_get_their_projection_and_no_warning(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', SHORT.but(edit=edited({LEFT_INFO}, _rectified)))
    report = check(bag, changed(tmp_path, *RECTIFIED, to=True))
    np.testing.assert_array_equal(report.records.episode.K[0], P.reshape(3, 4)[:, :3])
    assert [f.verdict for f in report.findings if f.what == LEFT_INFO] == ['ok']


def test_rectified_images_need_a_projection(tmp_path: Path) -> None:
    report = check(write_bag(tmp_path / 'bag', SHORT), changed(tmp_path, *RECTIFIED, to=True))
    line, = report.bad
    assert line.what == LEFT_INFO and 'expected P with positive focal lengths' in line.found


@pytest.mark.parametrize(('change', 'said'), [
    (_binned, 'binning 2x2'), (_cut_out, 'region of interest from (10, 6)')])
def test_a_calibration_of_other_pixels_is_bad(tmp_path: Path, change, said: str) -> None:
    line, = problems(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, change)))
    assert line.startswith(f'{LEFT_INFO}: {said}')


def test_a_calibration_of_another_frame_is_a_warning(tmp_path: Path) -> None:
    assert any(line.startswith(f"{LEFT_INFO}: frame 'cam_left_depth_optical_frame', colour in "
                               "'cam_left_color_optical_frame'")
               for line in warnings(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, _other_frame))))


@pytest.mark.parametrize('change', [_rectified, _binned, _cut_out], ids=['P', 'binning', 'ROI'])
def test_a_calibration_that_changes_midway_is_bad(tmp_path: Path, change) -> None:
    def midway(seconds: float, message) -> None:
        if seconds > 0.3:
            change(seconds, message)

    line, = problems(tmp_path, SHORT.but(edit=edited({LEFT_INFO}, midway)))
    assert line.startswith(f'{LEFT_INFO}: 2 different calibrations')
