# SPDX-License-Identifier: Apache-2.0
"""rosbag2 folders of any storage, read without ROS.

`rosbags` reads sqlite3 and MCAP, with messages or files compressed by zstd; a file may be given for
its folder, or without one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.disk import room_for


class Bag:
    """An open bag: its topics, what the recorder noted about it, and its messages."""

    def __init__(self, path: Path, reader: Any) -> None:
        self.path, self._reader = path, reader
        self.types = {c.topic: c.msgtype for c in reader.connections}
        self.counts = {c.topic: c.msgcount for c in reader.connections}  # as its metadata says
        metadata = reader.readers[0].storage.metadata
        self.notes = bag_metadata.as_texts(metadata.custom)

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Topic, time of reception in ns and bytes of every message, in the order of these times.

        Raises InputError where the file is damaged.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:
            return
        with _readable(self.path):
            for connection, received, raw in self._reader.messages(connections=connections):
                yield connection.topic, received, raw

    def decode(self, topic: str, raw: bytes) -> Any:
        """The message of these bytes; raises InputError when they are none of the topic's type."""
        from rosbags.highlevel import AnyReaderError

        try:
            return self._reader.deserialize(raw, self.types[topic])
        except KeyError as error:
            raise InputError(f'bag {self.path}, topic {topic}',
                             expected=f'the definition of {self.types[topic]} in the bag',
                             got='none', hint='Record where its package is installed.') from error
        except (AnyReaderError, ValueError, IndexError) as error:
            raise InputError(f'bag {self.path}, topic {topic}', expected=self.types[topic],
                             got=f'{len(raw)} bytes that are none: {error}') from error


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a rosbag2 folder, a .mcap or a .db3 file; for the only file of a folder, the folder.

    Raises InputError that names the file, what is wrong with it and what may help.
    """
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.rosbag2 import Reader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingDependencyError(
            'bags', expected='the package rosbags', got=str(error),
            hint=how_to_install('data')) from error
    path = whole_bag(path)
    _check(path)
    with _readable(path):
        # Bags of Humble and older do not define their messages.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        # It takes every name that ends in .bag for a file of ROS 1.
        reader.is2, reader.readers = True, [Reader(path)]
        temporary = Path(tempfile.gettempdir())
        with _defined(path), room_for(temporary, 'files are unpacked there, or where TMPDIR says'):
            reader.open()
    try:
        yield Bag(path, reader)
    finally:
        reader.close()


def whole_bag(path: Path) -> Path:
    """The folder of a bag whose only file was given, for its labels are there; else `path`.

    Raises InputError for one of several files, which are one episode together.
    """
    try:
        files = _listed(path.parent) if path.is_file() else []
    except InputError:  # a file without its folder's metadata is all there is
        return path
    if path.name not in (PurePosixPath(name).name for name in files):
        return path
    folder = path.absolute().parent
    if len(files) > 1:
        raise InputError(f'bag {path}', expected='the folder of a bag',
                         got=f'one of its {len(files)} files', hint=f'Give {folder}.')
    return folder


def _check(path: Path) -> None:
    if not path.exists():
        raise InputError(f'bag {path}', expected='a rosbag2 folder', got='nothing there')
    if path.is_file():
        if path.suffix not in ('.mcap', '.db3'):
            raise InputError(f'bag {path}', expected='a rosbag2 folder, a .mcap or a .db3 file',
                             got=f'a {path.suffix or "plain"} file')
        return
    metadata = path / bag_metadata.FILE
    if not metadata.is_file():
        if any(path.glob(f'*/{bag_metadata.FILE}')):
            got, hint = 'none, but folders that have one', f'Give them: {path}/*'
        elif any(path.glob('*.mcap')) or any(path.glob('*.db3')):
            got, hint = 'none', _repair(path)
        else:
            got, hint = 'none, nor any recording', 'Give a folder with .mcap or .db3 files.'
        raise InputError(f'bag {path}', expected='metadata.yaml in it', got=got, hint=hint)
    for name in _listed(path):
        parts = PurePosixPath(name)
        if parts.is_absolute() or '..' in parts.parts:
            raise InputError(f'bag metadata {metadata}', expected='files inside the folder',
                             got=repr(name), hint='Do not trust this bag.')


def _listed(folder: Path) -> list[str]:
    """The files of a bag, as its metadata names them; raises InputError when it does not."""
    try:
        files = bag_metadata.read(folder)['relative_file_paths']
        if not isinstance(files, list):
            raise TypeError(f'{files!r} is no list')
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f'bag metadata {folder / bag_metadata.FILE}',
                         expected='relative_file_paths of rosbag2',
                         got=error.got if isinstance(error, InputError) else
                         f'{type(error).__name__}: {error}', hint=_repair(folder)) from error
    return [str(name) for name in files]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of the reader as one InputError that names the bag."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # what a damaged file makes of sqlite, zstd, lz4 or YAML
        raise InputError(f'bag {path}', expected='a whole rosbag2', got=str(error) or repr(error),
                         hint=_rename(path) or _repair(path)) from error


@contextmanager
def _defined(path: Path) -> Iterator[None]:
    """What rosbags raises for definitions of messages that it cannot use, as an InputError."""
    from rosbags.highlevel import AnyReaderError
    from rosbags.rosbag2 import ReaderError

    without = ('Write a bag without that topic: `ros2 bag convert` with only the topics of the map '
               'under `topics` of its output.')
    try:
        yield
    except KeyError as error:
        raise InputError(
            f'bag {path}', expected='definitions of messages in .msg or IDL',
            got=f'a topic with one of encoding {error}',
            hint='The recorder did not find the definition, as for feedback of actions. '
                 f'{without}') from error
    except AnyReaderError as error:
        if isinstance(error.__context__, ReaderError):  # the file, not what is defined in it
            raise
        raise InputError(f'bag {path}', expected='the definition of every type of message',
                         got=' '.join(str(error).split()), hint=without) from error


def _rename(path: Path) -> str:
    """The next step with a bag whose path rosbags misreads, as it gives SQLite a URI; empty if it
    does not."""
    sqlite = path.suffix == '.db3' or any(path.glob('*.db3'))
    if not sqlite or not any(sign in str(path) for sign in '#?%'):
        return ''
    return 'Rename it: the reader of .db3 files trips over `#`, `?` and `%` in a path.'


def _repair(path: Path) -> str:
    """The next step with a damaged bag."""
    if path.is_dir() and len(list(path.glob('*.mcap'))) == 1:
        how = 'try `fourdgen recover`, or `ros2 bag reindex`.'
    else:
        how = 'try `ros2 bag reindex` on the folder.'
    return f'A recorder that was killed leaves such bags: {how}'
