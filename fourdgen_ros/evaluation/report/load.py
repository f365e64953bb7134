# SPDX-License-Identifier: Apache-2.0
"""Files that verbs wrote -> the runs of a report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from fourdgen_ros.core.errors import InputError

_HINT = ('Give the file of `fourdgen rollout --json` or `fourdgen evaluate --json`, the folder of '
         '`fourdgen evaluate --out`, or that of `fourdgen demo`.')
OUTCOME = 'outcome.json'  # in the folder of a demo


@dataclass(frozen=True)
class Run:
    """The JSON that a verb wrote, and the file it came from."""

    value: dict
    file: Path

    def beside(self, name: str) -> Path | None:
        """A file that the JSON names, relative to it; None when it is not there."""
        path = self.file.parent / name
        return path if name and path.is_file() else None


@dataclass
class Runs:
    """What a report shows: rollouts, evaluations of futures, demos; `commands` of the tables."""

    rollouts: list[Run] = field(default_factory=list)
    evaluations: list[Run] = field(default_factory=list)
    demos: list[Run] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)

    def all(self) -> list[Run]:
        """Every run, in the order of the report."""
        return [*self.rollouts, *self.evaluations, *self.demos]


def load_runs(paths: list[Path]) -> Runs:
    """Read files and folders of runs. Raises InputError for what is none."""
    runs = Runs()
    for path in paths:
        if path.is_dir():
            _add_folder(runs, path)
        else:
            _add(runs, path)
    return runs


def _add_folder(runs: Runs, folder: Path) -> None:
    if (folder / OUTCOME).is_file():
        _add(runs, folder / OUTCOME)
        return
    table = folder / 'results.json'
    if not table.is_file():
        raise InputError(f'folder {folder}', expected=f'results.json or {OUTCOME}', got='neither',
                         hint=_HINT)
    _add(runs, table)


def _add(runs: Runs, file: Path) -> None:
    value = _read(file)
    if 'results' in value:
        _add_table(runs, value, file.parent)
    elif {'outcomes', 'wilson95'} <= value.keys():
        runs.rollouts.append(Run(value, file))
    elif {'futures', 'measures'} <= value.keys():
        runs.evaluations.append(Run(value, file))
    elif {'timings', 'segments', 'success'} <= value.keys():
        runs.demos.append(Run(value, file))
    else:
        raise InputError(f'file {file}', expected='the report of a run',
                         got=f'JSON with {", ".join(list(value)[:5]) or "nothing"}', hint=_HINT)


def _add_table(runs: Runs, value: dict, folder: Path) -> None:
    """The reports of a table hold more than the table itself."""
    if value.get('command'):
        runs.commands.append(value['command'])
    for row in value['results']:
        for key in ('closed', 'open'):
            if row[key] is not None:
                name = f"{row['task']}.{row[key]['camera_set']}.{row['generator']}.{key}.json"
                _add(runs, folder / 'reports' / name)


def _read(file: Path) -> dict:
    try:
        value = json.loads(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'file {file}', expected='the report of a run',
                         got=error.strerror or type(error).__name__, hint=_HINT) from error
    except ValueError as error:
        raise InputError(f'file {file}', expected='JSON', got=str(error), hint=_HINT) from error
    if not isinstance(value, dict):
        raise InputError(f'file {file}', expected='the report of a run',
                         got=f'a JSON {type(value).__name__}', hint=_HINT)
    return value
