# SPDX-License-Identifier: Apache-2.0
"""Many recordings -> one LeRobotDataset, in parallel, as a whole or not at all.

Episodes are staged in the hidden folder `.OUT.part` beside the data set; an interrupted conversion
goes on there. When all are done, the data set is put together, moved to its place, and the folder
is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.core.pool import workers_live
from fourdgen_ros.data.assembly import assemble
from fourdgen_ros.data.disk import room_for
from fourdgen_ros.data.findings import BAD, WARNING, Finding
from fourdgen_ros.data.staging import SUMMARY, Staged, read_staged

FORMAT = 5  # of staged episodes: a higher one ignores what older versions left
_THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS')
_SIMULATED = 10**18  # ns, the year 2001: clocks that show less began with a simulator
_NEEDED = 0.75  # of the size of the recordings, free before anything is written


class Job(Protocol):
    """A recording that becomes an episode; sent to another process."""

    @property
    def source(self) -> Path:
        """The recording."""

    def fingerprint(self) -> str:
        """Text that changes when the recording, or what is made of it, changes."""

    def convert(self, folder: Path) -> list[Finding]:
        """Stage the episode; returns the report, and writes nothing when a line is bad."""


@dataclass(frozen=True)
class Outcome:
    """What became of one recording; `episode` is None for one that was left out."""

    source: Path
    findings: list[Finding]
    episode: Staged | None

    @property
    def reason(self) -> str:
        """Why it was left out."""
        return '; '.join(str(f) for f in self.findings if f.verdict == BAD)

    @property
    def warnings(self) -> list[str]:
        """What is worth a look in one that was kept."""
        return [str(f) for f in self.findings
                if self.episode is not None and f.verdict == WARNING]


def convert(jobs: Sequence[Job], out: Path, workers: int = 1,
            done: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """Write data set `out` from all recordings that are fit for it, in their order.

    `done` is called as each recording is through. Raises InputError when `out` exists, another
    process converts to it, recordings overlap in time, none is fit, a path is not UTF-8, or the
    disk is full, and ExecutionError when a worker dies; episodes that are done are kept for the
    next call.
    """
    if out.exists():
        raise InputError(f'data set {out}', expected='a folder that does not exist',
                         got='one that does', hint='Name another: what is there is not touched.')
    for job in jobs:
        check_name(job.source)
        if not job.source.exists():
            raise InputError(f'recording {job.source}', expected='a folder or a file',
                             got='nothing there', hint='Is the path right? Nothing was converted.')
    sources = [job.source.resolve() for job in jobs]
    if twice := [str(s) for s in dict.fromkeys(sources) if sources.count(s) > 1]:
        raise InputError('recordings', expected='each once', got=f'{", ".join(twice)} twice')
    part = out.with_name(f'.{out.name}.part')
    with room_for(out, 'finished episodes are kept'), _locked(part):
        _check_space(jobs, out)
        outcomes = _stage_all(jobs, part, workers, done)
        good = [o.episode for o in outcomes if o.episode is not None]
        if not good:
            shutil.rmtree(part)
            raise InputError(f'data set {out}', expected='at least one good recording',
                             got=' | '.join(f'{o.source}: {o.reason}' for o in outcomes))
        _check_overlap(good)
        made = part / 'dataset'
        shutil.rmtree(made, ignore_errors=True)
        assemble(made, good, workers)
        os.replace(made, out)
        shutil.rmtree(part)
    return outcomes


def _stage_all(jobs: Sequence[Job], part: Path, workers: int,
               done: Callable[[Outcome], None] | None) -> list[Outcome]:
    for name in _THREADS:  # one thread per worker
        os.environ.setdefault(name, '1')
    outcomes: dict[int, Outcome] = {}
    # spawn: threads do not survive a fork
    context = multiprocessing.get_context('spawn')
    with workers_live(), ProcessPoolExecutor(workers, mp_context=context) as pool:
        pending = {pool.submit(_one, job, part): i for i, job in enumerate(jobs)}
        try:
            for future in as_completed(pending):
                outcome = outcomes[pending[future]] = future.result()
                if done is not None:
                    done(outcome)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [outcomes[i] for i in range(len(jobs))]


def _one(job: Job, part: Path) -> Outcome:
    """One recording: staged before, staged now, or left out with a reason."""
    try:
        key = hashlib.sha256(f'{FORMAT} {job.fingerprint()}'.encode()).hexdigest()[:16]
        folder = part / key
        findings = [] if (folder / SUMMARY).is_file() else job.convert(folder)
    except FourdgenError as error:
        return Outcome(job.source, [refusal(error)], None)
    if not (folder / SUMMARY).is_file():
        return Outcome(job.source, findings, None)
    staged = read_staged(folder)
    return Outcome(job.source, staged.findings, staged)


def refusal(error: FourdgenError) -> Finding:
    """The bad line of a recording that cannot be read: what was expected, what was got."""
    return Finding(error.what, BAD, error.problem.removeprefix(f'{error.what}; '), error.hint)


def _check_overlap(episodes: Sequence[Staged]) -> None:
    """One robot cannot do two demonstrations at once: one of them would count twice. In simulated
    time it can: the clock begins anew."""
    ordered = sorted((e for e in episodes if e.start > _SIMULATED), key=lambda e: e.start)
    for a, b in pairwise(ordered):
        if b.start < a.end:
            raise InputError(f'recordings {a.source} and {b.source}',
                             expected='one after the other',
                             got=f'{(min(a.end, b.end) - b.start) * 1e-9:.2f} s in common',
                             hint='Leave one out, or correct the clock that stamped them.')


def _check_space(jobs: Sequence[Job], out: Path) -> None:
    size = sum(f.stat().st_size for job in jobs for f in files(job.source))
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < _NEEDED * size:
        raise InputError(f'disk of {out}', expected=f'{_NEEDED * size / 1e9:.1f} GB free',
                         got=f'{free / 1e9:.1f} GB', hint='Make room, or write elsewhere.')


def check_name(source: Path) -> None:
    """Raises InputError for a path that is not UTF-8: no report and no data set could name it."""
    name = os.fsencode(source)
    try:
        name.decode()
    except UnicodeDecodeError as error:
        printable = name.decode(errors='backslashreplace')
        raise InputError(f'recording {printable}', expected='a path in UTF-8', got='other bytes',
                         hint='Rename it.') from error


def files(source: Path) -> list[Path]:
    """All files of a recording."""
    return [source] if source.is_file() else sorted(p for p in source.rglob('*') if p.is_file())


def file_state(source: Path) -> str:
    """Names, sizes and times of the files of a recording, for fingerprints."""
    return json.dumps([[str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns]
                       for p in files(source)] + [str(source.resolve())])


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """The working folder, for one process at a time."""
    part.mkdir(parents=True, exist_ok=True)
    with open(part / 'lock', 'w', encoding='utf-8') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f'working folder {part}', expected='no other conversion in it',
                             got='one that runs', hint='Wait for it.') from error
        yield
