# SPDX-License-Identifier: Apache-2.0
"""What is said about small bags, and edits that spoil them."""

from __future__ import annotations

from pathlib import Path

import yaml

from fourdgen_ros.data.bag_job import check

from .data_bags import NS, START, Recording, topic_map, write_bag

SHORT = Recording(seconds=0.6)
LEFT = '/cam_left/color/image_raw'
LEFT_DEPTH = '/cam_left/aligned_depth_to_color/image_raw'
LEFT_INFO = '/cam_left/color/camera_info'


def changed(folder: Path, *keys: str, to: object, name: str = 'map.yaml') -> Path:
    """The map of the bags with one value at `keys` replaced."""
    path = topic_map(folder / name)
    spec = yaml.safe_load(path.read_text())
    inner = spec
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(yaml.safe_dump(spec))
    return path


def problems(tmp_path: Path, what: Recording, **changes) -> list[str]:
    """Bad lines of the report about a bag."""
    bag = write_bag(tmp_path / 'bag', what)
    report = check(bag, topic_map(tmp_path / 'map.yaml', compressed=what.compressed, **changes))
    return [str(f) for f in report.bad]


def warnings(tmp_path: Path, what: Recording, map: Path | None = None) -> list[str]:
    """Warning lines of the report about a bag that has no bad one."""
    report = check(write_bag(tmp_path / 'bag', what), map or topic_map(tmp_path / 'map.yaml'))
    assert report.bad == []
    return [str(f) for f in report.findings if f.verdict == 'warning']


def shifted(topic: str, first: int, last: int, ns: int, *, received: bool):
    """An edit that moves the stamps of some messages of a topic, with or without reception."""
    def edit(name: str, index: int, stamp: int, message) -> list:
        if name == topic and first <= index < last:
            sec, nanosec = divmod(stamp + ns, NS)
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
        return [(name, stamp + 3_000_000 + (ns if received and name == topic else 0), message)]
    return edit


def edited(topics: set[str], change) -> object:
    """An edit that calls change(seconds, message) for every message of the topics."""
    def edit(name: str, index: int, stamp: int, message) -> list:
        if name in topics:
            change((stamp - START) / NS, message)
        return [(name, stamp + 3_000_000, message)]
    return edit


def heard(topic: str, while_true) -> object:
    """An edit that keeps the messages of a topic for which while_true(seconds)."""
    def edit(name: str, index: int, stamp: int, message) -> list:
        keep = name != topic or while_true((stamp - START) / NS)
        return [(name, stamp + 3_000_000, message)] if keep else []
    return edit


def late_by(topics: set[str], ns: int) -> object:
    """An edit that adds ns to the stamps of the topics; they are received when they were."""
    def edit(name: str, index: int, stamp: int, message) -> list:
        if name in topics:
            headers = [t.header for t in message.transforms] if name == '/tf' else [message.header]
            for header in headers:
                header.stamp.sec, header.stamp.nanosec = divmod(stamp + ns, NS)
        return [(name, stamp + 3_000_000, message)]
    return edit
