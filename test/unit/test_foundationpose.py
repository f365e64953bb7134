# SPDX-License-Identifier: Apache-2.0
"""The real worker in a real process, on a stand-in of a FoundationPose checkout."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, MissingDependencyError, TrackingError
from fourdgen_ros.tracker.by_estimator import EstimatorTracker, object_image
from fourdgen_ros.tracker.clip import TrackerSettings, prepare_clip
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.estimator import GripperObject, ObjectImage, gripper_object
from fourdgen_ros.tracker.foundationpose import worker as wire
from fourdgen_ros.tracker.foundationpose.client import FoundationPose, FoundationPoseOptions
from fourdgen_ros.tracker.foundationpose.process import WEIGHTS, WORKER, check_checkout
from fourdgen_ros.tracker.gripper_model import load_gripper

from .foundationpose_checkout import make_checkout, set_faults, start
from .tracker_scene import Clip, random_clip

GRIPPER = load_gripper('panda_hand')
OBJECT = gripper_object(GRIPPER, 0.07)  # as far open as in the images


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp('foundationpose') / 'checkout')


@pytest.fixture(scope='module')
def estimator(checkout: Path) -> Iterator[FoundationPose]:
    """One worker for the tests that leave it alive."""
    estimator = start(checkout, OBJECT)
    yield estimator
    estimator.close()


@pytest.fixture(scope='module')
def clip() -> Clip:
    return random_clip(GRIPPER, 0, frames=5)


@pytest.fixture(scope='module')
def images(clip: Clip) -> list[ObjectImage]:
    """Both views of frame 2."""
    prepared = prepare_clip(GRIPPER, TrackerSettings(), clip.future, clip.poses[0], 0.07)
    return [object_image(clip.future, view, i, 2) for i, view in enumerate(prepared.frames[2])]


def true(clip: Clip, view: int, frame: int = 2) -> np.ndarray:
    return se3.inverse(clip.T_ref_cam[view]) @ clip.poses[frame] @ OBJECT.T_tcp_object


def offset(pose: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """m and rad to the truth or the same gripper turned."""
    near = GRIPPER.nearest_symmetric(pose @ OBJECT.T_object_tcp, truth @ OBJECT.T_object_tcp)
    return se3.distance(near, truth @ OBJECT.T_object_tcp)


def running(checkout: Path) -> list[str]:
    """Process ids of workers on this checkout."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):  # it ended meanwhile
            arguments = path.read_bytes().split(b'\0')
            if str(checkout).encode() in arguments:
                found.append(path.parent.name)
    return found


# --- one image ------------------------------------------------------------------------------------

def test_a_pose_is_tracked_from_a_start_nearby(estimator, clip, images) -> None:
    # Along the view, for the stand-in looks at the depth alone.
    near = se3.make(translation=np.array([0.0, 0.0, 0.02])) @ true(clip, 0)
    assert offset(estimator.track(images[0], near), true(clip, 0))[0] < 0.01


def test_a_pose_is_found_by_the_mask_alone(estimator, clip, images) -> None:
    distances = [offset(estimator.register(image), true(clip, i))[0]
                 for i, image in enumerate(images)]
    assert min(distances) < 0.01


def test_what_small_images_have_left_after_the_erosion(estimator, images) -> None:
    """Without enlarging, FoundationPose would throw nearly all of the gripper's depth away."""
    sys.path.insert(0, str(Path(__file__).with_name('foundationpose_standin')))
    try:
        from estimater import eroded
    finally:
        del sys.path[0]
    for image in images:
        assert (eroded(image.depth) > 0)[image.mask].mean() < 0.5
        large = image.enlarged(3)
        assert (eroded(large.depth) > 0)[large.mask].mean() > 0.99


def test_too_few_pixels_are_not_asked_about(estimator, images) -> None:
    """FoundationPose answers with an identity for a rotation; that is never taken for a pose."""
    nothing = ObjectImage('a', images[0].rgb, images[0].depth, images[0].K,
                          np.zeros_like(images[0].mask))
    assert estimator.register(nothing) is None
    # The worker itself recognises the answer too.
    answer = estimator._ask('register', wire.Message('register', {'iterations': 5}, {
        'rgb': nothing.rgb, 'depth': nothing.depth, 'K': nothing.K,
        'mask': nothing.mask.astype(np.uint8)}), 60.0, TrackingError, '')
    assert (answer.fields, answer.arrays) == ({'found': False}, {})


def test_the_start_is_moved_to_the_middle_of_the_mesh(checkout, clip, images) -> None:
    """A mesh whose origin is not its middle: pose_last is that of the centred one."""
    shift = se3.make(translation=np.array([0.05, -0.1, 0.2]))
    mesh = trimesh.Trimesh(se3.apply(se3.inverse(shift), OBJECT.mesh.vertices), OBJECT.mesh.faces,
                           process=False)
    other = GripperObject(mesh, OBJECT.T_tcp_object @ shift, OBJECT.symmetries)
    estimator = start(checkout, other)
    try:
        near = true(clip, 0) @ shift @ se3.exp(np.array([0.005, 0, 0, 0, 0, 0]))
        pose = estimator.track(images[0], near) @ se3.inverse(shift)
        assert offset(pose, true(clip, 0))[0] < 0.009
    finally:
        estimator.close()


