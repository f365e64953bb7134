# SPDX-License-Identifier: Apache-2.0
"""Writer of rosbag2 folders with MCAP storage, for recording live and through a crash.

The package `mcap` writes the file: it takes publish times, checks chunks by CRC and can end a chunk
at any time, which the writer of `rosbags` does not. What makes it rosbag2's is in
rosbag2_storage_mcap/src/mcap_storage.cpp (branch jazzy): profile, schemas, channel metadata.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_metadata import BagTopic, Extent

COMPRESSIONS = ('none', 'lz4', 'zstd')
CHUNK_BYTES = 2**20


class BagWriter:
    """Writes one bag; not thread safe.

    After each `flush` the file can be read up to there, however the process ends: `recover` of
    `bag_recovery.py` or `ros2 bag reindex` make a whole bag of it. OSError of the file system
    passes through; `abort` closes what is left then.
    """

    def __init__(self, folder: Path, custom_data: Mapping[str, str], *, compression: str = 'none',
                 distro: str = 'jazzy') -> None:
        """Make `folder`, which must not exist; its last part names the file in it.

        Raises FileExistsError, InputError for an unknown compression, and MissingDependencyError;
        whatever is raised, what was made is gone.
        """
        if compression not in COMPRESSIONS:
            raise InputError('compression', expected=f'one of {", ".join(COMPRESSIONS)}',
                             got=compression)
        try:
            from mcap.writer import CompressionType, Writer
        except ImportError as error:
            raise MissingDependencyError(
                'mcap', expected='the package that writes MCAP files', got='not installed',
                hint=how_to_install('data')) from error
        self.folder = folder
        self.custom_data = dict(custom_data)
        self._distro = distro
        self._topics: dict[int, BagTopic] = {}
        self._counts: dict[int, int] = {}
        self._schemas: dict[str, int] = {}
        self._start_ns = self._end_ns = 0
        self._empty = True
        self._file: IO[bytes] | None = None
        self._name = f'{folder.name}_0.mcap'
        folder.mkdir(parents=True)
        try:
            self._file = (folder / self._name).open('xb')
            self._mcap = Writer(self._file, chunk_size=CHUNK_BYTES,
                                compression=CompressionType[compression.upper()])
            self._mcap.start(profile='ros2', library='fourdgen_ros')
            self.flush()
            self._write_metadata()
        except BaseException:
            self.discard()
            raise

    @property
    def extent(self) -> Extent:
        """What has been written."""
        return Extent({topic.name: self._counts[i] for i, topic in list(self._topics.items())},
                      self._start_ns, self._end_ns)

    def add_topic(self, topic: BagTopic) -> int:
        """Returns the channel to write its messages to."""
        if topic.type not in self._schemas:
            self._schemas[topic.type] = self._mcap.register_schema(
                topic.type, 'ros2msg', topic.definition.encode())
        channel = self._mcap.register_channel(
            topic.name, 'cdr', self._schemas[topic.type],
            {'offered_qos_profiles': bag_metadata.dump([dict(q) for q in topic.qos]),
             'topic_type_hash': topic.type_hash})
        self._topics[channel] = topic
        self._counts[channel] = 0
        return channel

    def write(self, channel: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """Append a serialized message (CDR with its header), received and published then."""
        self._mcap.add_message(channel, log_ns, data, publish_ns)
        self._start_ns = log_ns if self._empty else min(self._start_ns, log_ns)
        self._empty = False
        self._end_ns = max(self._end_ns, log_ns)
        self._counts[channel] += 1

    def flush(self) -> None:
        """End the chunk and hand everything to the operating system."""
        self._mcap.flush()

    def close(self) -> None:
        """Write what was not flushed, the index and metadata.yaml; synced to the disk."""
        self.flush()
        self._mcap.add_metadata('rosbag2', {'serialized_metadata': bag_metadata.dump(
            self._metadata())})
        self._mcap.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._write_metadata()

    def discard(self) -> None:
        """Close the file and delete the folder, as far as the disk lets us."""
        self.abort()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abort(self) -> None:
        """Close the file after an error, as it is."""
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError:  # what is in the buffer cannot be written either
            self._file.raw.close()

    def _metadata(self) -> dict:
        return bag_metadata.document(self._name, list(self._topics.values()), self.extent,
                                     self.custom_data, self._distro)

    def _write_metadata(self) -> None:
        bag_metadata.write(self.folder, self._metadata())
