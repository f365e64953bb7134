# SPDX-License-Identifier: Apache-2.0
"""Lines of a report about an episode."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, BAD = 'ok', 'warning', 'bad'


@dataclass(frozen=True)
class Finding:
    """One line: about what, verdict, what was found, and what to do about it."""

    what: str
    verdict: str
    found: str
    next: str = ''

    def __str__(self) -> str:
        return f'{self.what}: {self.found}' + (f' -> {self.next}' if self.next else '')


def judged(what: str, found: str, *, bad: bool = False, warning: bool = False,
           next: str = '') -> Finding:
    """Line with the worst verdict that holds; `next` only where there is something to do."""
    verdict = BAD if bad else WARNING if warning else OK
    return Finding(what, verdict, found, '' if verdict == OK else next)
