# SPDX-License-Identifier: Apache-2.0
"""A tree of timed coordinate frames, as ROS TF keeps it, without ROS."""

from __future__ import annotations

import bisect
import threading

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError

Array = NDArray[np.float64]


# A clock that goes back by more was set back; messages overtake each other by less. ns.
SET_BACK = 1_000_000_000


class TransformError(InputError):
    """A frame is unknown, unconnected or not known at the wanted time."""


class _Edge:
    """History of one frame relative to its parent."""

    def __init__(self, parent: str, static: bool) -> None:
        self.parent, self.static = parent, static
        self.stamps: list[int] = []
        self.poses: list[Array] = []

    def insert(self, stamp: int, T: Array, oldest: int) -> None:
        i = bisect.bisect_left(self.stamps, stamp)
        if i < len(self.stamps) and self.stamps[i] == stamp:
            self.poses[i] = T
        else:
            self.stamps.insert(i, stamp)
            self.poses.insert(i, T)
        keep = bisect.bisect_left(self.stamps, oldest)
        del self.stamps[:keep], self.poses[:keep]

    def gap(self, stamp: int) -> int:
        """Time in ns between the neighbours of a stamp within the history; 0 on a sample."""
        i = bisect.bisect_left(self.stamps, stamp)
        return 0 if self.stamps[i] == stamp else self.stamps[i] - self.stamps[i - 1]

    def at(self, stamp: int) -> Array:
        """Pose at a stamp within the history, interpolated between its neighbours."""
        if self.static:
            return self.poses[-1]
        i = bisect.bisect_left(self.stamps, stamp)
        if self.stamps[i] == stamp:
            return self.poses[i]
        t0, t1 = self.stamps[i - 1], self.stamps[i]
        return se3.interpolate(self.poses[i - 1], self.poses[i], (stamp - t0) / (t1 - t0))


