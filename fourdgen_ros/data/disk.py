# SPDX-License-Identifier: Apache-2.0
"""A full disk as an error that names it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fourdgen_ros.core.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(out: Path, kept: str) -> Iterator[None]:
    """Raises InputError when the disk of `out` is full; `kept` says what is not lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(f'disk of {out}', expected='space', got=str(error),
                         hint=f'Make room and start again: {kept}.') from error
