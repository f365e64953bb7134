# SPDX-License-Identifier: Apache-2.0
"""Which moment of an execution belongs to which imagined frame, and the pictures made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from fourdgen_ros.core import se3
from fourdgen_ros.core.types import Future, GripperTrajectory
from fourdgen_ros.evaluation import picture
from fourdgen_ros.evaluation.drawing import IMAGINED, REAL, depth_colours
from fourdgen_ros.evaluation.recording import SHOWN, Recording, executed_errors, match


def _poses(x: list[float]) -> np.ndarray:
    return np.stack([se3.make(None, np.array([value, 0.0, 0.8])) for value in x])


def test_match_follows_the_path_whatever_its_timing() -> None:
    path = _poses(list(np.linspace(0.0, 0.3, 31)) + [0.3] * 20)
    index = match(_poses([0.0, 0.1, 0.2, 0.3]), np.zeros(4), path, np.zeros(51))
    assert index.tolist() == [0, 10, 20, 50]


def test_match_goes_there_and_back() -> None:
    """The same place is passed twice; the order of time decides which passage is meant."""
    x = list(np.linspace(0.0, 0.2, 21)) + list(np.linspace(0.2, 0.0, 21))
    index = match(_poses([0.0, 0.1, 0.2, 0.1, 0.0]), np.zeros(5), _poses(x), np.zeros(42))
    assert index.tolist() == [0, 10, 21, 31, 41]


def test_match_waits_for_the_fingers() -> None:
    path, opening = _poses([0.0] * 10), np.r_[np.full(5, 0.08), np.full(5, 0.05)]
    index = match(_poses([0.0, 0.0]), np.array([0.08, 0.05]), path, opening)
    assert index[0] == 0
    assert index[1] >= 5


@pytest.fixture
def recording() -> Recording:
    V, T, H, W = 2, 4, 48, 64
    depth = np.full((V, T, H, W), 1.0, np.float32)
    v, u = np.mgrid[:H, :W].astype(np.float32)
    points = np.stack([np.broadcast_to(u / 64, depth.shape), np.broadcast_to(v / 48, depth.shape),
                       depth], -1)
    points[:, :, 0, 0] = np.nan
    K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
    future = Future(
        rgb=np.broadcast_to((3 * u).astype(np.uint8)[..., None], (V, T, H, W, 3)), points=points,
        valid=np.isfinite(points).all(-1), gripper=np.zeros(depth.shape, np.float32), dt=0.5,
        K=np.stack([K, K]), cameras=('left', 'right'), stamp=0, generator='test')
    poses = _poses([0.0, 0.05, 0.1, 0.15])
    trajectory = GripperTrajectory(poses, np.full(4, 0.05), np.ones(4), 0.5 * np.arange(4),
                                   'base', 0)
    shifted = poses[:3].copy()
    shifted[:, 1, 3] += 0.002
    real = np.full((V, 3, *SHOWN, 3), 90, np.uint8)
    return Recording(future, trajectory, real, shifted, shifted, np.stack([np.eye(4)] * 2))


def test_executed_errors(recording: Recording) -> None:
    assert executed_errors(recording) == pytest.approx(np.array([[2.0, 0.0]] * 3))


def test_film_shows_every_executed_frame_once(recording: Recording, tmp_path: Path) -> None:
    pages = list(picture.film([recording, recording]))
    assert len(pages) == 5  # 3 frames, then 2: the first of the second is the last of the first
    file = tmp_path / 'film.gif'
    picture.save_gif(iter(pages), file, 0.5)
    with Image.open(file) as gif:
        assert (gif.n_frames, gif.size) == (5, pages[0].size)
        assert gif.info['duration'] == 500
        seen = np.asarray(gif.convert('RGB')).astype(int)
    for colour in (IMAGINED, REAL):  # the reduction to 256 colours keeps those of the paths
        assert (np.abs(seen - colour) < 10).all(-1).sum() > 50


def test_film_keeps_the_colour_of_a_small_object(tmp_path: Path) -> None:
    """An apple is red in the film too, though wood and walls have nearly all pixels."""
    v, u = np.mgrid[:240, :320]
    light = 0.5 + u / 640 + 0.1 * np.sin(v / 3)
    page = light[..., None] * np.where((v > 80)[..., None], (190, 130, 90), (90, 90, 95))
    page[150:200, 200:280] = light[150:200, 200:280, None] * (35, 80, 150)
    page = page.astype(np.uint8)
    page[100:106, 50:56] = 228, 12, 10
    file = tmp_path / 'film.gif'
    picture.save_gif(iter([Image.fromarray(page)]), file, 0.5)
    with Image.open(file) as gif:
        seen = np.asarray(gif.convert('RGB')).astype(int)
    assert np.abs(seen[100:106, 50:56] - (228, 12, 10)).max() <= 25
    assert np.abs(seen - page).mean() < 5


def test_paths_are_drawn(recording: Recording) -> None:
    """Tracked on both sides, further than what was executed; executed on the real side only."""
    page = np.asarray(next(picture.film([recording]))).astype(int)
    height, width = SHOWN
    amber, green = ((np.abs(page - np.array(colour)) < 30).all(-1)[40:height] for colour in
                    (IMAGINED, REAL))
    assert amber[:, :width].sum() > 50
    assert amber[:, width:].sum() > 10
    assert green[:, :width].sum() == 0
    assert green[:, width:].sum() > 50


def test_strip_has_a_row_per_view_and_kind(recording: Recording) -> None:
    image = picture.strip([recording])
    assert image.height > 4 * 150
    assert image.width > 3 * 200


def test_future_film(recording: Recording) -> None:
    assert len(list(picture.future_film(recording.future))) == recording.future.frames


def test_cloud_has_the_valid_points_and_their_colours(recording: Recording,
                                                      tmp_path: Path) -> None:
    future = recording.future
    picture.save_ply(future, 1, tmp_path / 'cloud.ply')
    cloud = trimesh.load(tmp_path / 'cloud.ply')
    points, colours = picture.fused_cloud(future, 1)
    assert len(points) == future.valid[:, 1].sum() == 2 * (48 * 64 - 1)
    np.testing.assert_allclose(cloud.vertices, points, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], colours)


def test_depth_colours_order_and_unknown() -> None:
    colours = depth_colours(np.array([[0.5, 1.0, 1.5, np.nan, 9.0]]), 0.5, 1.5)
    brightness = colours.astype(int).sum(-1)[0]
    assert brightness[0] > brightness[1] > brightness[2] == brightness[4]
    assert (colours[0, 3] == 128).all()
