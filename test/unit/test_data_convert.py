# SPDX-License-Identifier: Apache-2.0
"""Bags -> LeRobotDataset: lossless, whole or not at all, and readable by lerobot itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import ExecutionError, InputError
from fourdgen_ros.data import assembly, convert, layout
from fourdgen_ros.data.bag_job import BagJob, check
from fourdgen_ros.data.dataset import Dataset
from fourdgen_ros.data.episode import COLOUR, DEPTH
from fourdgen_ros.data.pictures import depth_bytes, image_from_bytes

from .data_bags import NS, START, Recording, depth_mm, rgb, topic_map, write_bag
from .data_checks import LEFT_DEPTH, edited

SHORT = Recording(seconds=0.6)
TEXT = 'lege den Äpfel 🍎 in die Kiste'


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Path]:
    """A data set of two good bags with a bad one between them, by the command line."""
    folder = tmp_path_factory.mktemp('made')
    file = topic_map(folder / 'map.yaml', text=TEXT)
    bags = [write_bag(folder / 'a', SHORT),
            write_bag(folder / 'still', SHORT.but(start=START + 30 * NS, arm_tf=False)),
            write_bag(folder / 'b', SHORT.but(start=START + 60 * NS, seconds=0.9,
                                              notes={'text': 'put it back'}))]
    out = folder / 'set'
    assert cli.main(['data', 'convert', *map(str, bags), '--map', str(file), '--out', str(out),
                     '--json', str(folder / 'report.json')]) == 0
    return out, bags, file


def test_good_bags_become_episodes_and_bad_ones_are_named(made) -> None:
    out = made[0]
    report = json.loads((out.parent / 'report.json').read_text())
    assert [r['records'] for r in report['recordings']] == [7, 0, 10]
    assert 'TCP' in report['recordings'][1]['reason']
    assert not list(out.parent.glob('.set*')), 'the working folder is gone'
    data = Dataset(out)
    assert [(r['length'], r['tasks']) for r in data.rows] == [(7, [TEXT]), (10, ['put it back'])]
    assert data.rows[1]['dataset_from_index'] == 7


def test_depth_is_bit_exact_and_stamps_are_true(made) -> None:
    out, _, file = made
    data = Dataset(out)
    for index, start in enumerate((START, START + 60 * NS)):
        episode = data.episode(index)
        np.testing.assert_array_equal(
            episode.stamps[:, 1], start + np.arange(len(episode)) * NS // 10 + 1_000_000)
        for picture in data.pictures(index):
            size = picture.values.shape[:2]
            if picture.kind == DEPTH:
                assert picture.values.dtype == np.uint16
                np.testing.assert_array_equal(
                    picture.values, depth_mm(picture.camera, picture.record, size))
            else:
                assert picture.kind == COLOUR
                error = picture.values.astype(int) - rgb(picture.camera, picture.record, size)
                assert np.abs(error).mean() < 6  # chroma of small squares is halved
    expected = check(out.parent / 'a', file).records.episode
    episode = data.episode(0)
    np.testing.assert_array_equal(episode.K, expected.K)
    np.testing.assert_array_equal(episode.T_base_camera, expected.T_base_camera)
    for a, b in zip(episode.tcp, expected.tcp, strict=True):
        assert max(se3.distance(a, b)) < 1e-9
    np.testing.assert_allclose(episode.opening, expected.opening, atol=1e-8)
    assert (episode.task, episode.text) == ('PlaceAppleFromBowlIntoBin', TEXT)


def test_float_depth_is_bit_exact_too() -> None:
    depth = np.random.default_rng(0).normal(1.0, 0.2, (20, 30)).astype(np.float32)
    depth[3, 4] = np.nan
    np.testing.assert_array_equal(image_from_bytes(depth_bytes(depth), 'depth'), depth)


def test_the_video_is_at_a_constant_rate(made) -> None:
    av = pytest.importorskip('av')
    video = made[0] / layout.VIDEO.format(
        video_key=layout.image_key('cam_left', COLOUR), chunk_index=0, file_index=1)
    with av.open(str(video)) as file:
        times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(10) / 10, atol=1e-9)


def test_statistics_of_all_are_those_of_the_numbers(made) -> None:
    stats = json.loads((made[0] / layout.STATS).read_text())
    data = Dataset(made[0])
    opening = np.concatenate([data.episode(i).opening for i in range(2)])
    assert stats[layout.STATE]['mean'][-1] == pytest.approx(opening.mean(), rel=1e-5)
    assert stats[layout.STATE]['std'][-1] == pytest.approx(opening.std(), rel=1e-5)
    assert np.shape(stats[layout.image_key('cam_left', COLOUR)]['mean']) == (3, 1, 1)
    assert stats[layout.image_key('cam_left', DEPTH)]['max'][0][0][0] > 1000.0  # mm


def test_depth_out_of_range_leaves_statistics_of_the_rest(tmp_path: Path) -> None:
    """ZED cameras send infinite depth beyond their range (REP 117)."""
    def out_of_range(_: float, message) -> None:
        values = message.data.view(np.float32).copy()
        values[:200], values[200:300] = np.inf, -np.inf
        message.data = values.view(np.uint8)

    bag = write_bag(tmp_path / 'bag', SHORT.but(
        depth_encoding='32FC1', edit=edited({LEFT_DEPTH}, out_of_range)))
    convert.convert([BagJob(bag, topic_map(tmp_path / 'map.yaml'))], tmp_path / 'set')
    stats = json.loads((tmp_path / 'set' / layout.STATS).read_text())
    depth = {key: value for key, value in stats[layout.image_key('cam_left', DEPTH)].items()
             if key != 'count'}
    assert all(0.0 <= value[0][0][0] < 2.0 for value in depth.values()), depth
    stored = next(p.values for p in Dataset(tmp_path / 'set').pictures(0) if p.kind == DEPTH)
    assert np.isinf(stored).sum() == 300, 'what was recorded is kept'


def test_lerobot_itself_reads_it(made) -> None:
    pytest.importorskip('lerobot')
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset('local/set', root=made[0], video_backend='pyav')
    assert (data.num_episodes, data.num_frames, data.fps) == (2, 17, 10)
    item = data[9]
    assert item['task'] == 'put it back'
    assert item['observation.camera.cam_left.stamp'].item() == START + 60 * NS + 2 * NS // 10
    np.testing.assert_array_equal(item['observation.images.cam_right_depth'][0].numpy(),
                                  depth_mm(1, 2, (48, 64)))
    assert item['observation.images.cam_left'].shape == (3, 48, 64)


def test_a_folder_that_exists_is_not_touched(made, capsys: pytest.CaptureFixture) -> None:
    out, bags, file = made
    before = sorted(p.stat().st_mtime_ns for p in out.rglob('*'))
    assert cli.main(['data', 'convert', str(bags[0]), '--map', str(file), '--out', str(out)]) == 1
    assert 'a folder that does not exist' in ' '.join(capsys.readouterr().err.split())
    assert sorted(p.stat().st_mtime_ns for p in out.rglob('*')) == before


def test_bags_that_overlap_in_time_are_refused(tmp_path: Path, made) -> None:
    _, bags, file = made
    later = write_bag(tmp_path / 'later', SHORT.but(start=START + NS // 4))
    with pytest.raises(InputError, match=f'recordings {bags[0]} and {later}.*in common'):
        convert.convert([BagJob(b, file) for b in (bags[0], later)], tmp_path / 'set')
    assert not (tmp_path / 'set').exists()


def test_episodes_of_a_simulator_that_starts_anew_do_not_overlap(tmp_path: Path) -> None:
    """Its clock starts near 0 in each of them: nothing tells which was before the other."""
    file = topic_map(tmp_path / 'map.yaml')
    bags = [write_bag(tmp_path / name, SHORT.but(start=NS)) for name in ('a', 'b')]
    convert.convert([BagJob(bag, file) for bag in bags], tmp_path / 'set')
    assert [row['length'] for row in Dataset(tmp_path / 'set').rows] == [7, 7]


def test_one_bag_named_twice_and_only_bad_bags_leave_nothing(tmp_path: Path, made) -> None:
    _, bags, file = made
    with pytest.raises(InputError, match='each once'):
        convert.convert([BagJob(bags[0], file)] * 2, tmp_path / 'set')
    with pytest.raises(InputError, match=r'at least one good recording.*still.*TCP'):
        convert.convert([BagJob(bags[1], file)], tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_not_there_ends_it_before_anything_is_done(tmp_path: Path, made) -> None:
    """A slip of the keyboard, not a recording that is left out."""
    _, bags, file = made
    jobs = [BagJob(bags[0], file), BagJob(tmp_path / 'bag_17', file)]
    with pytest.raises(InputError, match='recording .*bag_17; expected .* got nothing there'):
        convert.convert(jobs, tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_conversion_goes_on(tmp_path: Path, made, monkeypatch) -> None:
    _, bags, file = made
    jobs, out = [BagJob(bags[0], file), BagJob(bags[2], file)], tmp_path / 'set'
    monkeypatch.setattr(convert, 'assemble', lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert.convert(jobs, out)
    staged = {p: p.stat().st_mtime_ns for p in (tmp_path / '.set.part').glob('*/records.arrow')}
    assert len(staged) == 2 and not out.exists()
    monkeypatch.setattr(convert, 'assemble', assembly.assemble)
    seen = []
    convert.convert(jobs, out, done=lambda o: seen.append(o.episode.folder / 'records.arrow'))
    assert set(seen) == set(staged), 'they were not converted again'
    assert len(Dataset(out)) == 2


def test_warnings_of_what_is_kept_are_in_the_report(made) -> None:
    report = json.loads((made[0].parent / 'report.json').read_text())['recordings']
    assert [len(r['warnings']) for r in report] == [1, 0, 1]
    assert report[0]['warnings'][0].startswith('outcome: not labelled, taken for success -> Label')


def test_warnings_are_shown_and_outlive_an_interruption(
        tmp_path: Path, made, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    arguments = ['data', 'convert', str(made[1][0]), '--map', str(made[2]), '--out',
                 str(tmp_path / 'set')]
    with monkeypatch.context() as patch:
        patch.setattr(convert, 'assemble', lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cli.main(arguments)
    assert cli.main(arguments) == 0
    shown = ' '.join(capsys.readouterr().out.split())
    assert f'warning of {made[1][0]}: outcome: not labelled' in shown


class _Killed(BagJob):
    """As by the system, where memory runs out."""

    def convert(self, folder: Path) -> list:
        os._exit(1)


def test_a_worker_that_is_killed_is_told_and_the_rest_is_kept(tmp_path: Path, made) -> None:
    _, bags, file = made
    jobs, out = [BagJob(bags[0], file), _Killed(bags[2], file)], tmp_path / 'set'
    with pytest.raises(ExecutionError, match=r'it died.*fewer workers'):
        convert.convert(jobs, out)
    assert not out.exists()
    assert len(list((tmp_path / '.set.part').glob('*/records.arrow'))) == 1


def test_several_workers_write_the_same_data_set(tmp_path: Path, made) -> None:
    out, bags, file = made
    jobs = [BagJob(bag, file) for bag in bags]
    outcomes = convert.convert(jobs, tmp_path / 'set', workers=2)
    assert [outcome.source for outcome in outcomes] == bags
    names = sorted(path.relative_to(out) for path in out.rglob('*') if path.is_file())
    assert names == sorted(path.relative_to(tmp_path / 'set')
                           for path in (tmp_path / 'set').rglob('*') if path.is_file())
    for name in names:
        assert (tmp_path / 'set' / name).read_bytes() == (out / name).read_bytes(), name


def test_a_corrected_urdf_makes_another_episode(tmp_path: Path) -> None:
    """What was staged with the old one is not taken for it."""
    map = topic_map(tmp_path / 'map.yaml', tcp={'frame': 'panda_hand_tcp', 'urdf': 'arm.urdf'})
    bag = write_bag(tmp_path / 'bag', SHORT)
    marks = set()
    for text in ('<robot name="a"/>', '<robot name="b"/>'):
        (tmp_path / 'arm.urdf').write_text(text)
        marks.add(BagJob(bag, map).fingerprint())
    assert len(marks) == 2 and BagJob(bag, map).fingerprint() in marks


def test_a_disk_without_hard_links_gets_copies(tmp_path: Path, made, monkeypatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, 'Operation not permitted', str(source))

    monkeypatch.setattr(assembly.os, 'link', refuse)
    convert.convert([BagJob(made[1][0], made[2])], tmp_path / 'set')
    assert len(list(Dataset(tmp_path / 'set').pictures(0))) == 28


def test_rates_that_differ_are_refused(tmp_path: Path, made) -> None:
    _, bags, file = made
    slow = topic_map(tmp_path / 'slow.yaml', fps=5)
    with pytest.raises(InputError, match=r'expected .*as in .*a'):
        convert.convert([BagJob(bags[0], file), BagJob(bags[2], slow)], tmp_path / 'set')
    assert not (tmp_path / 'set').exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, made) -> None:
    """The kernel refuses files beyond a size, as a quota does."""
    _, bags, file = made
    code = ('import resource, sys\n'
            'from fourdgen_ros.cli.__main__ import main\n'
            'if __name__ == "__main__":\n'
            '    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))\n'
            '    sys.exit(main(sys.argv[1:]))\n')
    script = tmp_path / 'limited.py'
    script.write_text(code)
    out = tmp_path / 'set'
    done = subprocess.run(
        [sys.executable, str(script), 'data', 'convert', str(bags[0]), '--map', str(file), '--out',
         str(out)], capture_output=True, text=True, check=False)
    error = ' '.join(done.stderr.split())
    assert done.returncode == 1, done.stderr
    assert 'finished episodes are kept' in error and 'Traceback' not in error
    assert not out.exists()
    left = [p for p in (tmp_path / '.set.part').iterdir() if p.name != 'lock']
    assert left == [], 'no half an episode'


def test_too_little_space_is_noticed_before_anything_is_written(
        tmp_path: Path, made, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(convert.shutil, 'disk_usage', lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match='GB free'):
        convert.convert([BagJob(made[1][0], made[2])], tmp_path / 'set')
    assert not (tmp_path / 'set').exists()


def test_a_data_set_that_points_outside_its_folder_is_refused(tmp_path: Path, made) -> None:
    copy = tmp_path / 'set'
    shutil.copytree(made[0], copy)
    info = json.loads((copy / layout.INFO).read_text())
    info['data_path'] = '../../outside.parquet'
    (copy / layout.INFO).write_text(json.dumps(info))
    with pytest.raises(InputError, match='files inside its folder'):
        Dataset(copy).episode(0)


def test_a_damaged_data_set_is_named(tmp_path: Path, made) -> None:
    copy = tmp_path / 'set'
    shutil.copytree(made[0], copy)
    video = next(copy.glob('videos/*cam_left/*/file-000.mp4'))
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(InputError, match='video .*file-000.mp4'):
        list(Dataset(copy).pictures(0))


def test_two_conversions_to_one_folder_do_not_meet(tmp_path: Path, made) -> None:
    import fcntl

    part = tmp_path / '.set.part'
    part.mkdir()
    with open(part / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match='no other conversion'):
            convert.convert([BagJob(made[1][0], made[2])], tmp_path / 'set')


def test_check_by_the_command_line(made, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    _, bags, file = made
    arguments = ['data', 'check', *map(str, bags[:2]), '--map', str(file), '--json',
                 str(tmp_path / 'report.json')]
    assert cli.main(arguments) == 1
    shown = capsys.readouterr().out
    assert 'good, 7 records' in ' '.join(shown.split()) and 'bad' in shown
    report = json.loads((tmp_path / 'report.json').read_text())
    assert [b['ok'] for b in report['bags']] == [True, False]
    assert os.path.basename(report['bags'][1]['bag']) == 'still'