@pytest.mark.parametrize(('change', 'text'), [
    ({'rgb': np.zeros((4, 4, 3), np.float32)}, 'rgb: expected uint8'),
    ({'depth': np.zeros((4, 4))}, 'depth: expected float32'),
    ({'K': np.zeros((4, 4))}, 'K: expected'),
    ({'start': np.zeros((3, 3))}, 'start: expected')])
def test_the_worker_checks_what_it_is_given(estimator, change, text) -> None:
    arrays = {'rgb': np.zeros((4, 4, 3), np.uint8), 'depth': np.ones((4, 4), np.float32),
              'K': np.eye(3), 'start': np.eye(4), **change}
    with pytest.raises(TrackingError, match=text):
        estimator._ask('track', wire.Message('track', {'iterations': 2}, arrays), 60.0,
                       TrackingError, '')


# --- a whole clip ---------------------------------------------------------------------------------

def test_a_clip_by_the_stand_in_meets_the_interface_of_the_embedded_tracker(
        estimator, clip) -> None:
    arguments = (clip.future, clip.poses[0], float(clip.opening[0]))
    ours = EstimatorTracker(GRIPPER, OBJECT, estimator).track(*arguments)
    embedded = EmbeddedTracker(GRIPPER).track(*arguments)
    for name in ('poses', 'opening', 'confidence', 'times'):
        a, b = getattr(ours, name), getattr(embedded, name)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert (ours.frame_id, ours.stamp) == (embedded.frame_id, embedded.stamp)
    distances = [se3.distance(a, b) for a, b in zip(ours.poses, clip.poses, strict=True)]
    assert np.median(distances, axis=0)[0] < 0.009
    assert np.max(distances, axis=0)[0] < 0.02
    assert ours.confidence.min() > 0.5


# --- failures -------------------------------------------------------------------------------------

def test_an_error_in_the_worker_is_told_and_survived(tmp_path, clip, images) -> None:
    checkout = make_checkout(tmp_path / 'checkout', {'track': {'1': 'raise', '3': 'nan'}})
    estimator = start(checkout, OBJECT)
    try:
        with pytest.raises(TrackingError, match='RuntimeError: CUDA out of memory'):
            estimator.track(images[0], true(clip, 0))
        assert offset(estimator.track(images[0], true(clip, 0)), true(clip, 0))[0] < 0.009
        assert estimator.track(images[0], true(clip, 0)) is None  # not a number, not a pose
        # Death in the middle: exit code and last words.
        set_faults(checkout, {'track': {'all': 'die'}})
        with pytest.raises(TrackingError, match=r'exit code 7.*illegal memory access') as caught:
            estimator.track(images[0], true(clip, 0))
        assert 'configure it again' in str(caught.value)
        with pytest.raises(TrackingError, match='exit code 7'):  # and ever after
            estimator.track(images[0], true(clip, 0))
    finally:
        estimator.close()
    assert not running(checkout)
    set_faults(checkout, None)  # a new one works
    estimator = start(checkout, OBJECT)
    try:
        assert estimator.track(images[0], true(clip, 0)) is not None
    finally:
        estimator.close()


def test_a_worker_that_hangs_is_ended_and_no_late_answer_is_taken(tmp_path, clip, images) -> None:
    checkout = make_checkout(tmp_path / 'checkout', {'track': {'1': 'sleep'}})
    estimator = start(checkout, OBJECT, timeout=1.0)
    try:
        with pytest.raises(TrackingError, match=r'an answer in 1 s.*Raise the time-out'):
            estimator.track(images[0], true(clip, 0))
        assert not running(checkout)
        with pytest.raises(TrackingError, match='SIGKILL'):
            estimator.track(images[0], true(clip, 0))
    finally:
        estimator.close()


def test_closing_lets_go_of_a_question_that_is_waited_for(tmp_path, clip, images) -> None:
    checkout = make_checkout(tmp_path / 'checkout', {'track': {'1': 'sleep'}})
    estimator = start(checkout, OBJECT)
    caught: list[Exception] = []

    def ask() -> None:
        try:
            estimator.track(images[0], true(clip, 0))
        except TrackingError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not estimator._lock.locked():
        time.sleep(0.01)
    estimator.close()
    thread.join(timeout=20.0)
    assert len(caught) == 1
    assert not running(checkout)


