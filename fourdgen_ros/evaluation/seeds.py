# SPDX-License-Identifier: Apache-2.0
"""A measurement over many seeds: on several workers, resumable, with one report at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.partial import PartialResults
from fourdgen_ros.evaluation.pool import results


@dataclass(frozen=True)
class Batch:
    """How seeds are worked through.

    workers: processes, or Ray actors with `ray`, see `pool.results`. file: where the report goes;
    finished seeds are kept beside it until it is complete, so that an interrupted run goes on where
    it was; those of a run over more seeds stay until it has gone on, too. reuse: a finished report
    of the same measurement and seeds in `file` is returned as it is; one that cannot be read is not
    finished.
    """

    workers: int = 1
    ray: bool = False
    file: Path | None = None
    reuse: bool = False

    def run(self, build: Callable[..., Callable[[int], dict]], args: tuple, seeds: Iterable[int],
            identity: dict, report: Callable[[list[dict]], dict],
            on_result: Callable[[dict], None]) -> dict:
        """`report(rows)` of the rows `build(*args)(seed)`, in the order of the seeds.

        A row holds its `seed`. `identity` says as JSON what is measured; the report carries it with
        the seeds. `on_result(row)` hears of each. Raises InputError without seeds or workers, and
        when what is kept beside `file` is of another measurement.
        """
        seeds = list(seeds)
        if not seeds or self.workers < 1:
            raise InputError('seeds and workers', expected='at least one of each',
                             got=f'{len(seeds)} seeds, {self.workers} workers')
        identity = json.loads(json.dumps(identity))
        mark = {'identity': identity, 'seeds': seeds}
        finished = self._finished(mark) if self.reuse else None
        if finished is not None:
            return finished
        kept = PartialResults(self.file, identity) if self.file is not None else None
        known = {row['seed']: row for row in (kept.rows if kept is not None else ())}
        rows = {seed: known[seed] for seed in seeds if seed in known}
        for row in rows.values():
            on_result(row)
        missing = [seed for seed in seeds if seed not in rows]
        for row in results(build, args, missing, self.workers, ray=self.ray):
            rows[row['seed']] = row
            if kept is not None:
                kept.add(row)
            on_result(row)
        whole = report([rows[seed] for seed in seeds]) | mark
        if kept is not None:
            kept.finish(whole, keep=not known.keys() <= rows.keys())
        return whole

    def _finished(self, mark: dict) -> dict | None:
        if self.file is None or not self.file.is_file():
            return None
        try:
            report = json.loads(self.file.read_bytes())
        except ValueError:  # cut off or empty
            return None
        if not isinstance(report, dict):
            return None
        # Reports of before settings were told are known by their weights alone.
        by_weights = mark | {'identity': {key: value for key, value in mark['identity'].items()
                                          if key != 'settings'}}
        return report if {key: report.get(key) for key in mark} in (mark, by_weights) else None
