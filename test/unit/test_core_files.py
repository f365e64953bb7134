# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, and errors that name them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fourdgen_ros.core.files import whole, write_whole

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
