# SPDX-License-Identifier: Apache-2.0
"""The simulated cell, its expert, the recorder and the oracle: real physics and pictures."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap, project
from fourdgen_ros.core.errors import ExecutionError, FourdgenError, InputError
from fourdgen_ros.sim.cell import Appearance, Cell, CellState
from fourdgen_ros.sim.collect import Progress, collect, episode_path
from fourdgen_ros.sim.expert import Expert
from fourdgen_ros.sim.oracle import OracleGenerator

TASK = 'PlaceAppleFromBowlIntoBin'


@pytest.fixture(scope='module')
def cell() -> Cell:
    return Cell(TASK, 0)


def finish(cell: Cell, limit: float = 16.0) -> list[str]:
    """Let the expert work until the task is done; the stages that were passed, in order."""
    expert = Expert(cell)
    end, stages = cell.time + limit, [cell.stage()]
    while cell.time < end and not (cell.success() and expert.resting):
        expert.drive()
        if cell.stage() != stages[-1]:
            stages.append(cell.stage())
    return stages


def test_a_cell_that_is_dropped_leaves_the_pictures_of_others_alone(cell: Cell) -> None:
    other = Cell(TASK, 1)
    other.render(cell.cameras[0], 96, 128)
    before = cell.render(cell.cameras[0], 96, 128)
    del other
    after = cell.render(cell.cameras[0], 96, 128)
    np.testing.assert_array_equal(after.rgb, before.rgb)
    np.testing.assert_array_equal(after.depth, before.depth)


def test_where_nothing_can_be_rendered_the_next_step_is_told(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def unloaded(*_: object) -> None:
        raise mujoco.FatalError('an OpenGL platform library has not been loaded')

    monkeypatch.setattr(mujoco, 'MjrContext', unloaded)
    with pytest.raises(FourdgenError, match=r'MUJOCO_GL=egl; got .*platform library.*doctor'):
        Cell(TASK, 0).render('cam_left', 96, 128)


def test_opengl_that_is_not_there_is_an_error_that_says_so() -> None:
    """`import mujoco` raises AttributeError where a library is missing, and RuntimeError here."""
    done = subprocess.run(
        [sys.executable, '-m', 'fourdgen_ros.cli', 'rollout', '--task', TASK, '--seeds', '1'],
        env={**os.environ, 'MUJOCO_GL': 'none'}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith('fourdgen: error: rendering; expected the OpenGL library')
    assert 'MUJOCO_GL=none' in done.stderr


def test_the_expert_solves_unseen_seeds_and_passes_every_stage(cell: Cell) -> None:
    for seed in (1, 2, 3):
        cell.reset(seed)
        assert not cell.success()
        stages = finish(cell)
        assert cell.success(), seed
        assert [s for s in ('reach', 'grasp', 'lift', 'place') if s in stages] \
            == ['reach', 'grasp', 'lift', 'place']


def test_the_expert_recovers_when_the_apple_is_moved_and_the_arm_is_displaced(cell: Cell) -> None:
    cell.reset(4)
    expert = Expert(cell)
    for step in range(240):
        expert.drive(offset=np.array([0.03, -0.02, 0.02]) if 60 <= step < 90 else None)
    finish(cell)
    assert cell.success()


def test_equal_seeds_are_equal_and_other_seeds_are_not(cell: Cell) -> None:
    states = []
    for seed in (7, 7, 8):
        cell.reset(seed)
        states.append(cell.state().to_array())
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


def test_a_state_that_is_none_is_refused(cell: Cell) -> None:
    for values in ([], [1.0, 0.08], [1.0, np.nan, 0.0, 0.0], [1.0, 0.08, 9.0, 0.0],
                   [1.0, 0.08, 0.0, 0.0]):
        with pytest.raises(FourdgenError, match='state of the cell'):
            cell.set_state(CellState.from_array(np.array(values), TASK))


def test_a_copied_state_goes_on_identically(cell: Cell) -> None:
    cell.reset(5)
    expert = Expert(cell)
    for _ in range(60):
        expert.drive()
    copy = Cell(TASK, 0)
    copy.set_state(CellState.from_array(cell.state().to_array(), TASK))
    for each in (cell, copy):
        each.step(0.2)
    np.testing.assert_array_equal(cell.joint_positions, copy.joint_positions)
    np.testing.assert_array_equal(cell.body_pose('apple'), copy.body_pose('apple'))


def test_depth_lifts_to_the_tool_where_kinematics_says_it_is(cell: Cell) -> None:
    """The mask's points, moved to the base by the extrinsics, surround the TCP: K, depth and
    optical frames agree."""
    cell.reset(0)
    for camera in cell.cameras:
        view = cell.render(camera, 240, 320)
        mask = cell.gripper_mask(camera, 240, 320)
        assert mask.sum() > 200
        points = se3.apply(cell.T_base_camera(camera), pointmap(view.depth, view.K)[mask])
        tcp = cell.tcp_pose()
        local = se3.apply(se3.inverse(tcp), points)
        assert np.abs(np.median(local[:, 0])) < 0.04
        assert local[:, 2].min() > -0.14 and local[:, 2].max() < 0.02
        T_camera_base = se3.inverse(cell.T_base_camera(camera))
        u, v, _ = project(se3.apply(T_camera_base, tcp[None, :3, 3]), view.K)
        rows, columns = np.nonzero(mask)
        assert columns.min() - 5 <= u[0] <= columns.max() + 5
        assert rows.min() - 5 <= v[0] <= rows.max() + 10


def test_pictures_of_all_sizes_show_the_same_scene(cell: Cell) -> None:
    cell.reset(0)
    large, *others = (cell.render('cam_left', h, w)
                      for h, w in ((480, 640), (192, 256), (96, 128)))
    for other in others:
        assert abs(np.nanmedian(large.depth) - np.nanmedian(other.depth)) < 0.03
        assert np.abs(large.rgb.mean((0, 1)) - other.rgb.mean((0, 1))).max() < 4
    with pytest.raises(FourdgenError, match='at most 640x480'):
        cell.render('cam_left', 720, 1280)


def test_collect_writes_whole_episodes_and_goes_on_where_it_stopped(tmp_path) -> None:
    collect(TASK, 1, 100000, tmp_path, workers=1)
    first = episode_path(tmp_path, 100000)
    written = first.stat().st_mtime_ns
    done = collect(TASK, 2, 100000, tmp_path, workers=1)
    assert done.finished == 2 and first.stat().st_mtime_ns == written
    meta = json.loads((tmp_path / 'meta.json').read_text())
    assert meta['task'] == TASK and meta['rate_hz'] == 5.0
    with np.load(first) as z:
        T = len(z['times'])
        assert z['rgb'].shape == (T, 2, 96, 128, 3) and z['depth'].dtype == np.uint16
        assert z['gripper'].any(axis=(2, 3)).mean() > 0.9
        np.testing.assert_allclose(np.diff(z['times']), 0.2, atol=1e-6)
        assert se3.is_rigid(z['tcp']) and bool(z['success'])
    assert {f.name for f in tmp_path.iterdir()} <= {
        'meta.json', 'episode_100000.npz', 'episode_100001.npz'}
    with pytest.raises(FourdgenError, match='another folder'):
        collect(TASK, 2, 100000, tmp_path, perturb=False)


def test_a_worker_that_is_killed_ends_a_collection_and_what_is_finished_stays(tmp_path) -> None:
    def kill(now: Progress) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ExecutionError, match='a worker process; .*it died'):
        collect(TASK, 20, 100000, tmp_path, workers=1, progress=kill)
    stored, = tmp_path.glob('episode_*.npz')
    with np.load(stored) as episode:
        assert bool(episode['success'])


def test_motions_are_drawn_elsewhere_as_they_are_collected_here(tmp_path) -> None:
    """But for rounding to float32; and from other cameras what moves stays the same."""
    scripts = Path(__file__).resolve().parents[2] / 'scripts'

    def run(*command: object) -> None:
        subprocess.run([sys.executable, *map(str, command)], check=True, timeout=300)

    motions = tmp_path / 'motions'
    run(scripts / 'collect_motions.py', '--task', TASK, '--episodes', 2, '--first-seed', 100000,
        '--out', motions)
    assert sum(f.stat().st_size for f in motions.iterdir()) < 20_000
    (motions / 'motion_100009.npz').touch()  # the expert failed
    for cameras in ('fixed', 'shell-train'):
        run(scripts / 'draw_motions.py', motions, '--seeds', '100001:100010', '--cameras', cameras,
            '--out', tmp_path / cameras)
    collect(TASK, 1, 100001, tmp_path / 'collected')
    assert len(list((tmp_path / 'fixed').glob('episode_*.npz'))) == 1
    collected, drawn, moved = (dict(np.load(episode_path(tmp_path / name, 100001)))
                               for name in ('collected', 'fixed', 'shell-train'))
    assert collected.keys() == drawn.keys()
    for key, values in collected.items():
        off = np.abs(values.astype(float) - drawn[key].astype(float))
        assert np.mean(off) < 1e-3 and np.quantile(off, 0.999) <= 1.0, key
    np.testing.assert_array_equal(moved['tcp'], drawn['tcp'])
    assert np.abs(moved['T_base_camera'] - drawn['T_base_camera']).max() > 0.1
    meta = json.loads((tmp_path / 'shell-train' / 'meta.json').read_text())
    assert meta['camera_set'] == 'shell-train'


def test_the_expert_goes_on_from_where_a_generator_got_to(tmp_path) -> None:
    """The first frame over and over never moves the arm; the expert then does the whole task."""
    script = Path(__file__).resolve().parents[2] / 'scripts' / 'collect_corrections.py'
    command = [sys.executable, script, '--task', TASK, '--generator', 'still', '--out', tmp_path]
    subprocess.run([*command, '--seeds', '100000:100001'], check=True, timeout=300)
    files = sorted(tmp_path.glob('episode_*.npz'))
    assert [f.stem for f in files] == [
        'episode_100000', 'episode_1100000', 'episode_2100000']
    before = [f.stat().st_mtime_ns for f in files]
    subprocess.run([*command, '--seeds', '100000:100001'], check=True, timeout=300)
    assert [f.stat().st_mtime_ns for f in files] == before
    cell = Cell(TASK, 100000)
    with np.load(files[0]) as episode:
        np.testing.assert_allclose(episode['tcp'][0], cell.tcp_pose(), atol=0.02)
        assert np.linalg.norm(episode['tcp'][-1, :3, 3] - episode['tcp'][0, :3, 3]) > 0.1
        np.testing.assert_allclose(np.diff(episode['times']), 0.2, atol=1e-6)
        assert bool(episode['success'])


def test_what_motions_cannot_be_made_or_drawn_of_is_told(tmp_path) -> None:
    """Nothing is written then, and no worker is waited for that cannot start."""
    scripts = Path(__file__).resolve().parents[2] / 'scripts'

    def failure(*command: object) -> str:
        done = subprocess.run([sys.executable, *map(str, command), '--out', tmp_path / 'out'],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode and not (tmp_path / 'out').exists()
        return done.stderr

    assert 'StoreCerealBoxUnderShelf' in failure(
        scripts / 'collect_motions.py', '--task', 'Juggle', '--episodes', 2, '--workers', 2)
    assert 'fourdgen train' in failure(
        scripts / 'collect_corrections.py', '--task', TASK, '--generator', 'nowhere',
        '--seeds', '100000:100001')
    assert 'scripts/collect_motions.py' in failure(scripts / 'draw_motions.py', tmp_path)
    (tmp_path / 'motion_100000.npz').write_bytes(b'of before')
    assert 'expected meta.json, which names their task' in failure(
        scripts / 'draw_motions.py', tmp_path)


def test_motions_know_their_task(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / 'scripts')
    collect_motions = importlib.import_module('collect_motions')
    motion = tmp_path / 'motion_100000.npz'
    motion.touch()  # of before they did
    for ask in (collect_motions.task_of, lambda folder: collect_motions.name_task(folder, TASK)):
        with pytest.raises(InputError, match='meta.json, which names their task; got none') as told:
            ask(tmp_path)
        assert f'> {tmp_path}/meta.json' in told.value.hint
    motion.unlink()
    collect_motions.name_task(tmp_path, TASK)
    motion.touch()
    collect_motions.name_task(tmp_path, TASK)
    assert collect_motions.task_of(tmp_path) == TASK
    with pytest.raises(InputError, match=f'task PutSpatulaOnTable; got .*{TASK}'):
        collect_motions.name_task(tmp_path, 'PutSpatulaOnTable')
    (tmp_path / 'meta.json').write_text('{"task": "Juggle"}')
    with pytest.raises(InputError, match='Juggle'):
        collect_motions.task_of(tmp_path)


def test_an_appearance_of_another_scene_is_refused(cell: Cell) -> None:
    with pytest.raises(FourdgenError, match='appearance of the cell'):
        cell.set_appearance(Appearance(TASK, np.zeros(3)), seed=0)


def test_the_oracle_sees_what_will_happen_and_leaves_the_cell_alone(cell: Cell) -> None:
    cell.reset(6)
    before = cell.state().to_array()
    oracle = OracleGenerator(cell.state, height=96, width=128)
    future = oracle.generate(cell.observe(96, 128), task=TASK, seed=0)
    np.testing.assert_array_equal(cell.state().to_array(), before)
    assert future.rgb.shape[:2] == (2, 9) and future.dt == pytest.approx(0.4)
    assert future.frame_ids == tuple(f'{c}_color_optical_frame' for c in future.cameras)
    # the second view's points lie in the reference frame: its gripper is where the first view's is
    centres = [np.nanmedian(future.points[v, 3][future.gripper[v, 3] > 0.5], axis=0)
               for v in (0, 1)]
    assert np.linalg.norm(centres[0] - centres[1]) < 0.05
    # and the true motion passes there
    expert = Expert(cell)
    for _ in range(60):
        expert.drive()
    T_ref = se3.inverse(cell.T_base_camera(cell.cameras[0])) @ cell.tcp_pose()
    assert np.linalg.norm(centres[0] - T_ref[:3, 3]) < 0.10


def test_unknown_task_and_camera_are_refused(cell: Cell) -> None:
    with pytest.raises(FourdgenError, match='Juggle'):
        Cell('Juggle')
    with pytest.raises(FourdgenError, match='cam_ceiling'):
        cell.render('cam_ceiling', 96, 128)
