# SPDX-License-Identifier: Apache-2.0
"""The parts of the page that need no browser: stored futures, pictures side by side, words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.cli.__main__ import main
from fourdgen_ros.cli.generate import _write
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.core.types import Future
from fourdgen_ros.view import status
from fourdgen_ros.view.segment import PICTURE, Segment, imagined, side_by_side
from fourdgen_ros.view.stored import load_future

TASK, EXECUTION = 'task_loop: task', 'execution: execution'


def future(views: int = 2, frames: int = 3) -> Future:
    """Frame t of view v is of one colour: (80 * t, 100 * v, 0)."""
    shape = (views, frames, 6, 8)
    rgb = np.zeros((*shape, 3), np.uint8)
    rgb[..., 0] = 80 * np.arange(frames)[None, :, None, None]
    rgb[..., 1] = 100 * np.arange(views)[:, None, None, None]
    points = np.random.default_rng(0).uniform(0.5, 1.0, (*shape, 3)).astype(np.float32)
    valid = np.ones(shape, bool)
    valid[0, 0, 0, 0] = False
    return Future(rgb=rgb, points=np.where(valid[..., None], points, np.float32('nan')),
                  valid=valid, gripper=np.zeros(shape, np.float32), dt=0.4,
                  K=np.tile(np.diag([9.0, 9.0, 1.0]), (views, 1, 1)),
                  cameras=tuple(f'cam{v}' for v in range(views)), stamp=7, generator='test',
                  frame_id='cam0_optical', seed=3)


def test_what_generate_writes_is_read_back(tmp_path: Path) -> None:
    written = future()
    path = _write(written, tmp_path)[-1]
    read = load_future(path)
    for name in ('rgb', 'points', 'valid', 'gripper', 'K'):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    for name in ('dt', 'cameras', 'generator', 'frame_id', 'seed'):
        assert getattr(read, name) == getattr(written, name)


@pytest.mark.parametrize('content', [None, b'', b'no archive', 'other arrays'])
def test_a_file_that_is_no_future_says_what_to_do(tmp_path: Path, content: object) -> None:
    path = tmp_path / 'future.npz'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, rgb=np.zeros(3))
    with pytest.raises(InputError, match='fourdgen generate --out'):
        load_future(path)


@pytest.mark.parametrize(('arguments', 'said'), [
    (['view', '--future', 'nowhere.npz'], 'nowhere.npz'),
    (['view', '--port', '70000'], '0 to 65535'),
    (['view', '--params-file', 'nowhere.yaml'], 'nowhere.yaml'),
    (['demo', '--no-ros', '--view'], '--no-ros')])
def test_the_verbs_refuse_bad_input(arguments: list[str], said: str,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def middle(page: np.ndarray, row: int, column: int) -> list[int]:
    height, width = PICTURE
    return page[row * (height + 4) + height // 2, column * (width + 4) + width // 2].tolist()


def test_imagined_beside_real() -> None:
    segment = Segment(future(), np.eye(4))
    blue = {f'cam{v}': np.full((5, 5, 3), (0, 0, 200 + v), np.uint8) for v in (1, 0)}
    grey = dict.fromkeys(blue, np.full((5, 5, 3), 120, np.uint8))
    segment.real[1] = blue
    executed, later = (side_by_side(segment, t, grey) for t in (1, 2))
    for v in range(2):
        assert middle(executed, v, 0) == [80, 100 * v, 0]
        assert middle(executed, v, 1) == [0, 0, 200 + v]
        assert middle(later, v, 1) == [120, 120, 120]
    assert side_by_side(segment, 2, None).shape == executed.shape
    alone = imagined(segment, 2)
    assert [middle(alone, 0, v) for v in range(2)] == [[160, 0, 0], [160, 100, 0]]


def test_a_view_without_a_camera_on_this_page_says_so() -> None:
    segment = Segment(future(views=3), np.eye(4))
    white = np.full((5, 5, 3), 255, np.uint8)
    now = {'cam2': white, 'other': np.zeros((5, 5, 3), np.uint8)}
    page, nothing = side_by_side(segment, 0, now), side_by_side(segment, 0, None)
    height, width = PICTURE
    rows = [page[v * (height + 4):][:height, width + 4:] for v in range(3)]
    blank = nothing[:height, width + 4:]
    np.testing.assert_array_equal(rows[0], blank)
    np.testing.assert_array_equal(rows[1], blank)
    assert middle(page, 2, 1) == [255, 255, 255]


def test_words() -> None:
    assert status.task_text({}) == 'no task loop'
    assert status.robot_text({}) == 'no execution node'
    statuses = {
        TASK: Status(Level.OK, 'idle', {'task': 'T', 'outcome': 'done after 3 segments'}),
        EXECUTION: Status(Level.ERROR, 'stopped on request', {'mode': 'confirm'}),
        'tracker: tracker': Status(Level.WARN, 'low confidence'),
        'generator: generator': Status(Level.OK, 'fine')}
    assert status.summary(statuses) == ('T, done after 3 segments, idle\n'
                                        'confirm: stopped on request\ntracker: low confidence')


@pytest.mark.parametrize(('state', 'waits'), [
    ('waiting for the confirmation of plan p7', True), ('ready', False),
    ('waiting for the confirmation of plan p8', False),
    ('executing arm segment 1 of 2 of plan p7', False)])
def test_only_a_plan_that_the_robot_waits_for_can_be_confirmed(state: str, waits: bool) -> None:
    statuses = {EXECUTION: Status(Level.OK, state, {'mode': 'confirm', 'state': state})}
    assert status.waits_for(statuses, 'p7') == waits
    assert not status.waits_for({}, 'p7')


def test_a_robot_that_is_no_longer_heard_waits_for_nothing() -> None:
    statuses = {EXECUTION: Status(Level.STALE, 'nothing heard for 6 s'),
                'tracker: tracker': Status(Level.STALE, 'nothing heard for 7 s')}
    assert status.summary(statuses) == ('no task loop\nnothing heard for 6 s\n'
                                        'tracker: nothing heard for 7 s')
    assert not status.waits_for(statuses, 'p7')
