# SPDX-License-Identifier: Apache-2.0
"""A LeRobotDataset becomes what the trainer reads; masks come from the mesh."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.cli.data_cache import gripper_masks, gripper_shape
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import ExecutionError, InputError
from fourdgen_ros.core.paths import GRIPPERS
from fourdgen_ros.data import cache
from fourdgen_ros.data.bag_job import BagJob
from fourdgen_ros.data.convert import convert
from fourdgen_ros.data.masks import GripperShape, visible
from fourdgen_ros.training.dataset import Demonstrations, read_meta, split

from .data_bags import NS, START, TCP, Recording, depth_mm, topic_map, write_bag

SIZE = ('--size', '24', '32')


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of two episodes and its cache, by the command line."""
    folder = tmp_path_factory.mktemp('made')
    file = topic_map(folder / 'map.yaml')
    bags = [write_bag(folder / name, Recording(seconds=1.0, start=START + shift * NS))
            for name, shift in (('a', 0), ('b', 60))]
    convert([BagJob(b, file) for b in bags], folder / 'set')
    assert cli.main(['data', 'cache', str(folder / 'set'), '--out', str(folder / 'cache'),
                     *SIZE]) == 0
    return folder / 'set', folder / 'cache'


def test_the_trainer_reads_it(made) -> None:
    data = Demonstrations([made[1]], ('PlaceAppleFromBowlIntoBin',))
    assert data.rate == 5.0 and [len(e) for e in data.episodes] == [6, 6]
    training, held = split(data)
    assert (training, held) == ([1], [[0]])
    batch = data.dynamics_batch(np.random.default_rng(0), 4, training, frames=2, stride=2)
    assert batch.frame0().shape == (4, 2, 7, 24, 32) and bool(batch.tcp.isfinite().all())


