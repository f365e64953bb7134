# SPDX-License-Identifier: Apache-2.0
"""Bags whose recorder was killed, or whose disk was full: all that was written, as a whole bag."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import yaml

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_metadata import BagTopic, Extent
from fourdgen_ros.data.bag_writer import BagWriter
from fourdgen_ros.data.disk import room_for


@dataclass(frozen=True)
class Recovery:
    """What was recovered; how many chunks were damaged, the end of a file that nobody can read
    being one; and how many messages are left out because none that was whole named their topic."""

    extent: Extent
    damaged_chunks: int
    orphans: int


def recover(bag: Path, out: Path, *, compression: str = 'none') -> Recovery:
    """Copy every whole chunk of the one MCAP file in `bag` into the new bag `out`.

    `bag` stays as it is. Bytes and times of all messages stay the same, as does what the recorder
    noted about the bag; `custom_data` gets `recovered`, `damaged_chunks` and `orphans`. `out` is
    there as a whole or not at all. Raises InputError when there is no MCAP file, nothing in it can
    be read, `out` exists or its disk is full.
    """
    file = _only_file(bag)
    if out.exists():
        raise InputError(str(out), expected='a folder that does not exist yet', got='one that does')
    try:
        custom_data = bag_metadata.custom_data(bag)
    except InputError:  # killed before it was written
        custom_data = {}
    chunks = _Chunks(file)
    messages = iter(chunks)
    first = next(messages, None)
    if first is None:
        raise InputError(str(file), expected='at least one whole chunk of messages', got='none')
    part = out.with_name(f'.{out.name}.recovering')
    shutil.rmtree(part, ignore_errors=True)  # of an attempt that was stopped
    try:
        with room_for(out, f'{bag} is as it was'):
            writer = BagWriter(part / out.name, {**custom_data, 'recovered': 'true'},
                               compression=compression)
            _copy(chain([first], messages), writer)
            writer.custom_data.update(damaged_chunks=str(chunks.damaged),
                                      orphans=str(chunks.orphans))
            writer.close()
            os.replace(part / out.name, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Recovery(writer.extent, chunks.damaged, chunks.orphans)


def _only_file(bag: Path) -> Path:
    files = sorted(bag.glob('*.mcap'))
    if len(files) == 1:
        return files[0]
    if not bag.exists():
        got, hint = 'nothing there', ''
    elif not bag.is_dir():
        got, hint = 'a file', f'Give its folder, {bag.parent}.'
    elif files:
        got, hint = f'{len(files)} of them', 'Try `ros2 bag reindex -s mcap`.'
    elif any(bag.glob('*.db3')):
        got, hint = 'no .mcap file but .db3', 'Try `ros2 bag reindex -s sqlite3`.'
    else:
        got, hint = 'no .mcap file', 'Nothing was recorded into this folder.'
    raise InputError(f'bag {bag}', expected='a folder with one .mcap file', got=got, hint=hint)


def _copy(messages: Iterable[tuple[Any, Any, Any]], writer: BagWriter) -> None:
    channels: dict[int, int] = {}
    for schema, channel, message in messages:
        if channel.id not in channels:
            channels[channel.id] = writer.add_topic(BagTopic(
                channel.topic, schema.name, schema.data.decode(),
                channel.metadata.get('topic_type_hash', ''),
                tuple(yaml.safe_load(channel.metadata.get('offered_qos_profiles', '')) or ())))
        writer.write(channels[channel.id], message.log_time, message.publish_time, message.data)


class _Chunks:
    """(schema, channel, message) of every whole chunk of a file, in its order."""

    def __init__(self, path: Path) -> None:
        self.damaged = self.orphans = 0
        self._path = path

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        try:
            from mcap.exceptions import EndOfFile
            from mcap.records import Channel, Message, Schema
            from mcap.stream_reader import StreamReader
        except ImportError as error:
            raise MissingDependencyError(
                'mcap', expected='the package that reads MCAP files', got='not installed',
                hint=how_to_install('data')) from error
        schemas, channels = self._named_at_the_end()
        with self._path.open('rb') as file:
            records = StreamReader(_Whole(file, EndOfFile), emit_chunks=True).records
            while True:
                try:
                    record = next(records)
                except (StopIteration, EndOfFile):
                    return  # the end of the file, or of what is whole of it
                except Exception:  # what is there is no record, and nobody knows where one begins
                    self.damaged += 1
                    return
                for part in self._parts(record):
                    if isinstance(part, Schema):
                        schemas[part.id] = part
                    elif isinstance(part, Channel):
                        channels[part.id] = part
                    elif isinstance(part, Message):
                        channel = channels.get(part.channel_id)
                        if channel is None or channel.schema_id not in schemas:
                            self.orphans += 1
                        else:
                            yield schemas[channel.schema_id], channel, part

    def _named_at_the_end(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Schemas and channels by number, as a bag that was closed repeats them: the chunk that
        named them first may be damaged."""
        from mcap.reader import make_reader

        try:
            with self._path.open('rb') as file:
                summary = make_reader(file).get_summary()
        except Exception:  # it was not closed, or that part is damaged
            summary = None
        return ({}, {}) if summary is None else (dict(summary.schemas), dict(summary.channels))

    def _parts(self, record: Any) -> list[Any]:
        from mcap.records import Chunk
        from mcap.stream_reader import breakup_chunk

        if not isinstance(record, Chunk):
            return [record]
        try:
            return breakup_chunk(record, validate_crc=True)
        except Exception:  # each compressor has its own errors
            self.damaged += 1
            return []


class _Whole:
    """A file that ends before what is not whole: `read` gives all bytes or raises `end`."""

    def __init__(self, file: IO[bytes], end: type[Exception]) -> None:
        self._file, self._end = file, end

    def read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise self._end
        return data
