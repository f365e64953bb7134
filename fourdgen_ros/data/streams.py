# SPDX-License-Identifier: Apache-2.0
"""What is right and wrong with the streams of a bag, each for itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.data.findings import BAD, WARNING, Finding, judged
from fourdgen_ros.data.mapping import TopicMap
from fourdgen_ros.data.resample import interval
from fourdgen_ros.data.scan import IMAGES, NS, ImageTopic, Scan

CLOCK_JUMP = 0.5  # s between the clock of the stamps and that of the recorder, or of two streams
_CLOCK_OFFSET = 0.1  # s between two streams by their least delays: worth a look
_UNHEARD = (0.3, 1.0)  # s of the images without the robot: above is a warning, above is bad
_ENDS_EARLY = 1.0  # s before the bag
_SLOW = 0.95  # of the rate that is asked for
_OUT_OF_ORDER = 0.1  # s by which a transform or joint state may come after one that is newer
_CUT = 'Cut the bag there; do clocks synchronise, or was simulated time reset?'


def image_findings(stream: ImageTopic, scan: Scan, topics: TopicMap) -> list[Finding]:
    """Lines about one colour or depth topic."""
    what = stream.topic
    own = scan.types.get(what, IMAGES[0])
    others = sorted(t for t, kind in scan.types.items() if t not in scan.images and (
        kind == own or (kind in IMAGES and _same_pictures(t, what))))
    renamed = f'Correct {topics.path}.' + (f' The bag also has {", ".join(others)}.'
                                           if others else '')
    if not stream.stamps:
        return [silence(what, scan, renamed)]
    found = clock_findings(what, np.array(stream.stamps), np.array(stream.received))
    stamps = np.array(stream.stamps)
    found.append(_rate(what, stamps, topics))
    changes = [f'{b[1]} {b[2]} from {_seconds(stream, b[0]):.1f} s on, before {a[1]} {a[2]}'
               for a, b in zip(stream.frames, stream.frames[1:], strict=False)]
    if changes:
        found.append(Finding(what, BAD, 'frame or format changes: ' + '; '.join(changes),
                             'Was the camera renamed or set up anew? Cut the bag there.'))
    early = (scan.span[1] - stream.received[-1]) / NS
    if early > max(_ENDS_EARLY, 2 * topics.max_age):
        found.append(Finding(what, BAD, f'ends {early:.1f} s before the bag',
                             f'Renamed midway, or did the camera fail? {renamed}'))
    return found


def _same_pictures(a: str, b: str) -> bool:
    """Whether one topic is what image_transport made of the other."""
    return a.startswith(f'{b}/') or b.startswith(f'{a}/')


def others(scan: Scan, kind: str, named: Iterable[str]) -> str:
    """A sentence about the topics of a type in the bag beside those `named`; empty for none."""
    found = sorted({t for t, own in scan.types.items() if own == kind} - {*named})
    return f' The bag also has {", ".join(found)}.' if found else ''


def silence(topic: str, scan: Scan, next: str) -> Finding:
    """The bad line about a topic of which no message was read."""
    counted = scan.counts.get(topic, 0)
    if not counted:
        return Finding(topic, BAD, 'no messages', next)
    return Finding(topic, BAD, f'none of the {counted} messages of metadata.yaml can be read',
                   'It does not fit the files: try `ros2 bag reindex` on the folder.')


def _rate(what: str, stamps: NDArray[np.int64], topics: TopicMap) -> Finding:
    step = interval(stamps)
    if step <= 0:
        return Finding(what, BAD, f'{len(stamps)} messages, no rate',
                       'Record longer, or look at the stamps of the camera.')
    gaps = np.diff(stamps)
    worst = int(np.argmax(gaps))
    text = (f'{len(stamps)} at {NS / step:.1f} Hz, longest gap {gaps[worst] / NS:.3f} s at '
            f'{(stamps[worst] - stamps[0]) / NS:.1f} s')
    slow = NS / step < _SLOW * topics.fps
    return judged(what, text, bad=slow, warning=bool(gaps[worst] > 2.5 * step),
                  next=f'fps is {topics.fps} in {topics.path}: ask for less.' if slow else
                       'Images were lost: look at the drops of the recorder.')


def clock_findings(what: str, stamps: NDArray[np.int64],
                   received: NDArray[np.int64]) -> list[Finding]:
    """Bad lines about stamps that repeat, go back, or leave the clock of the recorder."""
    found, steps = [], np.diff(stamps)
    if (steps == 0).any():
        at = stamps[int(np.argmax(steps == 0))]
        found.append(Finding(what, BAD, f'{int((steps == 0).sum())} repeated stamps, the first '
                             f'{at} ns', 'The driver sent images twice: which is true is unknown.'))
    if (steps < 0).any():
        at = int(np.argmax(steps < 0))
        found.append(Finding(
            what, BAD, f'clock jump: stamps go back by {-steps[at] / NS:.3f} s at message {at + 1}',
            _CUT))
    elif len(stamps) > 1:
        # A message may be late, never early: the least delay, of all before and of all after,
        # tells the offset of the clocks. In simulated time it drifts, and jumps nowhere.
        offset = stamps - received
        ahead = np.diff(np.maximum.accumulate(offset))
        back = np.diff(np.maximum.accumulate(offset[::-1])[::-1])
        jumps = np.where(ahead > -back, ahead, back)
        at = int(np.argmax(np.abs(jumps)))
        jump = jumps[at] / NS
        if abs(jump) > CLOCK_JUMP:
            found.append(Finding(
                what, BAD, f'clock jump: stamps leave the time of reception by {jump:+.3f} s at '
                           f'message {at + 1}', 'Cut the bag there; let the clocks synchronise '
                                                'before recording. In simulation, record with '
                                                '--use-sim-time.'))
    return found


def offset_findings(scan: Scan, topics: TopicMap) -> list[Finding]:
    """Lines about streams whose stamps nobody set, or follow another clock than the others.

    By their medians, clocks are surely apart, and the stream is bad. Images are received late,
    but some less than others: smaller offsets are told by the least delays, as a warning. Both are
    taken while all streams are received: simulated time drifts away from that of reception.
    """
    streams = {t: (s.stamps, s.received) for t, s in scan.images.items()}
    streams |= {t: (s, scan.joint_received[t]) for t, s in scan.joint_stamps.items()}
    if topics.urdf is None:
        streams[' and '.join(topics.tf)] = ([*chain(*scan.tf_stamps.values())],
                                            [*chain(*scan.tf_received.values())])
    found, clocks = [], {}
    for topic, (stamps, received) in streams.items():
        if stamps and not any(stamps):
            found.append(Finding(topic, BAD, 'all stamps are 0',
                                 'Let its publisher set header.stamp, and record again.'))
        elif stamps:
            clocks[topic] = np.array(stamps), np.array(received)
    if clocks:
        ahead = _ahead(clocks)
        usual = {topic: float(np.median(ns)) for topic, ns in ahead.items()}
        least = {topic: float(ns.max()) for topic, ns in ahead.items()}
        found += _apart(usual, CLOCK_JUMP, BAD) or _apart(least, _CLOCK_OFFSET, WARNING)
    return found


def _ahead(clocks: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
           ) -> dict[str, NDArray[np.int64]]:
    """How far in ns stamps are ahead of their time of reception, while all streams are received."""
    first = max(received.min() for _, received in clocks.values())
    last = min(received.max() for _, received in clocks.values())
    ahead = {topic: (stamps - received)[(received >= first) & (received <= last)]
             for topic, (stamps, received) in clocks.items()}
    return ahead if all(map(len, ahead.values())) else {
        topic: stamps - received for topic, (stamps, received) in clocks.items()}


def _apart(ahead: dict[str, float], limit: float, verdict: str) -> list[Finding]:
    """A line about the stream whose clock, ns ahead of reception, is over `limit` s from others."""
    usual = np.median(list(ahead.values()))
    odd = max(ahead, key=lambda topic: abs(ahead[topic] - usual))
    other = max(ahead, key=lambda topic: abs(ahead[topic] - ahead[odd]))
    apart = ahead[odd] - ahead[other]
    if abs(apart) <= limit * NS:
        return []
    return [Finding(odd, verdict, f'stamps are {abs(apart) * 1e-6:.0f} ms '
                    f'{"ahead of" if apart > 0 else "behind"} those of {other}, by the time of '
                    'reception', 'Let the clocks of the machines synchronise (chrony, PTP), and '
                                 'record again.')]


def coverage_findings(robot: dict[str, NDArray[np.int64]],
                      images: list[NDArray[np.int64]]) -> list[Finding]:
    """Lines about robot streams (ascending stamps in ns) that leave images without the robot."""
    found = []
    first, last = max(int(s[0]) for s in images), min(int(s[-1]) for s in images)
    for what, stamps in robot.items():
        late, early = (int(stamps[0]) - first) / NS, (last - int(stamps[-1])) / NS
        if stamps[0] > last or stamps[-1] < first:
            found.append(Finding(
                what, BAD, 'no stamp within the time of the images: from '
                f'{late:+.2f} s of their start to {-early:+.2f} s of their end',
                'Record the robot together with the cameras; do their clocks synchronise?'))
            continue
        for missing, text in ((late, 'starts {:.2f} s after the images'),
                              (early, 'ends {:.2f} s before the images')):
            if missing > _UNHEARD[0]:
                found.append(Finding(
                    what, BAD if missing > _UNHEARD[1] else WARNING, text.format(missing),
                    'Images without the robot are left out: did its driver stop? Record cameras '
                    'and robot for the same time.'))
    return found


def transform_findings(scan: Scan) -> list[Finding]:
    """Bad lines about static links that change, and a warning about transforms that are none: not a
    number, no rotation, a frame in itself."""
    found = [Finding(f'/tf_static of {child}', BAD, f'changes: first {first}; later {later}',
                     'Which of the two is true? Let one node publish it, once, and record again; '
                     'or cut the bag there.')
             for child, (first, later) in scan.static.changes.items()]
    if scan.tf_ignored:
        links = ', '.join(f'{count} x {link}' for link, count in scan.tf_ignored.items())
        found.append(Finding('TF', WARNING,
                             f'ignored, as not rigid or of a frame to itself: {links}',
                             'Correct the node that publishes them.'))
    return found


def transform_clock_findings(scan: Scan, frames: Iterable[str]) -> list[Finding]:
    """Bad lines about links, by their child frames, whose stamps jump: the tree mixes before and
    after."""
    found = []
    for frame in frames:
        what = f'/tf of {frame}'
        stamps, received = (np.array(of[frame]) for of in (scan.tf_stamps, scan.tf_received))
        found += order_findings(what, stamps) or [
            f for f in clock_findings(what, np.sort(stamps), received)
            if 'repeated' not in f.found]  # publishers do repeat themselves
    return found


def order_findings(what: str, stamps: NDArray[np.int64]) -> list[Finding]:
    """A bad line about stamps (n,) that go back further than those of several publishers may."""
    back = (np.maximum.accumulate(stamps) - stamps) / NS
    if back.max(initial=0.0) <= _OUT_OF_ORDER:
        return []
    at = int(np.argmax(back > _OUT_OF_ORDER))
    return [Finding(what, BAD, f'clock jump: stamps go back by {back[at]:.3f} s at message {at}',
                    _CUT)]


def _seconds(stream: ImageTopic, ordinal: int) -> float:
    return (stream.received[ordinal] - stream.received[0]) / NS
