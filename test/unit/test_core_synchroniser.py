# SPDX-License-Identifier: Apache-2.0
"""The synchroniser under arbitrary arrival orders, losses and clock jumps."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.synchroniser import KINDS, SyncedSet, Synchroniser

MS = 1_000_000


def feed_info(sync: Synchroniser) -> None:
    for camera in sync.cameras:
        sync.add(camera, 'info', 0, f'{camera} K')


def feed(sync: Synchroniser, camera: str, ms: float) -> SyncedSet | None:
    sync.add(camera, 'color', round(ms * MS), f'{camera} color {ms}')
    return sync.add(camera, 'depth', round(ms * MS), f'{camera} depth {ms}')


@pytest.mark.parametrize('cameras', [('a',), ('a', 'b'), ('a', 'b', 'c', 'd')])
def test_equal_stamps_of_any_number_of_cameras_make_a_set(cameras):
    sync = Synchroniser(cameras, slop_s=0.0)
    feed_info(sync)
    found = [feed(sync, camera, 100) for camera in cameras]
    assert found[:-1] == [None] * (len(cameras) - 1)
    result = found[-1]
    assert result is sync.latest()
    assert (result.stamp, result.oldest, result.skew_s) == (100 * MS, 100 * MS, 0.0)
    for camera in cameras:
        frames = result.frames[camera]
        assert (frames.color, frames.depth, frames.info) == (
            f'{camera} color 100', f'{camera} depth 100', f'{camera} K')
    assert sync.missing() == ()


def test_the_spread_of_all_stamps_stays_within_the_slop():
    sync = Synchroniser(('a', 'b', 'c'), slop_s=0.02)
    feed_info(sync)
    assert feed(sync, 'a', 100) is None
    assert feed(sync, 'b', 115) is None
    assert feed(sync, 'c', 85) is None  # 15 ms from a, but 30 ms from b
    assert feed(sync, 'c', 118).skew_s == pytest.approx(0.018)


def test_a_better_partner_that_comes_later_replaces_a_bad_phase():
    sync = Synchroniser(('a', 'b'), slop_s=0.05)
    feed_info(sync)
    feed(sync, 'b', 1)
    assert feed(sync, 'a', 33).skew_s == pytest.approx(0.032)
    assert feed(sync, 'b', 34).skew_s == pytest.approx(0.001)
    assert feed(sync, 'a', 66) is None  # 34 was used; 67 is about to come
    assert feed(sync, 'b', 67).skew_s == pytest.approx(0.001)


def test_frames_overtaken_by_a_newer_set_count_as_drops():
    sync = Synchroniser(('a', 'b'), slop_s=0.001)
    feed_info(sync)
    feed(sync, 'a', 0)
    feed(sync, 'a', 33)
    feed(sync, 'a', 66)
    feed(sync, 'b', 66)
    stats = sync.stats()
    assert stats.sets == 1
    assert stats.received['a', 'color'] == 3
    assert stats.drops == {('a', 'color'): 2, ('a', 'depth'): 2, ('b', 'color'): 0,
                           ('b', 'depth'): 0}


def test_a_clock_that_jumps_back_clears_and_counts():
    sync = Synchroniser(('a', 'b'), slop_s=0.01)
    feed_info(sync)
    feed(sync, 'a', 10_000)
    feed(sync, 'b', 10_000)
    feed(sync, 'a', 20)
    assert sync.latest() is None
    assert sync.stats().resets == 1
    feed(sync, 'b', 20)
    assert sync.latest().stamp == 20 * MS


def test_wait_returns_a_set_captured_wholly_after_the_given_stamp():
    sync = Synchroniser(('a', 'b'), slop_s=0.02)
    feed_info(sync)
    feed(sync, 'a', 100)
    feed(sync, 'b', 110)
    assert sync.wait(None, 0.0).stamp == 100 * MS
    assert sync.wait(105 * MS, 0.0) is None  # camera a is older
    results = []
    waiting = threading.Thread(target=lambda: results.append(sync.wait(105 * MS, 5.0)))
    waiting.start()
    feed(sync, 'a', 133)
    feed(sync, 'b', 143)
    waiting.join(5.0)
    assert results[0].oldest == 133 * MS


def test_missing_names_the_silent_stream_and_its_topic():
    sync = Synchroniser(('left', 'right'), topics={('right', 'depth'): '/right/depth'})
    feed_info(sync)
    feed(sync, 'left', 0)
    sync.add('right', 'color', 0, None)
    assert [str(gap) for gap in sync.missing()] == [
        'camera right: no depth yet (topic /right/depth)']
    assert 'no depth yet (topic /right/depth)' in str(sync.error())


def test_missing_tells_how_long_a_stream_has_been_silent(monkeypatch):
    now = 100.0
    monkeypatch.setattr('fourdgen_ros.core.synchroniser.time.monotonic', lambda: now)
    sync = Synchroniser(('a',), max_age_s=1.0)
    feed_info(sync)
    feed(sync, 'a', 0)
    now = 101.2
    sync.add('a', 'color', 1200 * MS, None)
    assert [str(gap) for gap in sync.missing()] == ['camera a: no depth for 1.2 s']
    assert sync.stats().age_s['a', 'depth'] == pytest.approx(1.2)


def test_missing_tells_by_how_much_streams_miss_the_slop():
    sync = Synchroniser(('a', 'b'), slop_s=0.01)
    feed_info(sync)
    feed(sync, 'a', 0)
    feed(sync, 'b', 40)
    assert [str(gap) for gap in sync.missing()] == [
        'camera b: color is 40 ms out, slop is 10 ms']
    other = Synchroniser(('a',), slop_s=0.01)
    feed_info(other)
    other.add('a', 'color', 0, None)
    other.add('a', 'depth', 25 * MS, None)
    assert [str(gap) for gap in other.missing()] == [
        'camera a: depth is 25 ms out, slop is 10 ms']


@pytest.mark.parametrize('options', [
    {'cameras': ()}, {'cameras': ('a', 'a')}, {'cameras': ('a',), 'slop_s': -1.0},
    {'cameras': ('a',), 'slop_s': float('nan')}, {'cameras': ('a',), 'queue_size': 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        Synchroniser(**options)


def test_an_unknown_stream_is_refused():
    with pytest.raises(InputError, match='x/color'):
        Synchroniser(('a',)).add('x', 'color', 0, None)


@st.composite
def arrivals(draw):
    """A rig with its slop, and frames of all streams in a random, mostly forward order."""
    cameras = tuple('abcd'[:draw(st.integers(1, 4))])
    slop_ms = draw(st.sampled_from([0, 1, 10, 40, 200]))
    events = []
    for camera in cameras:
        for kind in ('color', 'depth'):
            offset = draw(st.integers(-20, 20))
            for i in range(draw(st.integers(3, 12))):
                if draw(st.integers(0, 9)):  # a tenth is lost
                    stamp = 1000 + 33 * i + offset + draw(st.integers(-3, 3))
                    events.append((stamp + draw(st.integers(0, 80)), camera, kind, stamp))
    events.sort()
    jump = draw(st.booleans())
    if jump:
        events += [(a, c, k, s - 900) for a, c, k, s in events]
    return cameras, slop_ms, draw(st.integers(1, 6)), [e[1:] for e in events]


@settings(deadline=None, max_examples=150)
@given(arrivals())
def test_sets_are_within_slop_in_order_and_every_frame_is_accounted_for(case):
    cameras, slop_ms, queue_size, events = case
    sync = Synchroniser(cameras, slop_s=slop_ms * 1e-3, queue_size=queue_size)
    feed_info(sync)
    last, resets, used = None, 0, set()
    for index, (camera, kind, stamp) in enumerate(events):
        found = sync.add(camera, kind, stamp * MS, index)
        stats = sync.stats()
        if stats.resets > resets:
            resets, last = stats.resets, None
        if found is not None:
            stamps = [s for f in found.frames.values() for s in (f.stamp, f.depth_stamp)]
            assert max(stamps) - min(stamps) <= slop_ms * MS
            assert found.oldest == min(stamps)
            assert found.skew_s == pytest.approx((max(stamps) - min(stamps)) * 1e-9)
            assert found.skew_s <= stats.max_skew_s
            for name, frames in found.frames.items():
                assert events[frames.color] == (name, 'color', frames.stamp // MS)
                assert events[frames.depth] == (name, 'depth', frames.depth_stamp // MS)
                used |= {frames.color, frames.depth}
                if last is not None:
                    before = last.frames[name]
                    assert frames.stamp >= before.stamp
                    assert frames.depth_stamp >= before.depth_stamp
            if last is not None:
                assert any((f.stamp, f.depth_stamp) != (last.frames[c].stamp,
                                                        last.frames[c].depth_stamp)
                           for c, f in found.frames.items())
            last = found
        assert sync.latest() is last
    sync.clear()
    assert len(used) + sum(sync.stats().drops.values()) == len(events)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5))
def test_memory_is_bounded_when_nothing_ever_matches(cameras, queue_size):
    sync = Synchroniser('abcd'[:cameras], slop_s=0.0, queue_size=queue_size)
    feed_info(sync)
    for i in range(30):
        for j, camera in enumerate(sync.cameras):
            sync.add(camera, 'color', (1000 * i + 10 * j) * MS, None)
            sync.add(camera, 'depth', (1000 * i + 10 * j + 5) * MS, None)
    assert sync.latest() is None
    kept = 60 * cameras - sum(sync.stats().drops.values())
    assert kept == 2 * cameras * queue_size


def test_threads_may_feed_at_once():
    cameras = ('a', 'b', 'c')
    sync = Synchroniser(cameras, slop_s=0.0, queue_size=20)
    feed_info(sync)

    def run(camera: str, kind: str) -> None:
        for i in range(300):
            sync.add(camera, kind, i * MS, None)

    threads = [threading.Thread(target=run, args=(c, k)) for c in cameras for k in KINDS[:2]]
    for thread in threads:
        thread.start()
    assert sync.wait(298 * MS, 30.0).stamp == 299 * MS
    for thread in threads:
        thread.join(10.0)
    assert sync.stats().resets == 0


def test_a_renewed_one_knows_the_calibration_and_nothing_else():
    sync = Synchroniser(('a', 'b'), slop_s=0.05)
    sync.add('a', 'info', 0, 'a K')
    feed(sync, 'a', 1)
    renewed = sync.renewed()
    feed(renewed, 'a', 10)
    assert [str(gap) for gap in renewed.missing()] == [
        f'camera b: no {kind} yet' for kind in KINDS]
    renewed.add('b', 'info', 0, 'b K')
    found = feed(renewed, 'b', 10)
    assert {name: f.info for name, f in found.frames.items()} == {'a': 'a K', 'b': 'b K'}
    assert renewed.stats().received['a', 'color'] == 1


def test_calibration_that_comes_twice_counts_once():
    sync = Synchroniser(('a',))
    feed_info(sync)
    feed_info(sync)
    assert sync.stats().received['a', 'info'] == 1
