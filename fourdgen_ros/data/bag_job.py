# SPDX-License-Identifier: Apache-2.0
"""A bag as the source of an episode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fourdgen_ros.core.errors import FourdgenError
from fourdgen_ros.data.bags import open_bag, whole_bag
from fourdgen_ros.data.convert import file_state, refusal
from fourdgen_ros.data.findings import Finding
from fourdgen_ros.data.mapping import load_map
from fourdgen_ros.data.records import Examination, examine, pictures
from fourdgen_ros.data.scan import scan
from fourdgen_ros.data.staging import stage


@dataclass(frozen=True)
class BagJob:
    """Bag `source` through the topic map in file `map`."""

    source: Path
    map: Path

    def fingerprint(self) -> str:
        """See `Job`."""
        urdf = load_map(self.map).urdf
        described = '' if urdf is None or not urdf.is_file() else hashlib.sha256(
            urdf.read_bytes()).hexdigest()
        text = self.map.read_text(encoding='utf-8')
        return f'{file_state(whole_bag(self.source))} {text} {described}'

    def convert(self, folder: Path) -> list[Finding]:
        """See `Job`; raises InputError where the bag is damaged."""
        topics = load_map(self.map)
        with open_bag(self.source) as bag:
            report = examine(scan(bag, topics), topics)
            if report.records is not None:
                stage(folder, report.records.episode, pictures(bag, topics, report.records),
                      report.findings)
        return report.findings


def check(source: Path, map: Path) -> Examination:
    """The report about a bag; one that cannot be read gives one bad line."""
    topics = load_map(map)
    try:
        with open_bag(source) as bag:
            return examine(scan(bag, topics), topics)
    except FourdgenError as error:
        return Examination(str(source), [refusal(error)], None)
