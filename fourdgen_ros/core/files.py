# SPDX-License-Identifier: Apache-2.0
"""Text files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write `text` (UTF-8) beside `file`, then put it in its place: who is killed meanwhile, or
    finds the disk full, leaves what was there. Processes may write the same file at once."""
    if file.exists() and not file.is_file():  # /dev/stdout
        file.write_text(text, encoding='utf-8')
        return
    target = file.resolve()
    part = target.with_name(f'.{target.name}.{os.getpid()}.part')
    try:
        part.write_text(text, encoding='utf-8')
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
