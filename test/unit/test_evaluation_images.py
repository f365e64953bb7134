# SPDX-License-Identifier: Apache-2.0
"""RGB-D files that users have, right and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.images import load_folder, load_intrinsics, load_view

H, W = 6, 8
K = [[10.0, 0.0, 3.5], [0.0, 10.0, 2.5], [0.0, 0.0, 1.0]]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    rgb, depth, camera = (tmp_path / f'left_{name}' for name in
                          ('rgb.png', 'depth.png', 'camera.json'))
    colours = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)
    Image.fromarray(colours).save(rgb)
    counts = np.full((H, W), 1234, np.uint16)
    counts[0, 0] = 0
    Image.fromarray(counts).save(depth)
    camera.write_text(json.dumps({'K': K, 'width': W, 'height': H}))
    return rgb, depth, camera


def test_view(files: tuple[Path, Path, Path]) -> None:
    view = load_view('left', *files)
    assert view.rgb[1, 2].tolist() == [30, 31, 32]
    assert np.isnan(view.depth[0, 0])
    assert view.depth[1, 1] == pytest.approx(1.234)
    assert view.K.tolist() == K


def test_depth_unit(files: tuple[Path, Path, Path]) -> None:
    assert load_view('left', *files, depth_unit=1e-4).depth[1, 1] == pytest.approx(0.1234)


def test_folder(files: tuple[Path, Path, Path]) -> None:
    observation = load_folder(files[0].parent)
    assert [view.camera for view in observation.views] == ['left']


@pytest.mark.parametrize('text', [
    json.dumps({'k': [10.0, 0, 3.5, 0, 10.0, 2.5, 0, 0, 1]}),
    json.dumps({'fx': 10, 'fy': 10, 'cx': 3.5, 'cy': 2.5}),
])
def test_json_intrinsics(tmp_path: Path, text: str) -> None:
    file = tmp_path / 'camera.json'
    file.write_text(text)
    assert load_intrinsics(file, H, W).tolist() == K


def test_calibration_yaml(tmp_path: Path) -> None:
    file = tmp_path / 'camera.yaml'
    file.write_text(f'image_width: {W}\nimage_height: {H}\ncamera_matrix:\n  rows: 3\n  cols: 3\n'
                    f'  data: [10.0, 0, 3.5, 0, 10.0, 2.5, 0, 0, 1]\n')
    assert load_intrinsics(file, H, W).tolist() == K


@pytest.mark.parametrize(('text', 'message'), [
    (json.dumps({'K': K, 'width': 640}), 'width'),
    (json.dumps({'fx': 10, 'fy': 10}), 'KeyError'),
    (json.dumps({'K': [1, 2, 3]}), 'reshape'),
    (json.dumps([1, 2]), 'list'),
    (json.dumps({'fx': 0, 'fy': 10, 'cx': 1, 'cy': 1}), 'positive focal'),
    ('{', 'JSONDecodeError'),
])
def test_bad_intrinsics(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / 'camera.json'
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_intrinsics(file, H, W)


def test_missing_files(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    rgb, depth, camera = files
    gone = tmp_path / 'gone'
    for wrong in ((gone, depth, camera), (rgb, gone, camera), (rgb, depth, gone)):
        with pytest.raises(InputError, match='gone'):
            load_view('left', *wrong)
    empty = tmp_path / 'empty'
    empty.mkdir()
    for folder, got in ((gone, 'no such folder'), (rgb, 'a file'), (empty, 'no NAME_rgb.png')):
        with pytest.raises(InputError, match=f'NAME_rgb.*got {got}'):
            load_folder(folder)


@pytest.mark.parametrize(('image', 'message'), [
    (np.zeros((H, W), np.uint8), '16 bits'),
    (np.zeros((H, W, 3), np.uint8), '16 bits'),
    (np.ones((H, W + 1), np.uint16), 'aligned'),
    (np.zeros((H, W), np.uint16), 'only zeros'),
])
def test_bad_depth(files: tuple[Path, Path, Path], image: np.ndarray, message: str) -> None:
    Image.fromarray(image).save(files[1])
    with pytest.raises(InputError, match=message):
        load_view('left', *files)


def test_camera_info_as_ros2_topic_echo_prints_it(tmp_path: Path) -> None:
    """The separator of messages stands at the end."""
    file = tmp_path / 'info.yaml'
    numbers = [300.0, 0.0, 160.0, 0.0, 310.0, 120.0, 0.0, 0.0, 1.0]
    file.write_text('\n'.join(['height: 240', 'width: 320', 'd: [0.0]', 'k:',
                               *(f'- {number}' for number in numbers), '---', '']))
    assert load_intrinsics(file, 240, 320)[1].tolist() == [0.0, 310.0, 120.0]
