# SPDX-License-Identifier: Apache-2.0
"""The verbs as a user runs them: processes, files, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from fourdgen_ros.cli.__main__ import main

TASK = 'PlaceAppleFromBowlIntoBin'


def fourdgen(*arguments: object) -> subprocess.CompletedProcess:
    """Run the command that `make setup` installs; where there is none, the module."""
    installed = Path(sys.executable).with_name('fourdgen')
    command = [installed] if installed.exists() else [sys.executable, '-m', 'fourdgen_ros.cli']
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True,
                          timeout=240)


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of the real architecture: they imagine noise, but it is a future."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from fourdgen_ros.generator.codec import FrameCodec
    from fourdgen_ros.generator.dynamics import LatentDynamics
    from fourdgen_ros.generator.tiny import TinyGenerator

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('weights')
    TinyGenerator(FrameCodec(), LatentDynamics(), FlowMatchEulerDiscreteScheduler()
                  ).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One RGB-D image per camera of the cell, as files."""
    from fourdgen_ros.sim.cell import Cell

    folder = tmp_path_factory.mktemp('images')
    for view in Cell(TASK, 3).observe(240, 320).views:
        Image.fromarray(view.rgb).save(folder / f'{view.camera}_rgb.png')
        counts = np.rint(np.nan_to_num(view.depth) * 1000.0).astype(np.uint16)
        Image.fromarray(counts).save(folder / f'{view.camera}_depth.png')
        (folder / f'{view.camera}_camera.json').write_text(json.dumps({'K': view.K.tolist()}))
    return folder


def test_generate_from_images(images: Path, weights: Path, tmp_path: Path) -> None:
    done = fourdgen('generate', '--folder', images, '--generator', weights, '--steps', 1,
                    '--out', tmp_path / 'out', '--json', tmp_path / 'f.json')
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / 'f.json').read_text())
    assert (figures['views'], figures['frames']) == (['cam_left', 'cam_right'], 9)
    assert figures['seconds'] > 0
    with Image.open(tmp_path / 'out' / 'future.gif') as gif:
        assert gif.n_frames == 9
    cloud = trimesh.load(tmp_path / 'out' / 'frame_08.ply')
    with np.load(tmp_path / 'out' / 'future.npz') as future:
        assert future['points'].shape == (2, 9, 96, 128, 3)
        assert len(cloud.vertices) == future['valid'][:, 8].sum() > 1000
    assert 'future.gif' in done.stdout


def test_generate_with_wrong_input(images: Path, weights: Path, tmp_path: Path,
                                   capsys: pytest.CaptureFixture) -> None:
    rgb, depth = images / 'cam_left_rgb.png', images / 'cam_left_depth.png'
    camera = images / 'cam_left_camera.json'
    out = tmp_path / 'out'
    for arguments, message in (
            (('--images', rgb, depth, '--generator', weights), '--camera'),
            (('--images', rgb, '--camera', camera, '--generator', weights), '--images'),
            (('--images', rgb, rgb, '--camera', camera, '--generator', weights), '16 bits'),
            (('--folder', tmp_path, '--generator', weights), 'NAME_rgb'),
            (('--folder', images, '--generator', 'oracle'), 'simulated cell')):
        assert main(['generate', '--out', str(out), *map(str, arguments)]) == 1
        error = capsys.readouterr().err
        assert error.startswith('fourdgen: error: ')
        assert message in error
        assert not out.exists()


def test_collect_in_worker_processes(tmp_path: Path) -> None:
    done = fourdgen('collect', '--episodes', 1, '--first-seed', 100003, '--workers', 1,
                    '--out', tmp_path / 'set', '--json', tmp_path / 'counts.json')
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / 'counts.json').read_text())['succeeded'] == 1
    with np.load(tmp_path / 'set' / 'episode_100003.npz') as episode:
        assert episode['rgb'].shape[1:] == (2, 96, 128, 3)
    assert (tmp_path / 'set' / 'meta.json').is_file()


def test_rollout_writes_its_report(tmp_path: Path) -> None:
    file = tmp_path / 'report.json'
    done = fourdgen('rollout', '--task', TASK, '--generator', 'oracle', '--seeds', '4:5',
                    '--json', file)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert (report['n'], report['successes']) == (1, 1)
    assert report['wilson95'] == pytest.approx([0.2065, 1.0], abs=1e-3)
    assert report['outcomes'][0]['seed'] == 4
    assert report['outcomes'][0]['stage'] == 'place'
    for stage in ('generate', 'track', 'plan', 'observation_to_plan'):
        assert 0 < report['latency_s'][stage]['p50'] <= report['latency_s'][stage]['p95']
    assert report['command'][:2] == ['fourdgen', 'rollout']
    assert report['versions']['mujoco']
    assert '1/1' in done.stdout
    assert not file.with_name('report.json.partial').exists()


@pytest.mark.parametrize(('arguments', 'message'), [
    (('rollout', '--task', 'MakeCoffee', '--seeds', '0:1'), 'MakeCoffee'),
    (('rollout', '--generator', 'no/model', '--seeds', '0:1'), 'no/model'),
    (('evaluate', '--generator', 'no/model'), 'no/model'),
    (('demo', '--generator', 'no/model'), 'no/model'),
    (('collect', '--task', 'MakeCoffee', '--episodes', '1', '--out', 'never'), 'MakeCoffee'),
])
def test_bad_names(arguments: tuple[str, ...], message: str,
                   capsys: pytest.CaptureFixture) -> None:
    assert main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith('fourdgen: error: ')
    assert message in error


@pytest.mark.parametrize('seeds', ['5:5', 'a', '-3', '3:x'])
def test_bad_seeds(seeds: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['rollout', f'--seeds={seeds}'])
    assert stop.value.code == 2
    assert '--seeds' in capsys.readouterr().err


def test_demo_without_ros(tmp_path: Path) -> None:
    done = fourdgen('demo', '--no-ros', '--generator', 'oracle', '--seed', 3, '--out', tmp_path,
                    '--json', tmp_path / 'demo.json')
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / 'demo.json').read_text())
    assert report['success'] is True
    assert report['segments'] == len(report['timings']) > 1
    with Image.open(tmp_path / 'imagined_and_real.gif') as gif:
        assert gif.n_frames > 8
    assert Image.open(tmp_path / 'imagined_and_real.png').width > 1000
    assert 'imagined_and_real.gif' in done.stdout.replace('\n', '')
    page = tmp_path / 'new' / 'report.html'
    assert main(['report', str(tmp_path), '--out', str(page)]) == 0
    assert f'{TASK}, seed 3' in page.read_text(encoding='utf-8')


def test_demo_that_fails_says_so(weights: Path, tmp_path: Path,
                                 capsys: pytest.CaptureFixture) -> None:
    """Untrained weights imagine noise: no gripper can be followed in it."""
    assert main(['demo', '--no-ros', '--generator', str(weights), '--max-segments', '1', '--out',
                 str(tmp_path)]) == 1
    assert 'not done' in capsys.readouterr().out
