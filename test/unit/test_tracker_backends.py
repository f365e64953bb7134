# SPDX-License-Identifier: Apache-2.0
"""Trackers by the parameters of the node, and the mesh for Isaac ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.cli.checks import CHECKS, examine
from fourdgen_ros.core.errors import InputError, MissingDependencyError
from fourdgen_ros.tracker import backends
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.estimator import gripper_object
from fourdgen_ros.tracker.gripper_model import load_gripper


def parameter_file(folder: Path, text: str) -> Path:
    path = folder / 'cell.yaml'
    path.write_text(text, encoding='utf-8')
    return path


def test_a_parameter_file_overlays_the_defaults(tmp_path: Path) -> None:
    path = parameter_file(tmp_path, '/**/tracker: {ros__parameters: {mesh_opening: 0.06}}\n'
                                    '/**/execution: {ros__parameters: {robot: fr3}}\n')
    values = backends.tracker_values(path)
    assert values == backends.tracker_values() | {'mesh_opening': 0.06}
    assert isinstance(backends.load_tracker(values), EmbeddedTracker)


@pytest.mark.parametrize('text', [
    '', 'a: [', '[]', '/**/tracker: 1', '/**/execution: {ros__parameters: {}}', '1: {}'])
def test_files_without_a_tracker_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r'one section /\*\*/tracker'):
        backends.tracker_values(parameter_file(tmp_path, text))


def test_back_ends_that_are_not_there() -> None:
    values = backends.tracker_values()
    with pytest.raises(InputError, match='need the node `tracker`'):
        backends.load_tracker(values | {'backend': 'isaac_ros'})
    with pytest.raises(MissingDependencyError, match='git clone'):
        backends.load_tracker(values | {'backend': 'foundationpose'})


def test_doctor_looks_where_the_parameters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = (check for check in CHECKS if check.name == 'FoundationPose')
    finding = examine(check)
    assert (finding.verdict, finding.found) == (
        'optional', 'no foundationpose_path in config/tracker.yaml')
    values = backends.tracker_values() | {'foundationpose_path': '/nowhere'}
    monkeypatch.setattr(backends, 'tracker_values', lambda: values)
    assert '/nowhere' in examine(check).found


@pytest.mark.parametrize('ending', ['obj', 'ply', 'stl'])
def test_the_mesh_file_is_the_object_that_is_tracked(tmp_path: Path, ending: str) -> None:
    path = tmp_path / 'new' / f'hand.{ending}'
    assert cli.main(['mesh', '--opening', '0.05', '--out', str(path)]) == 0
    mesh = trimesh.load(path, process=False)
    assert isinstance(mesh, trimesh.Trimesh)  # Isaac reads the first part only
    expected = gripper_object(load_gripper('panda_hand'), 0.05).mesh
    np.testing.assert_allclose(mesh.bounds, expected.bounds, atol=1e-6)
    np.testing.assert_allclose(mesh.bounds.sum(0), 0.0, atol=1e-6)
    assert len(mesh.faces) == len(expected.faces)


def test_options_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['mesh', '--out', str(tmp_path / 'hand.txt')]) == 1
    assert cli.main(['mesh', '--opening', '1', '--out', str(tmp_path / 'hand.obj')]) == 1
    assert not list(tmp_path.iterdir())
    assert cli.main(['evaluate', '--out', str(tmp_path), '--tracker', 'x.yaml']) == 1
    assert '--tracker; expected --json' in capsys.readouterr().err
