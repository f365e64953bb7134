# SPDX-License-Identifier: Apache-2.0
"""What is drawn: clouds, colours, boxes, the pace of a future and which way is up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.tracker.gripper_model import load_gripper
from fourdgen_ros.view import geometry
from fourdgen_ros.view.hand import load_hand


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0.02, 2.0), st.floats(0.0, 100.0))
def test_playback_shows_every_frame_for_dt_and_begins_again(frames: int, dt: float,
                                                            elapsed: float) -> None:
    playback = geometry.Playback(frames, dt)
    assert 0 <= playback.frame(elapsed) < frames
    for t in range(frames):
        assert playback.frame(t * dt) == t
        assert playback.frame((t + 0.9) * dt) == t
    period = frames * dt + max(0.0, geometry.HOLD - dt)
    assert playback.frame(period - 1e-6) == frames - 1
    assert playback.frame(period + 1e-6) == 0


@given(st.integers(1, 60), st.integers(2, 10))
def test_evenly_has_both_ends(count: int, most: int) -> None:
    chosen = geometry.evenly(count, most)
    assert chosen[0] == 0 and chosen[-1] == count - 1
    assert len(chosen) == min(count, most)
    gaps = np.diff(chosen)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_box_edges_are_those_of_the_box() -> None:
    edges = geometry.box_edges((0.0, -1.0, None), (2.0, 1.0, 3.0))
    assert edges.shape == (12, 2, 3)
    assert edges[..., 0].min() == 0.0  # 0.0 is a bound
    assert edges[..., 2].min() == -geometry.OPEN_SIDE
    lengths = np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)
    assert sorted(lengths.tolist()) == pytest.approx([2.0] * 8 + [3.0 + geometry.OPEN_SIDE] * 4)
    assert len(np.unique(edges.reshape(-1, 6), axis=0)) == 12


def test_confidence_colours() -> None:
    low, high, above = geometry.confidence_colours(np.array([0.0, 1.0, 7.0]))
    assert low[0] > low[1] and high[1] > high[0]
    np.testing.assert_array_equal(high, above)


@settings(deadline=None)
@given(st.integers(1, 5))
def test_live_cloud_keeps_the_geometry_at_any_stride(stride: int) -> None:
    rng = np.random.default_rng(stride)
    depth = rng.uniform(0.5, 1.0, (11, 14)).astype(np.float32)
    K = np.array([[12.0, 0, 6.5], [0, 12.5, 5.2], [0, 0, 1.0]])
    rgb = rng.integers(0, 255, (11, 14, 3)).astype(np.uint8)
    T = se3.make(se3.exp_so3(np.array([0.3, -1.0, 0.5])), np.array([1.0, 2.0, 3.0]))
    points, colours = geometry.live_cloud(RgbdView(rgb, depth, K, 0, 'c'), T, stride)
    all_points = se3.apply(T, pointmap(depth, K))
    np.testing.assert_allclose(points, all_points[::stride, ::stride], atol=1e-5)
    np.testing.assert_array_equal(colours, rgb[::stride, ::stride])


@settings(deadline=None, max_examples=30)
@given(st.floats(-0.4, 0.4), st.floats(0.25, 1.2), st.floats(0.4, 2.0))
def test_upright_stands_on_the_table(roll: float, tilt: float, height: float) -> None:
    """A camera above a table with a box on it, tilted down and rolled."""
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.uniform(-1, 1, (3000, 2)), np.zeros(3000)])
    box = np.column_stack([rng.uniform(-0.1, 0.1, (800, 2)), rng.uniform(0, 0.2, 800)])
    forward = np.array([np.cos(tilt), 0.0, -np.sin(tilt)])
    right = np.array([0.0, -1.0, 0.0])
    R = np.stack([right, np.cross(forward, right), forward], axis=1)
    T_world_cam = se3.make(R @ se3.exp_so3(np.array([0, 0, roll])), np.array([-1.0, 0, height]))
    seen = se3.apply(se3.inverse(T_world_cam), np.concatenate([table, box]))
    T = geometry.upright(seen.astype(np.float32))
    assert se3.is_rigid(T)
    np.testing.assert_allclose(se3.apply(T, seen[:3000])[:, 2], 0.0, atol=0.02)
    assert se3.apply(T, seen[3000:])[:, 2].max() > 0.15  # the box stands on it
    assert (T @ [0, 0, 0, 1])[2] == pytest.approx(height, abs=0.02)


@pytest.mark.parametrize('points', [
    np.full((5, 3), np.nan, np.float32), np.zeros((0, 3), np.float32),
    np.column_stack([np.linspace(-1, 1, 300), np.sin(np.arange(300)), np.full(300, 2.0)])])
def test_upright_without_a_table_looks_straight_ahead(points: np.ndarray) -> None:
    T = geometry.upright(points.astype(np.float32))
    assert se3.is_rigid(T)
    np.testing.assert_allclose(T[2, :3], [0.0, -1.0, 0.0], atol=1e-9)


@pytest.mark.parametrize('opening', [0.0, 0.03, 0.08])
def test_hand_parts_lie_where_the_tracker_has_them(opening: float) -> None:
    import trimesh

    meshes = []
    for part in load_hand('panda_hand'):
        mesh = trimesh.load(part.mesh, force='mesh')
        meshes.append(mesh.apply_transform(part.at(np.eye(4), opening)))
    ours = trimesh.util.concatenate(meshes)
    np.testing.assert_allclose(ours.vertices, load_gripper('panda_hand').mesh(opening).vertices,
                               atol=1e-9)
