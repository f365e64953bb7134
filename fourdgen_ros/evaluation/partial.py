# SPDX-License-Identifier: Apache-2.0
"""Results of long work are kept as they come, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

from fourdgen_ros.core.errors import InputError


class PartialResults:
    """Rows of an unfinished report FILE in FILE.partial: its identity, then a line of JSON each."""

    def __init__(self, file: Path, identity: dict) -> None:
        """Raises InputError when rows of a run with another identity are there."""
        self._file = file
        self._partial = file.with_name(f'{file.name}.partial')
        self.rows: list[dict] = []
        file.parent.mkdir(parents=True, exist_ok=True)
        entries = self._read() if self._partial.exists() else []
        if not entries:
            self.add(identity)
            return
        if entries[0] != json.loads(json.dumps(identity)):
            raise InputError(f'unfinished report {self._partial}', expected=json.dumps(identity),
                             got=json.dumps(entries[0]),
                             hint='It is of another run: delete it, or write to another file.')
        self.rows = entries[1:]

    def _read(self) -> list[dict]:
        """Whole lines only; the last one may have been cut off and is removed."""
        lines = self._partial.read_text(encoding='utf-8').splitlines(keepends=True)
        whole = [line for line in lines if line.endswith('\n')]
        self._partial.write_text(''.join(whole), encoding='utf-8')
        return [json.loads(line) for line in whole]

    def add(self, row: dict) -> None:
        """Keep one more row."""
        with self._partial.open('a', encoding='utf-8') as stream:
            stream.write(json.dumps(row) + '\n')

    def finish(self, report: dict) -> None:
        """Write the report and forget the rows."""
        self._file.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
        self._partial.unlink()