class TransformTree:
    """Thread-safe buffer of the last `cache_s` seconds of every moving frame.

    A frame has one parent; setting it with another parent moves it. A stamp that lies more than 1 s
    (or `cache_s`) before the newest of its frame means that the clock went back: that history
    restarts.
    Who sees the clock itself go back calls `forget_moving`.
    """

    def __init__(self, cache_s: float = 10.0) -> None:
        self._cache = round(cache_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.Lock()

    def set(self, parent: str, child: str, T_parent_child: Array, stamp_ns: int, *,
            static: bool = False) -> None:
        """Store a transform; static ones hold at every time and the last one wins.

        Raises InputError when `T_parent_child` (4, 4) is not rigid, a name is empty or a frame is
        its own parent.
        """
        if parent == child or not parent or not child:
            raise InputError('transform', expected='two different frame names',
                             got=f'{parent!r} -> {child!r}')
        if not se3.is_rigid(T_parent_child):
            raise InputError(f'transform {parent} -> {child}', expected='a finite rigid (4, 4)',
                             got=str(np.asarray(T_parent_child).tolist()))
        with self._lock:
            edge = self._edges.get(child)
            went_back = (edge is not None and bool(edge.stamps)
                         and stamp_ns < edge.stamps[-1] - min(SET_BACK, self._cache))
            if (edge is None or static or edge.static or edge.parent != parent or went_back):
                edge = self._edges[child] = _Edge(parent, static)
            newest = max(stamp_ns, edge.stamps[-1]) if edge.stamps else stamp_ns
            edge.insert(stamp_ns, T_parent_child, newest - self._cache)

    def forget_moving(self) -> None:
        """Drop what is not static: stamps from before the clock went back tell nothing now."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def lookup(self, target: str, source: str, stamp_ns: int | None = None, *,
               max_age_s: float | None = None, max_gap_s: float | None = None,
               now_ns: int | None = None) -> Array:
        """T_target_source (4, 4) at `stamp_ns`; None takes the newest time that all links know.

        With `max_age_s`, the newest transform of every moving link must be at most that much older
        than `now_ns`, and at most 1 s ahead of it; with `max_gap_s`, those before and after the
        wanted time must be at most that far apart: nobody knows where a link was while its
        publisher was silent. Raises TransformError; extrapolation is an error, before and after.
        Raises InputError for `max_age_s` without `now_ns`.
        """
        if max_age_s is not None and now_ns is None:
            raise InputError('now_ns', expected='the time that max_age_s counts from', got='None')
        with self._lock:
            up_source, up_target = self._chain(source), self._chain(target)
            common = next((frame for frame in up_source if frame in up_target), None)
            if common is None:
                raise self._unconnected(target, source)
            down = up_source[:up_source.index(common)]
            back = up_target[:up_target.index(common)]
            moving = [c for c in (*down, *back) if not self._edges[c].static]
            if max_age_s is not None and now_ns is not None:
                self._check_age(moving, max_age_s, now_ns)
            if stamp_ns is None:
                stamp = min((self._edges[c].stamps[-1] for c in moving), default=0)
            else:
                stamp = stamp_ns
            self._check_range(moving, stamp)
            if max_gap_s is not None:
                self._check_gap(moving, max_gap_s, stamp)
            return se3.inverse(self._compose(back, stamp)) @ self._compose(down, stamp)

    def span(self, target: str, source: str) -> tuple[int, int] | None:
        """First and last stamp (ns) at which `lookup` knows the transform; None when all links are
        static. Raises TransformError when the frames are not connected."""
        moving = self.moving(target, source)
        with self._lock:
            stamps = [self._edges[frame].stamps for frame in moving]
        if not stamps:
            return None
        return max(s[0] for s in stamps), min(s[-1] for s in stamps)

    def moving(self, target: str, source: str) -> list[str]:
        """The frames between the two that are not static in their parents. Raises TransformError
        when the two are not connected."""
        self.lookup(target, source)
        with self._lock:
            between = {*self._chain(source)} ^ {*self._chain(target)}
            return sorted(frame for frame in between if not self._edges[frame].static)

    def _frames(self) -> tuple[str, ...]:
        return tuple(sorted({*self._edges, *(e.parent for e in self._edges.values())}))

    def _chain(self, frame: str) -> list[str]:
        """The frame and its ancestors up to its root."""
        if frame not in self._edges and all(e.parent != frame for e in self._edges.values()):
            known = ', '.join(self._frames())
            raise TransformError(f'TF frame {frame!r} is unknown', got=f'frames {known or "none"}',
                                 hint=_PUBLISH_HINT)
        chain = [frame]
        while chain[-1] in self._edges:
            parent = self._edges[chain[-1]].parent
            if parent in chain:
                raise TransformError('TF tree', expected='no loop',
                                     got=' -> '.join([*chain, parent]))
            chain.append(parent)
        return chain

    def _compose(self, chain: list[str], stamp: int) -> Array:
        T = np.eye(4)
        for frame in chain:
            T = self._edges[frame].at(stamp) @ T
        return T

    def _check_age(self, moving: list[str], max_age_s: float, now_ns: int) -> None:
        for frame in moving:
            edge = self._edges[frame]
            age = (now_ns - edge.stamps[-1]) * 1e-9
            if age < -SET_BACK * 1e-9:
                raise TransformError(f'TF {edge.parent} -> {frame} is ahead of the clock',
                                     expected=f'at most {SET_BACK * 1e-9:g} s',
                                     got=f'{-age:.2f} s',
                                     hint='Do both machines use the same clock?')
            if age > max_age_s:
                raise TransformError(f'TF {edge.parent} -> {frame} is stale',
                                     expected=f'at most {max_age_s:g} s old', got=f'{age:.2f} s',
                                     hint='Check that its publisher runs and uses the same clock.')

    def _check_range(self, moving: list[str], stamp: int) -> None:
        for frame in moving:
            edge = self._edges[frame]
            before, after = edge.stamps[0] - stamp, stamp - edge.stamps[-1]
            if before > 0 or after > 0:
                side, hint = ('before its first', _HISTORY_HINT) if before > 0 else (
                    'after its last',
                    'Wait for TF to arrive, or check that all stamps use one clock.')
                raise TransformError(
                    f'TF {edge.parent} -> {frame} is not known at the wanted time',
                    expected='a stamp within its history',
                    got=f'{max(before, after) * 1e-9:.3f} s {side} sample', hint=hint)

    def _check_gap(self, moving: list[str], max_gap_s: float, stamp: int) -> None:
        for frame in moving:
            edge = self._edges[frame]
            gap = edge.gap(stamp) * 1e-9
            if gap > max_gap_s:
                raise TransformError(
                    f'TF {edge.parent} -> {frame} was silent at the wanted time',
                    expected=f'at most {max_gap_s:g} s between its samples', got=f'{gap:.2f} s',
                    hint='Check the rate of its publisher and the load of the network.')

    def _unconnected(self, target: str, source: str) -> TransformError:
        target_root, source_root = self._chain(target)[-1], self._chain(source)[-1]
        return TransformError(
            f'TF does not connect {target!r} and {source!r}',
            expected='one tree',
            got=f'{target!r} under root {target_root!r}, {source!r} under root {source_root!r}; '
                f'known frames: {", ".join(self._frames())}',
            hint=f'Missing link: {target_root} -> {source_root}. {_PUBLISH_HINT}')


_HISTORY_HINT = ('Wait for TF to arrive; raise the parameter `history` of the node above the time '
                 'that a generation may take (`stage_timeout`), as older transforms are not kept; '
                 'or check that all stamps use one clock.')
_PUBLISH_HINT = ('For a camera, publish its hand-eye calibration as a static TF, e.g. `ros2 run '
                 'tf2_ros static_transform_publisher`.')
