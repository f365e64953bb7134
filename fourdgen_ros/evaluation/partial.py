# SPDX-License-Identifier: Apache-2.0
"""Results of long work are kept as they come, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import naming, write_whole


class PartialResults:
    """Rows of an unfinished report FILE in FILE.partial: its identity, then a line of JSON each."""

    def __init__(self, file: Path, identity: dict) -> None:
        """Raises InputError when rows of a run with another identity are there, and for a folder
        in the place of the report."""
        if file.is_dir():
            raise InputError(f'report {file}', expected='the name of a file', got='a folder',
                             hint='Name a file in it.')
        self._file = file
        self._partial = file.with_name(f'{file.name}.partial')
        self.rows: list[dict] = []
        entries = self._read() if self._partial.exists() else []
        if len(entries) < 2:  # an identity without rows binds no run
            write_whole(self._partial, json.dumps(identity) + '\n')
            return
        if entries[0] != json.loads(json.dumps(identity)):
            raise InputError(f'unfinished report {self._partial}', expected=json.dumps(identity),
                             got=json.dumps(entries[0]),
                             hint='It is of another run: delete it, or write to another file.')
        self.rows = entries[1:]

    def _read(self) -> list[dict]:
        """The lines before the first that cannot be read, which a crash cut off or left empty; it
        and what follows are removed."""
        lines = self._partial.read_bytes().splitlines(keepends=True)
        whole = list(takewhile(lambda entry: entry is not None, map(_entry, lines)))
        write_whole(self._partial, ''.join(f'{json.dumps(entry)}\n' for entry in whole))
        return whole

    def add(self, row: dict) -> None:
        """Keep one more row."""
        with naming(self._partial), self._partial.open('a', encoding='utf-8') as stream:
            stream.write(json.dumps(row) + '\n')

    def finish(self, report: dict, *, keep: bool = False) -> None:
        """Write the report and, unless some are to `keep` for another, forget the rows."""
        write_whole(self._file, json.dumps(report, indent=1) + '\n')
        if not keep:
            self._partial.unlink()


def _entry(line: bytes) -> dict | None:
    """The JSON of a whole line, None where it is none."""
    try:
        entry = json.loads(line) if line.endswith(b'\n') else None
    except ValueError:  # not UTF-8, or not JSON
        return None
    return entry if isinstance(entry, dict) else None
