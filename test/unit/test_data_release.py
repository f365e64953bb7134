# SPDX-License-Identifier: Apache-2.0
"""Episodes in the layout that 4DGen released become the same data set as bags."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.cli.data_cache import gripper_masks
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.data import staging
from fourdgen_ros.data.cache import Shape, build
from fourdgen_ros.data.dataset import Dataset
from fourdgen_ros.data.episode import DEPTH, GRIPPER
from fourdgen_ros.data.release import ReleaseJob

from .data_bags import camera_pose, depth_mm, opening_at, rgb, tcp_at

SETTINGS = share_directory() / 'config' / 'data' / 'fourdgen_release.yaml'
SIZE, T = (48, 64), 11
HAND = slice(20, 30), slice(30, 44)


def write_episode(folder: Path, **replaced: np.ndarray) -> Path:
    """A synthetic episode; rotations as the first two rows, as 4DGen stores them."""
    processed = folder / 'processed'
    processed.mkdir(parents=True)
    poses = np.stack([tcp_at(k / 10) for k in range(T)])
    observations, intrinsics, extrinsics = {}, {}, {}
    for c, name in enumerate(('scene_1', 'scene_2')):
        labels = np.full((T, *SIZE), 3, np.int16)
        labels[:, *HAND] = (29, 35)[c]
        labels[:, :5] = 32  # between the gripper's labels, but not one of them
        observations |= {name: np.stack([rgb(c, k, SIZE) for k in range(T)]),
                         f'{name}_depth': np.stack([depth_mm(c, k, SIZE) for k in range(T)]),
                         f'{name}_label': labels}
        intrinsics[name] = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
        extrinsics[name] = np.tile(camera_pose(c), (T, 1, 1))
    arm = 'robot__actual__poses__right::panda__'
    observations |= {f'{arm}xyz': poses[:, :3, 3], f'{arm}rot_6d': poses[:, :2, :3].reshape(T, 6),
                     'robot__actual__grippers__right::panda_hand':
                         np.array([[opening_at(k / 10)] for k in range(T)])}
    np.savez(processed / 'observations.npz', **(observations | replaced))
    np.savez(processed / 'intrinsics.npz', **intrinsics)
    np.savez(processed / 'extrinsics.npz', **extrinsics)
    np.savez(processed / 'actions.npz', actions=np.zeros((T, 20)))
    (processed / 'metadata.yaml').write_text(yaml.safe_dump({
        'skills': {'BimanualPlaceAppleFromBowlIntoBin': {}},
        'camera_id_to_semantic_name': {'scene_1': 'scene_1', 'scene_2': 'scene_2'}}))
    return folder


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('release')
    episodes = [str(write_episode(folder / f'episode_{k}')) for k in range(2)]
    assert cli.main(['data', 'import', *episodes, '--out', str(folder / 'set')]) == 0
    return folder / 'set'


def test_rows_that_come_camera_by_camera_are_written_together(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one row each would be many small groups in the data set, too."""
    monkeypatch.setattr(staging, '_GROUP_BYTES', 40_000)  # three rows: depth has 6 kB, twice
    ReleaseJob(write_episode(tmp_path / 'episode'), SETTINGS, 0).convert(tmp_path / 'staged')
    pa = staging.pyarrow()
    with pa.memory_map(str(tmp_path / 'staged' / staging.RECORDS)) as file:
        reader = pa.ipc.open_file(file)
        rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    assert sum(rows) == T
    assert 1 < rows[0] < T and set(rows[:-1]) == {rows[0]}


def test_poses_calibration_and_labels_survive(made: Path) -> None:
    data = Dataset(made)
    assert len(data) == 2 and data.has_masks and data.fps == 10
    episode = data.episode(1)
    assert (episode.task, episode.text) == ('PlaceAppleFromBowlIntoBin',
                                            'BimanualPlaceAppleFromBowlIntoBin')
    for k, pose in enumerate(episode.tcp):
        assert max(se3.distance(pose, tcp_at(k / 10))) < 1e-6
    np.testing.assert_allclose(episode.T_base_camera[4, 1], camera_pose(1), atol=1e-12)
    np.testing.assert_allclose(episode.opening[3], opening_at(0.3), atol=1e-7)
    for picture in data.pictures(1):
        if picture.kind == DEPTH:
            np.testing.assert_array_equal(
                picture.values, depth_mm(picture.camera, picture.record, SIZE))
        elif picture.kind == GRIPPER:
            assert picture.values[HAND].all() and picture.values.sum() == 140


def test_the_cache_takes_the_recorded_masks(made: Path, tmp_path: Path) -> None:
    out = tmp_path / 'cache'
    assert build(made, out, Shape(24, 32), partial(gripper_masks, 'panda_hand')) == 2
    with np.load(out / 'episode_000000.npz') as z:
        assert z['gripper'].shape == (6, 2, 24, 32) and z['gripper'][0, 0].sum() == 35
        assert z['joints'].shape == (6, 0)


@pytest.mark.parametrize(('replaced', 'expected'), [
    ({'scene_2_depth': np.zeros((T, 24, 32), np.uint16)}, 'scene_2_depth in'),
    ({'robot__actual__grippers__right::panda_hand': np.full((T, 1), 8.0)}, 'opening of'),
    ({'scene_1': np.array([{'a': 1}], object)}, 'scene_1 in')],
    ids=['depth size', 'units of the opening', 'a pickle'])
def test_what_does_not_fit_is_named(tmp_path: Path, replaced: dict, expected: str) -> None:
    job = ReleaseJob(write_episode(tmp_path / 'episode', **replaced), SETTINGS, 0)
    with pytest.raises(InputError, match=expected):
        job.convert(tmp_path / 'staged')
    assert not (tmp_path / 'staged').exists() and not list(tmp_path.glob('.staged*'))


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    episode = write_episode(tmp_path / 'episode')
    file = episode / 'processed' / 'observations.npz'
    with np.load(file) as z:
        np.savez_compressed(file, **dict(z))
    with zipfile.ZipFile(file) as archive:
        member = next(i for i in archive.infolist() if i.filename.startswith('scene_1.'))
    content = bytearray(file.read_bytes())
    start = member.header_offset + 30 + len(member.filename)
    content[start + 30:start + 60] = bytes(30)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r'scene_1 in .*observations.npz'):
        ReleaseJob(episode, SETTINGS, 0).convert(tmp_path / 'staged')


def test_an_archive_whose_names_lead_outside_writes_nothing_there(tmp_path: Path) -> None:
    """Members become arrays in memory; a camera that is named like a path is refused."""
    episode = write_episode(tmp_path / 'in' / 'episode', **{'../../escape': np.zeros(3)})
    ReleaseJob(episode, SETTINGS, 0).convert(tmp_path / 'staged')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['in', 'staged']
    settings = tmp_path / 'settings.yaml'
    settings.write_text(SETTINGS.read_text().replace('[scene_1, scene_2]', '["../../escape"]'))
    with pytest.raises(InputError, match='letters, digits'):
        ReleaseJob(episode, settings, 0).convert(tmp_path / 'other')


def test_the_wrong_arm_is_noticed(tmp_path: Path) -> None:
    still = np.tile(tcp_at(0.0)[:3, 3], (T, 1))
    job = ReleaseJob(write_episode(
        tmp_path / 'e', **{'robot__actual__poses__right::panda__xyz': still}), SETTINGS, 0)
    (finding,) = job.convert(tmp_path / 'staged')
    assert finding.verdict == 'bad' and 'other arm' in finding.next
    assert not (tmp_path / 'staged').exists()
