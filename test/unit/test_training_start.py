# SPDX-License-Identifier: Apache-2.0
"""What is checked before a training starts or goes on, and a disk that is full."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.core.errors import InputError, TrainingError
from fourdgen_ros.training import loop, tiny
from fourdgen_ros.training.binding import bind_start, require_kind, require_weights
from fourdgen_ros.training.dataset import Demonstrations, read_meta

TASK = 'PlaceAppleFromBowlIntoBin'
META = {'format': 'fourdgen-episodes-1', 'task': TASK, 'rate_hz': 5.0}
START = {'--init': Path('runs/one/preset'), '--seed': 0, '--sensor-faults': False,
         '--data': [Path('data/apple'), Path('data/box')]}
MINUTES = {'codec_minutes': 1.0, 'dynamics_minutes': 1.0}


def demonstrations(folder: Path, views: int = 2, rate: float = 5.0) -> Path:
    """Two episodes, as large as the model wants them, in which nothing moves."""
    folder.mkdir()
    (folder / 'meta.json').write_text(json.dumps(META | {'rate_hz': rate}))
    poses = np.tile(np.eye(4), (12, 1, 1))
    K = np.array([[60.0, 0.0, 63.5], [0.0, 60.0, 47.5], [0.0, 0.0, 1.0]])
    for i in range(2):
        np.savez(folder / f'episode_{i}.npz', rgb=np.full((12, views, 96, 128, 3), 90, np.uint8),
                 depth=np.full((12, views, 96, 128), 9000, np.uint16),
                 gripper=np.zeros((12, views, 96, 128), bool), tcp=poses,
                 opening=np.full(12, 0.08), K=np.tile(K, (views, 1, 1)),
                 T_base_camera=poses[:views])
    return folder


def begun(folder: Path, minutes: float) -> None:
    """The stage in `folder` has been trained so long."""
    torch.save({'minutes': minutes}, folder / 'last.pt')


@pytest.mark.parametrize(('changed', 'message'), [
    ({'--init': None}, 'expected --init runs/one/preset, as .*; got no --init'),
    ({'--init': Path('runs/two/preset')}, 'got --init runs/two/preset'),
    ({'--seed': 1}, 'expected --seed 0, .*got --seed 1'),
    ({'--sensor-faults': True}, 'expected no --sensor-faults, .*got --sensor-faults'),
    ({'--data': [Path('data/box')]}, 'expected --data data/apple data/box, .*got --data data/box')])
def test_a_stage_does_not_go_on_from_another_start(tmp_path: Path, changed: dict,
                                                   message: str) -> None:
    bind_start(tmp_path, START | changed, 10.0)  # of a start that ended before its first step
    bind_start(tmp_path, START, 10.0)
    begun(tmp_path, 5.0)
    bind_start(tmp_path, START, 10.0)
    bind_start(tmp_path, START, 20.0)
    with pytest.raises(InputError, match=message) as error:
        bind_start(tmp_path, START | changed, 10.0)
    assert 'another --out' in error.value.hint


def test_a_stage_that_has_had_its_minutes_lets_the_next_have_other_data(tmp_path: Path) -> None:
    """As the bundled model was made: its codec saw other demonstrations than its dynamics."""
    bind_start(tmp_path, START, 42.0)
    begun(tmp_path, 42.01)
    bind_start(tmp_path, START | {'--data': ['data/deep']}, 42.0)
    with pytest.raises(InputError, match='--data'):
        bind_start(tmp_path, START | {'--data': ['data/deep']}, 43.0)
    with pytest.raises(InputError, match='--seed'):
        bind_start(tmp_path, START | {'--seed': 1}, 42.0)


def test_a_run_of_before_starts_were_kept_goes_on(tmp_path: Path) -> None:
    begun(tmp_path, 5.0)
    bind_start(tmp_path, START, 10.0)
    with pytest.raises(InputError, match='--seed'):
        bind_start(tmp_path, START | {'--seed': 1}, 10.0)


def test_train_refuses_another_start_before_anything_changes(tmp_path: Path) -> None:
    folder, out = demonstrations(tmp_path / 'data'), tmp_path / 'out'
    bind_start(out / 'dynamics', {'--seed': 1}, 1.0)
    begun(out / 'dynamics', 0.5)
    with pytest.raises(InputError, match='dynamics; expected .*--seed 1.*got .*--seed 0'):
        tiny.train_preset([folder], out, **MINUTES)
    assert not (out / 'preset').exists() and not (out / 'codec' / 'last.pt').exists()


@pytest.mark.parametrize('stage', ['codec', 'dynamics'])
def test_a_stage_without_minutes_needs_weights(tmp_path: Path, stage: str) -> None:
    folder, out = demonstrations(tmp_path / 'data'), tmp_path / 'out'
    with pytest.raises(InputError, match=f'--{stage}-minutes 0; expected weights to start from'):
        tiny.train_preset([folder], out, **MINUTES | {f'{stage}_minutes': 0.0})
    assert not (out / 'preset').exists()


def test_weights_are_given_or_were_trained_before(tmp_path: Path) -> None:
    require_weights(tmp_path, 1.0, '--m', given=False)
    require_weights(tmp_path, 0.0, '--m', given=True)
    begun(tmp_path, 5.0)
    require_weights(tmp_path, 0.0, '--m', given=False)


def test_what_only_the_second_stage_needs_is_checked_before_the_first(tmp_path: Path) -> None:
    two, one = demonstrations(tmp_path / 'two'), demonstrations(tmp_path / 'one', views=1)
    five = demonstrations(tmp_path / 'five', views=5)
    with pytest.raises(InputError, match=f'views of the data sets; .*{two}: 2, {one}: 1'):
        tiny.train_preset([two, one], tmp_path / 'out', **MINUTES)
    with pytest.raises(InputError, match='at most 4; got'):
        tiny.train_preset([five], tmp_path / 'out', **MINUTES)
    Demonstrations([one], (TASK,)).require_views()
    slow = demonstrations(tmp_path / 'slow', rate=4.0)
    with pytest.raises(InputError, match='a multiple of 2.5 Hz; got 4 Hz'):
        tiny.train_preset([slow], tmp_path / 'out', **MINUTES)
    assert not list((tmp_path / 'out').rglob('last.pt'))


@pytest.mark.parametrize('rate', [5.0, 10.0, 30.0])
def test_the_codec_sees_as_far_as_the_dynamics_look_ahead(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    """8 frames of 0.4 s, however often is recorded."""
    def codec_records(data: Demonstrations, rng: object, size: int, episodes: object, reach: int,
                      **_: object) -> None:
        assert reach / data.rate == pytest.approx(3.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Demonstrations, 'codec_records', codec_records)
    with pytest.raises(KeyboardInterrupt):
        tiny.train_preset([demonstrations(tmp_path / 'data', rate=rate)], tmp_path / 'out',
                          **MINUTES)


@pytest.mark.parametrize(('folder', 'preset'), [
    ('codec', 'svd-4dgen'), ('preset/dynamics', 'svd-4dgen'), ('preset/cross_view', 'tiny'),
    ('denoiser', 'tiny'), ('dynamics', 'diffusion-policy'), ('training', 'tiny')])
def test_a_folder_has_one_kind_of_run(tmp_path: Path, folder: str, preset: str) -> None:
    require_kind(tmp_path, preset)
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=f'a run of {preset}; got a run of'):
        require_kind(tmp_path, preset)


def test_train_does_not_write_over_a_run_of_another_kind(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'codec').mkdir()
    assert cli.main(['train', '--preset', 'svd-4dgen', '--svd', 'x', '--data', str(tmp_path),
                     '--out', str(tmp_path)]) == 1
    assert 'got a run of tiny' in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('options', [
    ['--codec-minutes', 'nan'], ['--dynamics-minutes', '-1'], ['--gripper-minutes', 'inf'],
    ['--episodes', '0'], ['--threads', '-2'], ['--seed', '-1'], ['--dynamics-minutes', 'ten']])
def test_numbers_that_cannot_be_meant_are_refused(capsys: pytest.CaptureFixture,
                                                  options: list[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(['train', '--data', 'a', '--out', 'b', *options])
    assert f'argument {options[0]}: {options[1]!r} is not' in capsys.readouterr().err


def test_a_learning_rate_that_is_no_number_is_refused(tmp_path: Path,
                                                      capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['train', '--data', str(tmp_path), '--out', str(tmp_path),
                     '--learning-rate', 'nan']) == 1
    assert '--learning-rate; expected above 0' in ' '.join(capsys.readouterr().err.split())


def test_where_the_measures_go_is_made_sure_of_at_the_start(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'file').touch()
    for place, said in ((tmp_path, 'got a folder'),
                        (tmp_path / 'file' / 'm.json', 'a folder that can be made')):
        assert cli.main(['train', '--data', 'none', '--out', str(tmp_path / 'out'), '--json',
                         str(place)]) == 1
        assert said in ' '.join(capsys.readouterr().err.split())
    assert cli.main(['train', '--data', 'none', '--out', str(tmp_path / 'out'), '--json',
                     str(tmp_path / 'new' / 'm.json')]) == 1  # there is no data set
    assert not (tmp_path / 'new').exists()  # looked at, and nothing left


@pytest.mark.parametrize(('text', 'message'), [
    ('{', 'meta.json; expected .*got JSONDecodeError'), ('', 'JSONDecodeError'),
    ('7', 'TypeError'), (json.dumps({k: v for k, v in META.items() if k != 'task'}), 'no task'),
    (json.dumps({k: v for k, v in META.items() if k != 'rate_hz'}), 'no rate_hz')])
def test_a_damaged_meta_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'meta.json').write_text(text)
    (tmp_path / 'episode_0.npz').touch()
    with pytest.raises(InputError, match=message) as error:
        read_meta(tmp_path)
    assert error.value.hint


def test_a_line_that_a_kill_has_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    log = tmp_path / 'log.jsonl'
    loop._append(tmp_path, {'step': 1})
    log.write_bytes(log.read_bytes() + b'{"step": 2, "lo')
    loop._append(tmp_path, {'step': 2})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {'step': 1}, {'step': 2}]
    log.write_bytes(b'{"st')
    loop._append(tmp_path, {'step': 1})
    assert log.read_text() == '{"step": 1}\n'


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='a disk that is full is Linux\'s')
def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    file = tmp_path / 'last.pt'
    loop._save({'weights': torch.zeros(10)}, file)
    (tmp_path / 'last.partial').symlink_to('/dev/full')
    with pytest.raises(TrainingError, match='disk of .*last.pt; .*the same command again'):
        loop._save({'weights': torch.ones(100_000)}, file)
    assert [path.name for path in tmp_path.iterdir()] == ['last.pt']
    assert not torch.load(file)['weights'].any()
    (tmp_path / 'log.jsonl').symlink_to('/dev/full')
    with pytest.raises(TrainingError, match='disk of .*log.jsonl'):
        loop._append(tmp_path, {'step': 1})


@pytest.mark.parametrize('content', [b'', b'half of a check-point', None])
def test_a_damaged_check_point_is_named_with_a_way_out(tmp_path: Path,
                                                       content: bytes | None) -> None:
    file = tmp_path / 'last.pt'
    if content is None:  # as a full disk leaves it
        torch.save({'weights': torch.zeros(10_000)}, file)
        content = file.read_bytes()[:20_000]
    file.write_bytes(content)
    with pytest.raises(TrainingError, match=f'check-point {file}; .*remove its folder'):
        loop.read_checkpoint(file)
    bind_start(tmp_path, START, 10.0)
    with pytest.raises(TrainingError, match=f'check-point {file}'):
        bind_start(tmp_path, START | {'--data': []}, 10.0)
