# SPDX-License-Identifier: Apache-2.0
"""The folders of episodes: partial while they are recorded, renamed when they are whole."""

from __future__ import annotations

import contextlib
import re
import shutil
from datetime import datetime
from pathlib import Path

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import bag_metadata

PARTIAL = '.partial'  # below the output folder; hidden, so that nobody takes it for an episode
RECORDER = 'fourdgen_ros'  # value of custom_data['recorder'] in every bag of ours
OUTCOMES = ('success', 'failure', 'unknown')
_LONGEST = 200  # bytes of a name; file systems allow 255, and the file in it adds some


class EpisodeFolders:
    """Names and folders below one output folder; nothing outside it is touched."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def partial(self, name: str) -> Path:
        """Where an episode is while it is recorded."""
        return self.root / PARTIAL / name

    def final(self, name: str) -> Path:
        """Where an episode is when it is whole."""
        return self.root / name

    def new_name(self, name: str, task: str, now: datetime) -> str:
        """`name`, or one made of task and time; of an episode that is not there yet.

        Raises InputError for a name that is taken, or would lead out of the output folder.
        """
        if name:
            self.check(name)
            for folder in (self.final(name), self.partial(name)):
                if folder.exists() or folder.is_symlink():
                    raise InputError(f'episode {name!r}', expected='a name that is not taken',
                                     got=str(folder), hint=_taken(folder))
            return name
        stem = f'{re.sub(r"[^A-Za-z0-9-]+", "_", task)[:80] or "episode"}_{now:%Y%m%d_%H%M%S}'
        name, number = stem, 1
        while self.final(name).exists() or self.partial(name).exists():
            number += 1
            name = f'{stem}_{number}'
        return name

    def check(self, name: str) -> None:
        """Raise InputError unless `name` is a plain name of a visible folder."""
        plain = name and not name.startswith('.') and name == name.strip() and (
            not re.search(r'[/\\\x00-\x1f\x7f]', name)) and len(name.encode()) <= _LONGEST
        if not plain:
            raise InputError(
                f'episode name {name!r}', got='another',
                expected=f'a plain folder name, not hidden, of at most {_LONGEST} bytes')

    def keep(self, name: str) -> Path:
        """Rename a whole episode; returns its folder."""
        final = self.final(name)
        if final.exists():
            raise InputError(str(final), expected='a name that is not taken',
                             got='a folder that was made meanwhile',
                             hint=f'The episode is whole, in {self.partial(name)}.')
        self.partial(name).rename(final)
        self._tidy()
        return final

    def find(self, name: str) -> Path:
        """Folder of a finished episode; raises InputError when there is none of this recorder."""
        self.check(name)
        folder = self.final(name)
        if folder.is_symlink() or not folder.is_dir():
            raise InputError(f'episode {name!r}', expected=f'a folder in {self.root}', got='none')
        if bag_metadata.custom_data(folder).get('recorder') != RECORDER:
            raise InputError(str(folder), expected='a bag that this recorder made',
                             got='another one')
        return folder

    def discard(self, folder: Path) -> None:
        """Delete a bag; raises InputError and deletes nothing when anything else is in there."""
        inside = sorted(folder.iterdir())
        own = {bag_metadata.FILE, f'.{bag_metadata.FILE}.new'}
        for path in inside:
            is_bag = path.name in own or (
                path.name.startswith(f'{folder.name}_') and path.suffix == '.mcap')
            if not is_bag or path.is_symlink() or not path.is_file():
                raise InputError(str(path), expected='nothing but the bag in its folder',
                                 got='something else', hint='Move it away; nothing was deleted.')
        for path in inside:
            path.unlink()
        folder.rmdir()
        folder.with_name(f'{folder.name}.log').unlink(missing_ok=True)  # of `ros2 bag record`
        self._tidy()

    def leftovers(self) -> list[Path]:
        """Partial episodes: of recorders that were killed, or that record here now."""
        partial = self.root / PARTIAL
        return sorted(p for p in partial.iterdir() if p.is_dir()) if partial.is_dir() else []

    def make(self) -> None:
        """Make the output folder when it is not there; raises InputError where that fails."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(error) from error

    def free_bytes(self) -> int:
        """Bytes that can still be written; raises InputError where the folder is no longer there.

        It is not made again: what was mounted there may be gone, and the disk below is another.
        """
        try:
            return shutil.disk_usage(self.root).free
        except OSError as error:
            raise _not_writable(error, 'Mount its disk, or start the recorder anew, which makes '
                                       'the folder.') from error

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):  # not empty
            (self.root / PARTIAL).rmdir()


def _not_writable(error: OSError, hint: str = '') -> InputError:
    return InputError('output_folder', expected='a folder that can be written', got=str(error),
                      hint=hint)


def _taken(folder: Path) -> str:
    if folder.parent.name == PARTIAL:
        return f'A recorder was killed, or records it now. To recover it: fourdgen recover {folder}'
    return 'Choose another name, or discard that episode.'
