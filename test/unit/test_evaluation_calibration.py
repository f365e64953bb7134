# SPDX-License-Identifier: Apache-2.0
"""`fourdgen calibrate-check` in the simulated cell: wrong is found and measured, right passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.cli import calibrate_check
from fourdgen_ros.core import se3
from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.evaluation.calibration import (
    T_LINK_OPTICAL,
    CameraCheck,
    Verdict,
    check_camera,
)
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.tracker.gripper_model import GripperModel, load_gripper


class Scene:
    """One view of the simulated cell, with sensor noise, and the truth."""

    def __init__(self) -> None:
        cell = Cell('PlaceAppleFromBowlIntoBin', 2)
        self.view = noisy(cell.render(cell.cameras[0], 480, 640))
        self.T = cell.T_base_camera(cell.cameras[0])
        self.tcp, self.opening = cell.tcp_pose(), cell.opening
        self.gripper: GripperModel = load_gripper('panda_hand')

    def check(self, T: np.ndarray, view: RgbdView | None = None) -> CameraCheck:
        return check_camera(self.view if view is None else view, T, self.tcp, self.opening,
                            self.gripper)


def noisy(view: RgbdView) -> RgbdView:
    """2 mm of noise, and nothing known at one pixel in twenty."""
    rng = np.random.default_rng(0)
    depth = view.depth + rng.normal(0.0, 0.002, view.depth.shape).astype(np.float32)
    depth[rng.random(depth.shape) < 0.05] = np.nan
    return replace(view, depth=depth)


@pytest.fixture(scope='module')
def scene() -> Scene:
    return Scene()


def test_the_true_calibration_is_good(scene: Scene) -> None:
    check = scene.check(scene.T)
    assert check.verdict is Verdict.GOOD, check.advice
    assert check.distance < 0.004
    assert check.angle < np.deg2rad(1.5)
    assert check.pixels < 3.0


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_two_centimetres_are_found_and_measured(scene: Scene, axis: int) -> None:
    shift = se3.make(None, 0.02 * np.eye(3)[axis])
    check = scene.check(shift @ scene.T)
    assert check.verdict is Verdict.BAD
    # The camera is believed to stand 2 cm aside, so it sees the gripper 2 cm aside.
    np.testing.assert_allclose(check.found, shift @ scene.check(scene.T).found, atol=0.02)
    assert check.distance == pytest.approx(0.02, abs=0.005)


def test_three_degrees_are_found_and_measured(scene: Scene) -> None:
    turn = se3.make(se3.exp_so3(np.deg2rad([0.0, 3.0, 0.0])))
    check = scene.check(scene.T @ turn)
    assert check.verdict is Verdict.BAD
    assert np.rad2deg(check.angle) == pytest.approx(3.0, abs=1.2)
    distance, _ = se3.distance(scene.T @ turn @ se3.inverse(scene.T) @ scene.tcp, scene.tcp)
    assert check.distance == pytest.approx(distance, abs=0.006)
    assert check.pixels > 10.0


@pytest.mark.parametrize(('change', 'text'), [
    (lambda T: T @ se3.inverse(T_LINK_OPTICAL), 'that of the camera\'s body'),
    (lambda T: T @ T_LINK_OPTICAL, 'that of the optical frame'),
    (se3.inverse, 'inverted')])
def test_mixed_up_frames_are_named(scene: Scene, change: object, text: str) -> None:
    check = scene.check(change(scene.T))
    assert check.verdict is Verdict.BAD
    assert check.found is None
    assert text in check.advice


def test_a_depth_scale_is_not_blamed_on_the_calibration(scene: Scene) -> None:
    check = scene.check(scene.T, replace(scene.view, depth=1.03 * scene.view.depth))
    assert check.verdict is Verdict.BAD
    assert check.along > 0.02
    assert 'depth' in check.advice


def test_a_gripper_that_is_not_in_the_image(scene: Scene) -> None:
    behind = scene.T @ se3.make(se3.exp_so3(np.array([0.0, np.pi, 0.0])))
    assert scene.check(behind).verdict in (Verdict.UNSEEN, Verdict.BAD)
    blind = replace(scene.view, depth=np.full_like(scene.view.depth, np.nan))
    check = scene.check(scene.T, blind)
    assert check.verdict is Verdict.BAD
    assert 'without depth' in check.advice


@pytest.mark.parametrize(('options', 'expected'), [
    (['--out', 'cc.foo'], '--out cc.foo; expected a name that ends with .png, .jpg'),
    (['--out', 'folder.png'], '--out folder.png; expected a file'),
    (['--json', 'folder.png'], '--json folder.png; expected a file')])
def test_outputs_of_the_verb_are_looked_at_first(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
        options: list[str], expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibrate_check, '_from_cell', lambda *_: pytest.fail('it has begun'))
    (tmp_path / 'folder.png').mkdir()
    assert cli.main(['calibrate-check', '--from-cell', '2', *options]) == 1
    assert expected in ' '.join(capsys.readouterr().err.split())


def test_the_verb_writes_a_picture_and_the_figures(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ('a.png', 'a.json', 'b.png', 'b.json')}
    assert cli.main(['calibrate-check', '--from-cell', '2', '--out', str(files['a.png']),
                     '--json', str(files['a.json'])]) == 0
    assert cli.main(['calibrate-check', '--from-cell', '2', '--shift-mm', '0', '20', '0', '--out',
                     str(files['b.png']), '--json', str(files['b.json'])]) == 1
    right, wrong = (json.loads(files[name].read_text()) for name in ('a.json', 'b.json'))
    assert {row['verdict'] for row in right.values()} == {'good'}
    assert {row['verdict'] for row in wrong.values()} == {'bad'}
    pictures = [np.asarray(Image.open(files[name])) for name in ('a.png', 'b.png')]
    assert pictures[0].shape == pictures[1].shape == (964, 1124, 3)
    assert (pictures[0] != pictures[1]).any()