def test_what_is_missing_is_named_before_anything_is_started(tmp_path) -> None:
    checkout = make_checkout(tmp_path / 'checkout')
    assert check_checkout(str(checkout), sys.executable) == (checkout, sys.executable)
    for folder, python, text in (
            ('', sys.executable, 'git clone https://github.com/NVlabs/FoundationPose'),
            (str(tmp_path), sys.executable, 'with estimater.py'),
            (str(checkout), '', 'foundationpose_python'),
            (str(checkout), '/nowhere/bin/python', 'foundationpose_python')):
        with pytest.raises(MissingDependencyError, match=text):
            start_with(folder, python)
    (checkout / 'weights' / WEIGHTS[1] / 'model_best.pth').unlink()
    with pytest.raises(MissingDependencyError,
                       match=rf'weights/{re.escape(WEIGHTS[1])}/model_best.pth.*Download'):
        start_with(str(checkout), sys.executable)


def start_with(folder: str, python: str) -> FoundationPose:
    return FoundationPose(OBJECT, FoundationPoseOptions(path=folder, python=python))


@pytest.mark.parametrize(('line', 'text'), [
    ("raise ImportError('No module named pytorch3d')", 'No module named pytorch3d'),
    ('mycpp = None', 'has not found mycpp: run its build_all.sh'),
    ('def _no_gpu(): raise RuntimeError("Found no NVIDIA driver")\n'
     'ScorePredictor = _no_gpu', 'Found no NVIDIA driver')])
def test_a_checkout_that_does_not_load_says_why(tmp_path, line, text) -> None:
    checkout = make_checkout(tmp_path / 'checkout')
    with (checkout / 'estimater.py').open('a', encoding='utf-8') as file:
        file.write(f'\n{line}\n')
    with pytest.raises(MissingDependencyError, match=text) as caught:
        start(checkout, OBJECT)
    assert 'docs/foundationpose.md' in str(caught.value)
    assert not running(checkout)


def test_our_python_path_does_not_reach_the_other_environment(tmp_path, monkeypatch) -> None:
    checkout = make_checkout(tmp_path / 'checkout')
    trap = tmp_path / 'trap'
    trap.mkdir()
    (trap / 'trimesh.py').write_text('raise RuntimeError("that of another Python")\n')
    monkeypatch.setenv('PYTHONPATH', str(trap))
    start(checkout, OBJECT).close()


# --- a worker that runs already -------------------------------------------------------------------

def test_a_worker_elsewhere_serves_one_client_after_another(tmp_path, clip, images) -> None:
    checkout = make_checkout(tmp_path / 'checkout')
    # From a folder of its own, as on another machine: only this one file is there.
    alone = tmp_path / 'elsewhere' / WORKER.name
    alone.parent.mkdir()
    alone.write_bytes(WORKER.read_bytes())
    env = {**os.environ, 'PYTHONPATH': ''}
    process = subprocess.Popen(
        [sys.executable, str(alone), '--foundationpose', str(checkout), '--listen', '127.0.0.1:0'],
        stderr=subprocess.PIPE, text=True, env=env, cwd=alone.parent)
    try:
        address = next(line for line in process.stderr if 'ready at' in line).split()[-1]
        options = FoundationPoseOptions(address=address, timeout=60.0)
        for _ in range(2):
            estimator = FoundationPose(OBJECT, options)
            assert offset(estimator.track(images[0], true(clip, 0)), true(clip, 0))[0] < 0.009
            estimator.close()
        # A client with another mesh in mind that forgot to send it.
        host, port = address.split(':')
        with socket.create_connection((host, int(port)), timeout=10.0) as connection:
            wire.send(connection, wire.Message('hello'))
            assert wire.receive(connection).kind == 'ready'
            wire.send(connection, wire.Message('track', {'iterations': 2}, {
                'rgb': images[0].rgb, 'depth': images[0].depth, 'K': images[0].K,
                'start': np.eye(4)}))
            assert 'no mesh' in wire.receive(connection).fields['message']
        estimator = FoundationPose(OBJECT, options)
        process.kill()
        process.wait()
        with pytest.raises(TrackingError, match='no connection to'):
            estimator.track(images[0], true(clip, 0))
        estimator.close()
        with pytest.raises(TrackingError, match=r'python worker\.py --foundationpose.*ssh -L'):
            FoundationPose(OBJECT, options)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize('address', ['5577', 'host', 'host:', 'host:http', ':5577', 'host:70000'])
def test_addresses_are_checked(address) -> None:
    with pytest.raises(InputError, match='host:port'):
        FoundationPose(OBJECT, FoundationPoseOptions(address=address))


def test_a_worker_of_another_version_is_named(tmp_path) -> None:
    """A worker from before an update of this package, at its address."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        def old() -> None:
            connection, _ = server.accept()
            with connection:
                wire.receive(connection)
                wire.send(connection, wire.Message('error'), version=wire.VERSION + 1)

        thread = threading.Thread(target=old)
        thread.start()
        port = server.getsockname()[1]
        with pytest.raises(TrackingError, match=rf'speaks version {wire.VERSION + 1}.*Copy worker'):
            FoundationPose(OBJECT, FoundationPoseOptions(address=f'127.0.0.1:{port}'))
        thread.join(timeout=5.0)
