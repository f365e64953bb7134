# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, and errors that name them."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fourdgen_ros.cli import options
from fourdgen_ros.core.files import whole, write_whole
from fourdgen_ros.evaluation.learning_curve import save_curve
from fourdgen_ros.evaluation.picture import save_gif, save_picture, save_ply
from fourdgen_ros.evaluation.report.load import Runs
from fourdgen_ros.evaluation.report.page import write_report
from fourdgen_ros.sim.collect import store

SPACE = 16  # bytes that fit on the full disk


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond `SPACE`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPACE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_when_all_is_written(tmp_path: Path) -> None:
    file = tmp_path / 'x.txt'
    file.write_text('old')
    with whole(file) as stream:
        stream.write(b'new')
        stream.flush()
        assert file.read_text() == 'old'
    assert file.read_text() == 'new'
    assert os.listdir(tmp_path) == ['x.txt']


def test_what_fails_midway_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / 'x.txt'
    file.write_text('old')
    with full_disk(), pytest.raises(OSError, match=r"too large.*x\.txt'"):
        write_whole(file, 'new and longer than the disk')
    assert file.read_text() == 'old'
    assert os.listdir(tmp_path) == ['x.txt']


def _cloud(file: Path) -> None:
    future = SimpleNamespace(valid=np.ones((1, 1, 2, 2), bool), points=np.zeros((1, 1, 2, 2, 3)),
                             rgb=np.zeros((1, 1, 2, 2, 3), np.uint8))
    save_ply(future, 0, file)


@pytest.mark.parametrize(('name', 'write'), [
    ('x.gif', lambda file: save_gif(iter([Image.new('RGB', (8, 8))]), file, 0.1)),
    ('x.png', lambda file: save_picture(Image.new('RGB', (8, 8)), file)),
    ('x.ply', _cloud),
    ('x.png', lambda file: save_curve([], [], 'measure', file)),
    ('x.html', lambda file: write_report(Runs(), file)),
    ('episode_000007.npz', lambda file: store(file.parent, 7, {'times': np.zeros(9)}))])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, name: str,
                                         write: Callable[[Path], object]) -> None:
    file = tmp_path / name
    with full_disk(), pytest.raises(OSError, match=f'too large.*{name}'):
        write(file)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_the_first_error_is_told(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError) as error:
        write_whole(tmp_path / 'file' / 'x', 'text')
    assert error.value.filename == str(tmp_path / 'file' / 'x')
    assert error.value.__context__ is None


def test_a_device_is_written_as_it_is() -> None:
    write_whole(Path('/dev/null'), 'text')
    with pytest.raises(OSError, match='/dev/full'):
        write_whole(Path('/dev/full'), 'text')


def test_a_check_of_an_output_leaves_no_folder_and_a_file_makes_its_own(tmp_path: Path) -> None:
    file = tmp_path / 'new' / 'deeper' / 'figures.json'
    options.require_json(file)
    assert not list(tmp_path.iterdir())
    options.write_json(file, {'n': 0})
    options.require_folder('--out', file.parent)
    assert json.loads(file.read_text()) == {'n': 0}
