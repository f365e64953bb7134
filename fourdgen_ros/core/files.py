# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """A stream beside `file` that takes its place at the end: who is killed meanwhile, or finds the
    disk full, leaves what was there. Folders are made. Processes may write the same file at once.
    OSError names `file`."""
    with naming(file):
        if file.exists() and not file.is_file():  # /dev/stdout
            with file.open('wb') as stream:
                yield stream
            return
        target = file.resolve()
        if not target.parent.exists():  # where it is a file, opening says so
            target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f'.{target.name}.{os.getpid()}.part')
        try:
            with part.open('wb') as stream:
                yield stream
            part.replace(target)
        finally:
            with suppress(OSError):  # it is in its place, or was never there
                part.unlink()


def write_whole(file: Path, text: str) -> None:
    """Write `text` (UTF-8), see `whole`."""
    with whole(file) as stream:
        stream.write(text.encode())


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """OSErrors name `file`; those of a full disk name none by themselves."""
    try:
        yield
    except OSError as error:
        error.filename = str(file)
        raise
