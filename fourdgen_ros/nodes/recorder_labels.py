# SPDX-License-Identifier: Apache-2.0
"""What is known of an episode beside its messages, and how it is told to people."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from fourdgen_ros import __version__
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.health import Level, Status, worst
from fourdgen_ros.nodes.recorder_episodes import OUTCOMES, RECORDER
from fourdgen_ros.nodes.recorder_recordings import Counts, Recording


@dataclass(frozen=True)
class Label:
    """Task, instruction in words, and outcome."""

    task: str
    text: str
    outcome: str = 'unknown'

    def changed(self, task: str = '', text: str = '', outcome: str = '') -> Label:
        """With what is not empty; raises InputError for an unknown outcome."""
        if outcome and outcome not in OUTCOMES:
            raise InputError('outcome', expected=f'one of {", ".join(OUTCOMES)}', got=outcome)
        changes = {'task': task, 'text': text, 'outcome': outcome}
        return replace(self, **{key: value for key, value in changes.items() if value})

    def data(self) -> dict[str, str]:
        """For the bag's `custom_data`."""
        return {'recorder': RECORDER, 'software': f'fourdgen_ros {__version__}', 'task': self.task,
                'text': self.text, 'outcome': self.outcome}

    def note(self) -> str:
        """For the topic ~/episode: JSON."""
        return json.dumps(self.data(), ensure_ascii=False)


@dataclass
class Episode:
    """The episode under way, or the one that ended by itself and nobody has stopped yet."""

    name: str
    label: Label
    recording: Recording
    path: Path | None = None  # when it has ended: where it is

    def status(self) -> Status:
        """For /diagnostics."""
        counts, reason = self.recording.counts(), self.recording.reason
        values = {'episode': self.name, 'task': self.label.task,
                  'duration [s]': f'{counts.duration:.1f}',
                  'queue [MB]': f'{counts.queue_bytes / 1e6:.1f}',
                  'greatest queue [MB]': f'{counts.queue_high_water / 1e6:.1f}',
                  **{f'{topic} recorded': n for topic, n in counts.recorded.items()}}
        problems = []
        if reason is not None:
            problems.append(Status(Level.ERROR, f'ended by itself: {reason}; call ~/stop'))
        for topic, seconds in counts.silent.items():
            problems.append(Status(Level.WARN, f'nothing from {topic} for {seconds:.1f} s'))
        problems += [Status(Level.WARN, text) for text in losses(counts)]
        return worst(problems, 'recording', values)


def losses(counts: Counts) -> list[str]:
    """Sentences about messages that are not in the bag."""
    texts = []
    for what, numbers in (('dropped, the disk is too slow', counts.dropped),
                          ('lost by DDS', counts.lost)):
        named = ', '.join(f'{n} of {topic}' for topic, n in sorted(numbers.items()) if n)
        if named:
            texts.append(f'{what}: {named}')
    return texts


def summary(counts: Counts) -> str:
    """One line about a whole episode."""
    total = f'{sum(counts.recorded.values())} messages in {counts.duration:.1f} s'
    return '; '.join([total, *losses(counts)])
