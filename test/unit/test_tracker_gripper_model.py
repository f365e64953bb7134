# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.tracker.gripper_model import load_gripper, load_gripper_folder
from fourdgen_ros.view.hand import load_hand

GRIPPER = load_gripper('panda_hand')
FOLDER = Path(str(resources.files('fourdgen_ros') / 'assets' / 'grippers' / 'panda_hand'))


@pytest.mark.parametrize('opening', [0.02, 0.05, 0.08])
def test_tcp_lies_between_the_finger_pads(opening):
    # From the TCP along +y and -y the pads (recessed by 1.5 mm) are half the opening away.
    directions = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    hits, rays, _ = GRIPPER.mesh(opening).ray.intersects_location(
        np.zeros((2, 3)), directions, multiple_hits=False)
    assert len(rays) == 2
    assert np.abs(hits[:, 1]) == pytest.approx(opening / 2, abs=2e-3)


def test_closed_fingers_touch():
    assert np.abs(GRIPPER.finger_points[:, 1]).min() < 1e-3


def test_hand_is_behind_the_tcp_and_in_metres():
    assert GRIPPER.hand_points[:, 2].max() < -0.03
    assert np.ptp(GRIPPER.hand_points[:, 1]) == pytest.approx(0.204, abs=0.006)
    points, normals = GRIPPER.surface(0.04)
    assert points.shape == normals.shape
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_meshes_are_light():
    assert len(GRIPPER.hand_mesh.faces) <= 2000
    assert all(len(m.faces) <= 2000 for m, _ in GRIPPER.finger_meshes)


def test_leading_slices_are_even_subsamples():
    few = GRIPPER.hand_points[:100]
    gaps = np.linalg.norm(GRIPPER.hand_points[:, None] - few[None], axis=-1).min(1)
    assert gaps.max() < 0.035


def test_outline_of_a_view_surrounds_the_surface():
    # Seen along +x from far away, no surface point lies beyond the outline's extent.
    outline, outward, lengths = GRIPPER.rims.outline(0.04, np.array([50.0, 0.0, 0.0]))
    points, _ = GRIPPER.surface(0.04)
    assert outline[:, 1:].max(0) == pytest.approx(points[:, 1:].max(0), abs=0.006)
    assert outline[:, 1:].min(0) == pytest.approx(points[:, 1:].min(0), abs=0.006)
    assert np.abs(outward[:, 0]).max() < 0.01
    assert (lengths > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3), st.booleans(),
       st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3))
def test_nearest_symmetric_undoes_a_half_turn(w, flipped, small):
    reference = se3.make(se3.exp_so3(np.array(w)), np.array([0.1, 0.2, 0.7]))
    pose = reference @ se3.make(se3.exp_so3(np.array(small)))
    seen = pose @ se3.make(np.diag([-1.0, -1.0, 1.0])) if flipped else pose
    assert GRIPPER.nearest_symmetric(seen, reference) == pytest.approx(pose, abs=1e-9)


def test_unknown_gripper_names_the_known_ones():
    with pytest.raises(InputError, match='panda_hand'):
        load_gripper('no_such_hand')


def test_a_gripper_of_the_user_is_a_folder(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / 'hand')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    for name in (str(tmp_path / 'hand'), './hand', '~/hand'):
        np.testing.assert_array_equal(load_gripper(name).hand_points, GRIPPER.hand_points)
        assert [part.mesh.parent for part in load_hand(name)] == 3 * [tmp_path / 'hand']
    with pytest.raises(InputError, match='no gripper.yaml in .*lost'):
        load_gripper('./lost')
    with pytest.raises(InputError, match='with a slash'):
        load_gripper('hand')  # as a name it would depend on where one is


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('hand_mesh: hand.ply', 'hand_mesh: lost.ply', 'lost.ply'),
    ('opening_range: [0.0, 0.08]', 'opening_range: [0.08, 0.0]', 'opening_range'),
    ('name: panda_hand', 'nom: panda_hand', 'name'),
])
def test_bad_description_says_what_is_wrong(tmp_path, old, new, message):
    folder = tmp_path / 'hand'
    shutil.copytree(FOLDER, folder)
    path = folder / 'gripper.yaml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        load_gripper_folder(folder)


def test_mesh_in_millimetres_is_refused(tmp_path):
    folder = tmp_path / 'hand'
    shutil.copytree(FOLDER, folder)
    mesh = load_gripper('panda_hand').hand_mesh.copy()
    mesh.apply_scale(1000.0)
    mesh.export(folder / 'hand.ply')
    with pytest.raises(InputError, match='metres'):
        load_gripper_folder(folder)


def test_meshes_whose_faces_look_inwards_are_turned(tmp_path):
    folder = tmp_path / 'hand'
    shutil.copytree(FOLDER, folder)
    for file in folder.glob('*.ply'):
        mesh = trimesh.load(file, force='mesh')
        mesh.invert()
        mesh.export(file)
    turned = load_gripper_folder(folder)
    for got, expected in zip(turned.surface(0.04), GRIPPER.surface(0.04), strict=True):
        assert got.shape == expected.shape
    assert np.ptp(turned.hand_points, axis=0) == pytest.approx(
        np.ptp(GRIPPER.hand_points, axis=0), abs=0.006)


def test_a_part_that_nobody_can_see_is_refused(tmp_path):
    folder = tmp_path / 'hand'
    shutil.copytree(FOLDER, folder)
    trimesh.creation.box((0.5, 0.5, 0.5)).export(folder / 'hand.ply')
    with pytest.raises(InputError, match='finger 0 of .*in sight.*got 0 %'):
        load_gripper_folder(folder)
