# SPDX-License-Identifier: Apache-2.0
"""Approximate-time synchroniser of N RGB-D cameras.

Streams are fed from any thread with `Synchroniser.add`, which does bounded work and never blocks.
The newest set in which every camera has a colour and a depth frame, all stamps of it within
`slop_s`, is kept for `latest` and `wait`. When no set comes, `missing` says which stream of which
camera is to blame. Camera info carries calibration, not time: the newest one is attached unmatched.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fourdgen_ros.core.errors import InputError

Kind = Literal['color', 'depth', 'info']
Stream = tuple[str, str]
KINDS: tuple[Kind, ...] = ('color', 'depth', 'info')
RATE_WINDOW = 5.0  # s over which rates are measured


@dataclass(frozen=True)
class CameraFrames:
    """What one camera contributes: payloads as they were added, stamps in ns."""

    color: Any
    depth: Any
    info: Any
    stamp: int
    depth_stamp: int


@dataclass(frozen=True)
class SyncedSet:
    """One colour, depth and info frame per camera.

    `stamp` is that of the reference camera's colour frame, `oldest` the smallest of all colour and
    depth stamps, both in ns; `skew_s` is how far apart these stamps lie.
    """

    frames: dict[str, CameraFrames]
    stamp: int
    oldest: int
    skew_s: float


@dataclass(frozen=True)
class Gap:
    """Why a camera is not part of a newer set.

    reason: 'never' (nothing has come), 'late' (nothing for `seconds`), 'unmatched' (frames come but
    their nearest stamps lie `seconds` apart, more than the slop).
    """

    camera: str
    kind: str
    reason: Literal['never', 'late', 'unmatched']
    seconds: float
    slop_s: float
    topic: str = ''

    def __str__(self) -> str:
        where = f' (topic {self.topic})' if self.topic else ''
        if self.reason == 'never':
            return f'camera {self.camera}: no {self.kind} yet{where}'
        if self.reason == 'late':
            return f'camera {self.camera}: no {self.kind} for {self.seconds:.1f} s{where}'
        return (f'camera {self.camera}: {self.kind} is {self.seconds * 1e3:.0f} ms out, '
                f'slop is {self.slop_s * 1e3:.0f} ms{where}')


@dataclass(frozen=True)
class SyncStats:
    """Counters since construction.

    `received` are the frames that came, `drops` those that left without being in a set; `age_s` is
    the time since the last arrival per stream and `stamp` that frame's stamp in ns, None before the
    first; `rate_hz` is the rate of arrivals over the last `RATE_WINDOW` s.
    """

    sets: int
    resets: int
    last_skew_s: float
    max_skew_s: float
    received: dict[Stream, int]
    drops: dict[Stream, int]
    age_s: dict[Stream, float | None]
    rate_hz: dict[Stream, float]
    stamp: dict[Stream, int | None]


class _Frame(NamedTuple):
    stamp: int
    payload: Any


class _Pair(NamedTuple):
    color: _Frame
    depth: _Frame

    @property
    def first(self) -> int:
        return min(self.color.stamp, self.depth.stamp)

    @property
    def last(self) -> int:
        return max(self.color.stamp, self.depth.stamp)


@dataclass
class _Camera:
    """Queues of one camera, sorted by stamp, and what the last set used of them."""

    color: list[_Frame] = field(default_factory=list)
    depth: list[_Frame] = field(default_factory=list)
    info: _Frame | None = None
    used: _Pair | None = None

    def queue(self, kind: str) -> list[_Frame]:
        return self.color if kind == 'color' else self.depth

    def used_stamp(self, kind: str) -> int | None:
        return None if self.used is None else getattr(self.used, kind).stamp

    def pairs(self) -> list[_Pair]:
        """Each colour frame with its nearest depth frame, in order of colour stamps."""
        return [_Pair(frame, _nearest(self.depth, frame.stamp)) for frame in self.color
                ] if self.depth else []


def _nearest(queue: list[_Frame], stamp: int) -> _Frame:
    i = bisect.bisect_left(queue, stamp, key=lambda f: f.stamp)
    around = queue[max(i - 1, 0):i + 1]
    return min(around, key=lambda f: abs(f.stamp - stamp))


class Synchroniser:
    """Finds synchronised RGB-D sets of 1..N cameras; the first camera is the reference.

    `slop_s` bounds the spread of all colour and depth stamps in a set (0 asks for equal stamps),
    `queue_size` the frames kept per stream, `max_age_s` how long a stream may be silent before
    `missing` reports it. `topics` maps (camera, kind) to the names that reports shall use.
    Ages are measured on the steady clock, so they hold under simulated time too.

    Raises InputError for no or repeated cameras, a negative slop or a queue below 1.
    """

    def __init__(self, cameras: Sequence[str], *, slop_s: float = 0.05, queue_size: int = 10,
                 max_age_s: float = 1.0, topics: Mapping[Stream, str] | None = None) -> None:
        if not cameras or len(set(cameras)) != len(cameras):
            raise InputError('cameras', expected='one or more distinct names', got=str(cameras))
        if not slop_s >= 0:
            raise InputError('slop_s', expected='>= 0 s', got=str(slop_s))
        if queue_size < 1:
            raise InputError('queue_size', expected='>= 1', got=str(queue_size))
        self.cameras = tuple(cameras)
        self.slop_s = slop_s
        self._slop = round(slop_s * 1e9)
        self._queue_size = queue_size
        self._max_age_s = max_age_s
        self._topics = dict(topics) if topics is not None else {}
        self._changed = threading.Condition()
        self._streams = {name: _Camera() for name in self.cameras}
        self._arrivals: dict[Stream, deque[float]] = {}  # within RATE_WINDOW, and the last
        self._newest: dict[Stream, int] = {}
        self._received: dict[Stream, int] = {
            (name, kind): 0 for name in self.cameras for kind in KINDS}
        self._drops = {(name, kind): 0 for name in self.cameras for kind in ('color', 'depth')}
        self._latest: SyncedSet | None = None
        self._latest_at = -float('inf')
        self._sets = self._resets = 0
        self._last_skew_s = self._max_skew_s = 0.0

    def add(self, camera: str, kind: Kind, stamp_ns: int, payload: Any) -> SyncedSet | None:
        """Take a frame; returns the set that it completed, if any.

        A stamp that lies more than the slop before the newest of its stream means that the clock
        went back (bag loop, simulation reset): all queues are cleared and counted in `resets`.
        Raises InputError for an unknown camera or kind.
        """
        if camera not in self._streams or kind not in KINDS:
            raise InputError(f'stream {camera}/{kind}', expected=f'{self.cameras} x {KINDS}')
        with self._changed:
            stream = self._streams[camera]
            # Calibration is heard by two subscriptions, one of them for what was latched.
            if kind != 'info' or stream.info is None or stream.info.stamp != stamp_ns:
                self._note_arrival((camera, kind), stamp_ns)
            frame = _Frame(stamp_ns, payload)
            if kind == 'info':
                stream.info = frame
            else:
                self._enqueue(camera, stream, kind, frame)
            found = self._newest_set()
            if found is None:
                return None
            self._accept(*found)
            self._changed.notify_all()
            return self._latest

    def latest(self) -> SyncedSet | None:
        """The newest complete set; None before the first and after a clock reset."""
        with self._changed:
            return self._latest

    def wait(self, newer_than_ns: int | None, timeout_s: float) -> SyncedSet | None:
        """Block until every frame of the newest set is newer than `newer_than_ns` (None: any set).

        Returns None after `timeout_s`. For worker threads; never call it from the thread that adds.
        """
        def ready() -> bool:
            latest = self._latest
            return latest is not None and (newer_than_ns is None or latest.oldest > newer_than_ns)

        with self._changed:
            return self._latest if self._changed.wait_for(ready, timeout_s) else None

    def clear(self) -> None:
        """Forget all frames and the latest set; calibration and counters stay."""
        with self._changed:
            self._clear()

    def renewed(self) -> Synchroniser:
        """A new one that knows only the calibration of this one, which may not come again."""
        new = Synchroniser(self.cameras, slop_s=self.slop_s, queue_size=self._queue_size,
                           max_age_s=self._max_age_s, topics=self._topics)
        with self._changed:
            infos = {name: s.info for name, s in self._streams.items() if s.info is not None}
        for name, info in infos.items():
            new.add(name, 'info', info.stamp, info.payload)
        return new

    def missing(self) -> tuple[Gap, ...]:
        """What keeps a newer set from coming; empty while sets come."""
        with self._changed:
            now = time.monotonic()
            gaps = [gap for name in self.cameras for kind in KINDS
                    if (gap := self._silence(name, kind, now)) is not None]
            if gaps or now - self._latest_at <= self._max_age_s:
                return tuple(gaps)
            return tuple(self._spread())

    def error(self) -> InputError:
        """An error that explains why there is no (new) set, ready to be raised."""
        gaps = self.missing()
        text = '; '.join(str(gap) for gap in gaps) if gaps else 'no newer set yet'
        return InputError('no synchronised observation', got=text,
                          hint='Check that the cameras run and that the topics and QoS match.')

    def stats(self) -> SyncStats:
        """Counters and ages, a consistent snapshot."""
        with self._changed:
            now = time.monotonic()
            streams = [(name, kind) for name in self.cameras for kind in KINDS]
            ages: dict[Stream, float | None] = {}
            rates: dict[Stream, float] = {}
            for stream in streams:
                arrivals = self._arrivals.get(stream)
                ages[stream] = now - arrivals[-1] if arrivals else None
                recent = [t for t in arrivals or () if now - t <= RATE_WINDOW]
                apart = recent[-1] - recent[0] if recent else 0.0
                rates[stream] = (len(recent) - 1) / apart if apart > 0.0 else 0.0
            return SyncStats(self._sets, self._resets, self._last_skew_s, self._max_skew_s,
                             dict(self._received), dict(self._drops), ages, rates,
                             {stream: self._newest.get(stream) for stream in streams})

    def _note_arrival(self, stream: Stream, stamp_ns: int) -> None:
        now = time.monotonic()
        arrivals = self._arrivals.setdefault(stream, deque())
        arrivals.append(now)
        while now - arrivals[0] > RATE_WINDOW:
            arrivals.popleft()
        self._newest[stream] = stamp_ns
        self._received[stream] += 1

    def _enqueue(self, camera: str, stream: _Camera, kind: str, frame: _Frame) -> None:
        queue = stream.queue(kind)
        newest = queue[-1].stamp if queue else None
        if newest is not None and frame.stamp < newest - self._slop:
            self._resets += 1
            self._clear()
            queue, newest = stream.queue(kind), None
        used = stream.used_stamp(kind)
        repeated = used is not None and frame.stamp <= used
        if repeated or any(f.stamp == frame.stamp for f in queue):
            self._drops[camera, kind] += 1
            return
        bisect.insort(queue, frame, key=lambda f: f.stamp)
        if len(queue) > self._queue_size:
            dropped = queue.pop(0)
            self._drops[camera, kind] += dropped.stamp != used

    def _clear(self) -> None:
        for name, stream in self._streams.items():
            for kind in ('color', 'depth'):
                queue = stream.queue(kind)
                used = stream.used_stamp(kind)
                self._drops[name, kind] += sum(f.stamp != used for f in queue)
                queue.clear()
            stream.used = None
        self._latest = None
        self._latest_at = -float('inf')

    def _newest_set(self) -> tuple[dict[str, _Pair], int] | None:
        """The newest allowed choice of one pair per camera and its skew in ns.

        Sets go forward: no camera steps back. A frame serves again only where that lowers the skew,
        so that a set formed early, before the better partner came, does not lock in a bad phase.
        """
        streams = self._streams
        if any(s.info is None or not s.color or not s.depth for s in streams.values()):
            return None
        pairs = {name: [p for p in s.pairs() if self._forward(s, p)] for name, s in streams.items()}
        if not all(pairs.values()):
            return None
        # No window that ends later than this reaches back to every camera.
        bound = min(max(p.first for p in ps) for ps in pairs.values()) + self._slop
        ends = sorted({p.last for ps in pairs.values() for p in ps if p.last <= bound},
                      reverse=True)
        for end in ends:
            chosen: dict[str, _Pair] = {}
            for name, candidates in pairs.items():
                fits = [p for p in candidates if p.last <= end and p.first >= end - self._slop]
                if not fits:
                    break
                chosen[name] = fits[-1]
            if len(chosen) < len(pairs):
                continue
            skew = max(p.last for p in chosen.values()) - min(p.first for p in chosen.values())
            if not self._reuses(chosen) or skew < round(self._last_skew_s * 1e9):
                return chosen, skew
        return None

    @staticmethod
    def _forward(stream: _Camera, pair: _Pair) -> bool:
        used = stream.used
        return used is None or (pair.color.stamp >= used.color.stamp
                                and pair.depth.stamp >= used.depth.stamp)

    def _reuses(self, chosen: dict[str, _Pair]) -> bool:
        return any(pair.color.stamp == self._streams[name].used_stamp('color')
                   or pair.depth.stamp == self._streams[name].used_stamp('depth')
                   for name, pair in chosen.items())

    def _accept(self, chosen: dict[str, _Pair], skew: int) -> None:
        frames = {}
        for name, pair in chosen.items():
            stream = self._streams[name]
            for kind, frame in (('color', pair.color), ('depth', pair.depth)):
                queue, used = stream.queue(kind), stream.used_stamp(kind)
                older = [f for f in queue if f.stamp < frame.stamp]
                self._drops[name, kind] += sum(f.stamp != used for f in older)
                del queue[:len(older)]
            stream.used = pair
            assert stream.info is not None  # else the camera were not complete
            frames[name] = CameraFrames(pair.color.payload, pair.depth.payload, stream.info.payload,
                                        pair.color.stamp, pair.depth.stamp)
        self._last_skew_s = skew * 1e-9
        self._max_skew_s = max(self._max_skew_s, self._last_skew_s)
        self._sets += 1
        self._latest = SyncedSet(frames, frames[self.cameras[0]].stamp,
                                 min(p.first for p in chosen.values()), self._last_skew_s)
        self._latest_at = time.monotonic()

    def _gap(self, camera: str, kind: str, reason: Any, seconds: float) -> Gap:
        return Gap(camera, kind, reason, seconds, self.slop_s, self._topics.get((camera, kind), ''))

    def _silence(self, camera: str, kind: str, now: float) -> Gap | None:
        arrivals = self._arrivals.get((camera, kind))
        if not arrivals:
            return self._gap(camera, kind, 'never', float('inf'))
        # Some drivers publish their calibration only once.
        if kind != 'info' and now - arrivals[-1] > self._max_age_s:
            return self._gap(camera, kind, 'late', now - arrivals[-1])
        return None

    def _spread(self) -> list[Gap]:
        """All streams are alive: name those whose nearest stamps lie too far apart."""
        reference = self._streams[self.cameras[0]].color
        gaps, offsets = [], {}
        for name, stream in self._streams.items():
            pairs = stream.pairs()
            if not pairs or not reference:
                return []
            apart = min(p.last - p.first for p in pairs)
            if apart > self._slop:
                gaps.append(self._gap(name, 'depth', 'unmatched', apart * 1e-9))
            offsets[name] = min(abs(_nearest(reference, p.color.stamp).stamp - p.color.stamp)
                                for p in pairs)
        if not gaps and len(offsets) > 1:
            worst = max(offsets, key=offsets.__getitem__)
            if offsets[worst] > 0:
                gaps.append(self._gap(worst, 'color', 'unmatched', offsets[worst] * 1e-9))
        return gaps