def test_depth_is_picked_not_mixed_and_in_tenths_of_a_millimetre(made) -> None:
    with np.load(made[1] / 'episode_000000.npz') as z:
        depth, stamps, K, times = z['depth'], z['stamps'], z['K'], z['times']
    full = depth_mm(1, 4, (48, 64))
    np.testing.assert_array_equal(depth[2, 1], 10 * full[1::2, 1::2])
    np.testing.assert_array_equal(stamps[:, 0], START + np.arange(6) * NS // 5)
    np.testing.assert_allclose(times, np.arange(6) / 5)
    # the half pixel of the grid: core.camera.scale_intrinsics
    np.testing.assert_allclose(K[0], [[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]])


def test_what_is_damaged_is_made_again_and_the_rest_is_kept(made) -> None:
    root, out = made
    good, bad = out / 'episode_000000.npz', out / 'episode_000001.npz'
    before, content = good.stat().st_mtime_ns, bad.read_bytes()
    bad.write_bytes(content[:-100])
    assert cache.verify(out) == ['episode_000001.npz']
    assert cli.main(['data', 'cache', str(root), '--out', str(out), *SIZE]) == 0
    assert cache.verify(out) == [] and good.stat().st_mtime_ns == before
    assert bad.read_bytes() == content


def test_a_camera_that_moves_is_refused_before_anything_is_written(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def carried(name: str, index: int, stamp: int, message) -> list:
        if name == '/tf_static' and index == 1:
            message.transforms[0].header.frame_id = TCP
        return [(name, stamp + 3_000_000, message)]

    file = topic_map(tmp_path / 'map.yaml')
    bags = [write_bag(tmp_path / name, Recording(seconds=0.6, start=START + shift * NS, edit=edit))
            for name, shift, edit in (('fixed', 0, None), ('carried', 60, carried))]
    convert([BagJob(bag, file) for bag in bags], tmp_path / 'set')
    out = tmp_path / 'cache'
    assert cli.main(['data', 'cache', str(tmp_path / 'set'), '--out', str(out), *SIZE]) == 1
    assert 'camera cam_right of episode 1' in ' '.join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_worker_that_is_killed_is_told(made, tmp_path: Path) -> None:
    """As by the system, where memory runs out."""
    with pytest.raises(ExecutionError, match=r'it died.*fewer workers'):
        cache.build(made[0], tmp_path / 'cache', cache.Shape(24, 32), partial(os._exit, 1))


def test_another_size_needs_another_folder(made) -> None:
    with pytest.raises(InputError, match='Write into another folder'):
        cache.build(*made, cache.Shape(12, 16), partial(gripper_masks, 'panda_hand'))


def test_masks_of_another_gripper_need_another_folder(
        made, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own = tmp_path / 'hand'
    shutil.copytree(GRIPPERS / 'panda_hand', own)

    def refused(out: Path) -> bool:
        done = cli.main(['data', 'cache', str(made[0]), '--out', str(out), *SIZE,
                         '--gripper', str(own)])
        return done == 1 and 'Write into another folder' in capsys.readouterr().err

    assert refused(made[1])
    assert not refused(tmp_path / 'cache') and cache.verify(tmp_path / 'cache') == []
    assert not refused(tmp_path / 'cache')
    description = own / 'gripper.yaml'
    description.write_text(description.read_text().replace('0.1034', '0.1234'))
    assert refused(tmp_path / 'cache')


def test_a_cache_of_a_data_set_that_changed_is_refused_and_kept(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', Recording(seconds=0.6))
    root, out, arguments = tmp_path / 'set', tmp_path / 'cache', (cache.Shape(24, 32), partial(
        gripper_masks, 'panda_hand'))
    convert([BagJob(bag, topic_map(tmp_path / 'map.yaml'))], root)
    cache.build(root, out, *arguments)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert cache.build(root, out, *arguments) == 1, 'the same data set is no other'
    shutil.rmtree(root)
    convert([BagJob(bag, topic_map(tmp_path / 'map.yaml', max_age=0.2))], root)
    with pytest.raises(InputError, match=f'cache {out}.*{root}.*another folder, or delete'):
        cache.build(root, out, *arguments)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_cache_that_does_not_know_its_data_set_is_refused(made, tmp_path: Path) -> None:
    """Older versions did not note it."""
    out = tmp_path / 'cache'
    shutil.copytree(made[1], out)
    meta = json.loads((out / 'meta.json').read_text())
    (out / 'meta.json').write_text(json.dumps({k: v for k, v in meta.items()
                                               if k != 'source_state'}))
    with pytest.raises(InputError, match='another folder, or delete'):
        cache.build(made[0], out, cache.Shape(24, 32), partial(gripper_masks, 'panda_hand'))


def test_a_folder_with_something_else_is_not_touched(made, tmp_path: Path) -> None:
    (tmp_path / 'episode_000000.npz').write_bytes(b'mine')
    with pytest.raises(InputError, match='Write into another folder'):
        cache.build(made[0], tmp_path, cache.Shape(24, 32), partial(gripper_masks, 'panda_hand'))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [
        ('episode_000000.npz', b'mine')]


def test_a_cache_that_was_never_finished_is_not_trained_on(made, tmp_path: Path) -> None:
    out = tmp_path / 'cache'
    shutil.copytree(made[1], out)
    assert read_meta(out)['episodes'] == 2
    (out / 'episode_000001.npz').unlink()
    with pytest.raises(InputError, match='expected 2 episodes; got 1.*data cache'):
        read_meta(out)


@pytest.mark.parametrize(('options', 'expected'), [
    (['--rate', '3'], 'a divisor of 10 Hz'), (['--task', 'juggle'], 'one of')])
def test_what_a_data_set_cannot_give_is_refused(made, tmp_path, capsys, options, expected) -> None:
    out = tmp_path / 'cache'
    assert cli.main(['data', 'cache', str(made[0]), '--out', str(out), *options]) == 1
    assert expected in ' '.join(capsys.readouterr().err.split())
    assert not out.exists()


def test_meta_names_the_cameras(made) -> None:
    meta = json.loads((made[1] / 'meta.json').read_text())
    assert meta['cameras'] == ['cam_left', 'cam_right'] and meta['reference'] == 'cam_left'


def test_masks_are_those_of_the_simulator() -> None:
    """The renderer of the cell knows which pixels are the hand."""
    from fourdgen_ros.sim.cell import Cell
    from fourdgen_ros.sim.expert import Expert

    shape, cell = gripper_shape('panda_hand'), Cell('PlaceAppleFromBowlIntoBin')
    cell.reset(5)
    expert = Expert(cell)
    expert.plan_from_here()
    overlaps = []
    for _ in range(8):
        for _ in range(75):
            expert.drive()
        for camera in cell.cameras:
            view, true = cell.render(camera, 96, 128), cell.gripper_mask(camera, 96, 128)
            T = se3.inverse(cell.T_base_camera(camera)) @ cell.tcp_pose()
            mask = visible(shape.depth(T, cell.opening, view.K, 96, 128), view.depth)
            overlaps.append((mask & true).sum() / (mask | true).sum())
    assert min(overlaps) > 0.9


@settings(deadline=None, max_examples=25)
@given(st.floats(0.4, 2.0), st.floats(-0.2, 0.2), st.floats(-3.0, 3.0))
def test_a_sphere_is_where_geometry_says(distance: float, shift: float, turn: float) -> None:
    trimesh = pytest.importorskip('trimesh')
    radius = 0.05
    shape = GripperShape([(trimesh.creation.icosphere(subdivisions=4, radius=radius),
                           np.array([1.0, 0.0, 0.0]))])
    K = np.array([[100.0, 0, 40], [0, 100.0, 30], [0, 0, 1]])
    T = se3.make(se3.exp_so3(np.array([0.0, 0.0, turn])), np.array([shift, 0.0, distance]))
    opening = 0.01
    depth = shape.depth(T, opening, K, 60, 80)
    centre = T[:3, 3] + T[:3, 0] * opening
    rays = np.stack([*(np.meshgrid((np.arange(80) - 40) / 100, (np.arange(60) - 30) / 100)),
                     np.ones((60, 80))], -1)
    along = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    reach = along @ centre
    square = radius**2 - (centre @ centre - reach**2)
    inside = square > (0.1 * radius) ** 2
    expected = ((reach - np.sqrt(np.maximum(square, 0))) * along[..., 2])[inside]
    np.testing.assert_allclose(depth[inside], expected, atol=1e-3)
    assert not np.isfinite(depth[square < -((0.1 * radius) ** 2)]).any()


@pytest.mark.parametrize('at', [(-0.6, 0.0, 0.5), (0.6, 0.0, 0.5), (0.0, -0.6, 0.5),
                                (0.0, 0.6, 0.5), (0.0, 0.0, -2.0)],
                         ids=['left', 'right', 'above', 'below', 'behind'])
def test_a_gripper_outside_the_image_has_an_empty_mask(at: tuple[float, float, float]) -> None:
    trimesh = pytest.importorskip('trimesh')
    shape = GripperShape([(trimesh.creation.box((0.05, 0.05, 0.05)), np.zeros(3))])
    K = np.array([[100.0, 0, 63.5], [0, 100.0, 47.5], [0, 0, 1]])
    depth = shape.depth(se3.make(translation=np.array(at)), 0.0, K, 96, 128)
    assert not np.isfinite(depth).any()
    assert not visible(depth, np.full((96, 128), np.nan, np.float32)).any()


def test_an_occluder_and_a_hole() -> None:
    rendered = np.array([[0.5, 0.5, 0.5, np.inf]], np.float32)
    measured = np.array([[0.505, 0.4, np.nan, 0.5]], np.float32)
    assert visible(rendered, measured).tolist() == [[True, False, True, False]]
