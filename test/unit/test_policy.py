# SPDX-License-Identifier: Apache-2.0
"""The Diffusion Policy baseline: messages, what goes wrong, and lerobot itself where it is."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.core.errors import GenerationError, InputError, MissingDependencyError
from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.evaluation import comparison
from fourdgen_ros.evaluation.comparison import Comparison, compare
from fourdgen_ros.evaluation.generators import is_policy
from fourdgen_ros.evaluation.rollout import RolloutSpec, rollout
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.policy import client
from fourdgen_ros.policy.client import MARK, PYTHON, PolicyClient, policy_command
from fourdgen_ros.policy.wire import receive, send

TASK = 'PlaceAppleFromBowlIntoBin'
K = np.array([[110.0, 0.0, 63.5], [0.0, 110.0, 47.5], [0.0, 0.0, 1.0]])


def observation(value: int = 100) -> Observation:
    return Observation(tuple(
        RgbdView(np.full((96, 128, 3), value, np.uint8), np.ones((96, 128), np.float32), K, 7,
                 f'cam_{i}', 'optical') for i in range(2)))


def test_messages_come_as_they_were_sent() -> None:
    stream = io.BytesIO()
    send(stream, rgb=np.arange(6, dtype=np.uint8).reshape(1, 2, 3), task='Juggle', seed=3)
    send(stream, x=0.5)
    stream.seek(0)
    first = receive(stream)
    assert (first['rgb'].dtype, first['rgb'].tolist()) == (np.uint8, [[[0, 1, 2], [3, 4, 5]]])
    assert (str(first['task']), int(first['seed'])) == ('Juggle', 3)
    assert float(receive(stream)['x']) == 0.5
    assert receive(stream) is None


def test_what_is_no_message_is_refused() -> None:
    stream = io.BytesIO()
    send(stream, x=np.zeros(100))
    whole = stream.getvalue()
    for part in (whole[:4], whole[:50]):
        with pytest.raises(ValueError, match='cut off'):
            receive(io.BytesIO(part))
    with pytest.raises(ValueError, match='bytes'):
        receive(io.BytesIO(b'\xff' * 8))
    objects = io.BytesIO()
    send(objects, x=np.array([{}], object))
    objects.seek(0)
    with pytest.raises(ValueError, match='allow_pickle'):
        receive(objects)


def test_without_the_environment_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, 'no/such/python')
    with pytest.raises(MissingDependencyError, match='make baseline-env'):
        policy_command('worker')


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert not is_policy('oracle')
    assert not is_policy(str(tmp_path))
    with pytest.raises(InputError, match='--preset diffusion-policy'):
        PolicyClient(tmp_path)


def test_a_comparison_asks_for_no_strips_of_a_policy(tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MARK).write_text('{}')
    with pytest.raises(InputError, match='strips; expected a generator'):
        rollout(RolloutSpec(TASK, str(tmp_path)), [0], Batch(file=tmp_path / 'r.json'), strips=True)
    asked = []
    monkeypatch.setattr(comparison, 'rollout', lambda *_, strips: asked.append(strips))
    monkeypatch.setattr(comparison, 'save_plots', lambda *_: None)
    compare(Comparison([TASK], [str(tmp_path), 'still'], [], [0]), tmp_path, Batch())
    assert asked == [False, True]


def test_a_process_that_dies_tells_its_last_words(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without lerobot: this one, or one in which it cannot be found."""
    (tmp_path / MARK).write_text('{}')
    assert is_policy(str(tmp_path))
    monkeypatch.setattr(client, 'policy_command', lambda module: [
        sys.executable, '-c', 'raise SystemExit("no lerobot here")'])
    with pytest.raises(InputError, match='it died: no lerobot here'):
        PolicyClient(tmp_path)


@pytest.fixture(scope='module')
def policy(untrained_policy: Path) -> PolicyClient:
    return PolicyClient(untrained_policy)


def test_a_policy_answers_with_a_path(policy: PolicyClient) -> None:
    pose = np.eye(4)
    pose[:3, 3] = 0.1, 0.2, 0.7
    first, same, other = (policy.act(observation(), pose, 0.08, task=TASK, seed=s, dt=0.4)
                          for s in (1, 1, 2))
    assert first.poses.shape == (9, 4, 4)
    np.testing.assert_array_equal(first.poses[0], pose)
    assert first.opening[0] == 0.08 and (first.opening >= 0.0).all()
    np.testing.assert_allclose(first.times, 0.4 * np.arange(9))
    assert (first.frame_id, first.stamp) == ('optical', 7)
    np.testing.assert_array_equal(first.poses, same.poses)
    assert not np.array_equal(first.poses, other.poses)
    dark = policy.act(observation(0), pose, 0.08, task=TASK, seed=1, dt=0.4)
    assert not np.array_equal(first.poses, dark.poses)


def test_what_a_policy_cannot_do_is_said_and_does_not_end_it(policy: PolicyClient) -> None:
    with pytest.raises(GenerationError, match='Juggle'):
        policy.act(observation(), np.eye(4), 0.08, task='Juggle', seed=0, dt=0.4)
    with pytest.raises(GenerationError, match='pictures'):
        policy.act(Observation(observation().views[:1]), np.eye(4), 0.08, task=TASK, seed=0,
                   dt=0.4)
    with pytest.raises(InputError, match=r'multiple of 0\.2 s'):
        policy.act(observation(), np.eye(4), 0.08, task=TASK, seed=0, dt=0.3)
    assert policy.act(observation(), np.eye(4), 0.0, task=TASK, seed=0, dt=0.2).poses.shape[0] == 17


def test_damaged_weights_are_refused(untrained_policy: Path, tmp_path: Path) -> None:
    for file in untrained_policy.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / 'model.safetensors').write_bytes(b'nothing')
    with pytest.raises(InputError, match='can be loaded'):
        PolicyClient(tmp_path)


def _demonstrations(folder: Path, task: str) -> Path:
    """Two episodes in which nothing moves."""
    folder.mkdir()
    (folder / 'meta.json').write_text(json.dumps(
        {'format': 'fourdgen-episodes-1', 'task': task, 'rate_hz': 5.0,
         'cameras': ['cam_left', 'cam_right']}))
    poses = np.tile(np.eye(4), (12, 1, 1))
    for i in range(2):
        np.savez(folder / f'episode_{i}.npz', rgb=np.full((12, 2, 96, 128, 3), 90, np.uint8),
                 depth=np.full((12, 2, 96, 128), 9000, np.uint16),
                 gripper=np.zeros((12, 2, 96, 128), bool), tcp=poses, opening=np.full(12, 0.08),
                 K=np.tile(K, (2, 1, 1)), T_base_camera=poses[:2])
    return folder


def test_training_goes_on_from_a_policy_for_the_same_tasks(
        untrained_policy: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    def train(task: str) -> int:
        return cli.main(['train', '--preset', 'diffusion-policy', '--init', str(untrained_policy),
                         '--data', str(_demonstrations(tmp_path / task, task)),
                         '--out', str(tmp_path / 'out'), '--dynamics-minutes', '0'])

    assert train('Juggle') == 1
    said = ' '.join(capfd.readouterr().err.split())
    assert f'policy {untrained_policy}; expected one for' in said
    assert not (tmp_path / 'out').exists()
    assert train(TASK) == 0
    weights = 'model.safetensors'
    assert (tmp_path / 'out' / 'policy' / weights).read_bytes() == (
        untrained_policy / weights).read_bytes()
