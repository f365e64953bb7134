# SPDX-License-Identifier: Apache-2.0
"""metadata.yaml of a rosbag2 folder, version 9, as ROS 2 Jazzy writes it.

Source: rosbag2_storage/include/rosbag2_storage/{bag_metadata,yaml}.hpp, branch jazzy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fourdgen_ros.core.errors import InputError

VERSION = 9
FILE = 'metadata.yaml'
ROOT = 'rosbag2_bagfile_information'


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag.

    `definition` is the text of the .msg file with those of all types in it, as rosbag2 concatenates
    them; `type_hash` is 'RIHS01_...' or empty; `qos` has a mapping per offered profile with
    rosbag2's keys (history, depth, reliability, ...).
    """

    name: str
    type: str
    definition: str
    type_hash: str = ''
    qos: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Extent:
    """What a bag holds: messages by topic, first and last log time in ns (0, 0 when empty)."""

    counts: Mapping[str, int]
    start_ns: int = 0
    end_ns: int = 0

    @property
    def messages(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def document(file: str, topics: Sequence[BagTopic], extent: Extent,
             custom_data: Mapping[str, str], distro: str) -> dict[str, Any]:
    """Content of metadata.yaml below its root; `file` is the name of the MCAP file."""
    duration = {'nanoseconds': extent.end_ns - extent.start_ns}
    start = {'nanoseconds_since_epoch': extent.start_ns}
    return {
        'version': VERSION, 'storage_identifier': 'mcap', 'duration': duration,
        'starting_time': start, 'message_count': extent.messages,
        'topics_with_message_count': [{
            'topic_metadata': {
                'name': topic.name, 'type': topic.type, 'serialization_format': 'cdr',
                'offered_qos_profiles': [dict(profile) for profile in topic.qos],
                'type_description_hash': topic.type_hash},
            'message_count': extent.counts.get(topic.name, 0)} for topic in topics],
        'compression_format': '', 'compression_mode': '',  # chunks are compressed, not the file
        'relative_file_paths': [file],
        'files': [{'path': file, 'starting_time': start, 'duration': duration,
                   'message_count': extent.messages}],
        'custom_data': dict(custom_data), 'ros_distro': distro}


def dump(content: Any) -> str:
    """YAML text; anchors, which other readers may not know, are never used."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(getattr(yaml, 'CSafeDumper', yaml.SafeDumper)):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write metadata.yaml at once: a reader finds the old or the new one, never a part."""
    new = folder / f'.{FILE}.new'
    with new.open('w', encoding='utf-8') as file:
        file.write(dump({ROOT: dict(content)}))
    os.replace(new, folder / FILE)


def read(folder: Path) -> dict[str, Any]:
    """Content of metadata.yaml below its root.

    Raises `InputError` when there is none, or when it is not rosbag2's.
    """
    path = folder / FILE
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(str(path), expected='the metadata of a rosbag2 folder',
                         got=str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get(ROOT), dict):
        raise InputError(str(path), expected=f'the key {ROOT}', got='none')
    return content[ROOT]


def custom_data(folder: Path) -> dict[str, str]:
    """What the recorder noted about the bag."""
    return as_texts(read(folder).get('custom_data'))


def as_texts(noted: Mapping[Any, Any] | None) -> dict[str, str]:
    """What YAML made of `custom_data` as texts again: rosbag2 writes them without quotes."""
    return {str(k): str(v) for k, v in (noted or {}).items()}


def set_custom_data(folder: Path, values: Mapping[str, str]) -> None:
    """Add or change values of `custom_data`; everything else stays."""
    content = read(folder)
    content['custom_data'] = {**(content.get('custom_data') or {}), **values}
    write(folder, content)
