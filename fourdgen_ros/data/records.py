# SPDX-License-Identifier: Apache-2.0
"""A scanned bag -> what is wrong with it, and the records that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import images
from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.data import kinematics, resample
from fourdgen_ros.data.bags import Bag
from fourdgen_ros.data.episode import COLOUR, DEPTH, CameraModel, Episode, Picture
from fourdgen_ros.data.findings import BAD, Finding, judged
from fourdgen_ros.data.mapping import CameraTopics, TopicMap
from fourdgen_ros.data.scan import NS, Scan, decode_image, image_topics
from fourdgen_ros.data.streams import clock_findings, image_findings

MOTION = 0.01  # m that the TCP must travel
_GRIPPER_SLACK = 0.003  # m that the opening may leave its range
_GRIPPER_MOVES = 0.002  # m
_COVERAGE = (0.05, 0.4)  # share of valid depth: below is bad, below is worth a look
_STATE_GAP = 0.25  # s between joint states


@dataclass(frozen=True, eq=False)
class Records:
    """An episode and, for every image topic, which message (T,) each record takes."""

    episode: Episode
    picks: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Examination:
    """The report about one bag; `records` is None when a line is bad."""

    source: str
    findings: list[Finding]
    records: Records | None

    @property
    def bad(self) -> list[Finding]:
        """The lines that keep the bag out of a data set."""
        return [f for f in self.findings if f.verdict == BAD]


def examine(scan: Scan, topics: TopicMap) -> Examination:
    """All lines of the report, and the records of a bag that has no bad one."""
    findings = [f for stream in scan.images.values() for f in image_findings(stream, scan, topics)]
    findings += _label_findings(scan, topics)
    for topic, stamps in scan.joint_stamps.items():
        if not stamps:
            findings.append(Finding(topic, BAD, 'no messages', f'Correct {topics.path}.'))
        elif (np.diff(stamps) < 0).any():
            findings += [f for f in clock_findings(topic, np.array(stamps), np.array(stamps))
                         if 'go back' in f.found]
    records = None
    if all(f.verdict != BAD for f in findings):
        more, records = _records(scan, topics)
        findings += more
    bad = any(f.verdict == BAD for f in findings)
    return Examination(scan.name, findings, None if bad else records)


def pictures(bag: Bag, topics: TopicMap, records: Records) -> Iterator[Picture]:
    """Second pass: the images that the records take, decoded."""
    kinds = image_topics(topics)
    cameras = {t: i for i, c in enumerate(topics.cameras) for t in (c.color, c.depth)}
    wanted = {topic: {int(m): np.flatnonzero(picks == m) for m in np.unique(picks)}
              for topic, picks in records.picks.items()}
    ordinal = dict.fromkeys(kinds, -1)
    for topic, _, raw in bag.messages(kinds):
        ordinal[topic] += 1
        taken_by = wanted[topic].get(ordinal[topic])
        if taken_by is None:
            continue
        depth, camera = kinds[topic], cameras[topic]
        try:
            values = decode_image(bag.decode(topic, raw), depth, topic)
        except InputError as error:
            raise InputError(f'bag {bag.path}, topic {topic}, message {ordinal[topic]}',
                             got=str(error)) from error
        model = records.episode.cameras[camera]
        if values.shape[:2] != (model.height, model.width):
            raise InputError(f'bag {bag.path}, topic {topic}, message {ordinal[topic]}',
                             expected=f'{model.width}x{model.height}',
                             got=f'{values.shape[1]}x{values.shape[0]}')
        for record in taken_by:
            yield Picture(DEPTH if depth else COLOUR, camera, int(record), values)


def _label_findings(scan: Scan, topics: TopicMap) -> list[Finding]:
    task = scan.notes.get('task') or topics.task
    text = scan.notes.get('text') or topics.text
    outcome = scan.notes.get('outcome') or 'success'
    return [judged('task', repr(task or text), bad=not (task or text),
                   next=f'Give task or text in {topics.path}.'),
            judged('outcome', outcome, bad=outcome not in topics.outcomes,
                   next=f'Kept out by outcomes in {topics.path}.')]


def _records(scan: Scan, topics: TopicMap) -> tuple[list[Finding], Records | None]:
    found: list[Finding] = []
    cameras = [_camera(scan, topics, c, found) for c in topics.cameras]
    state = _state_series(scan, topics, found)
    if state is None or any(f.verdict == BAD for f in found):
        return found, None
    span = None
    if topics.urdf is None:
        try:
            span = scan.tree.span(topics.base_frame, topics.tcp_frame)
        except FourdgenError as error:
            found.append(Finding('TCP', BAD, str(error), 'Record /tf of the arm, or give a urdf in '
                                                         f'{topics.path}.'))
            return found, None
    color = [np.array(scan.images[c.color].stamps) for c in topics.cameras]
    streams = [*color, *(np.array(scan.images[c.depth].stamps) for c in topics.cameras),
               state.arm[0], state.gripper[0], *([] if span is None else [np.array(span)])]
    times = resample.grid(streams, topics.fps, resample.interval(color[0]) // 2)
    if span is not None:
        times = times[times <= span[1]]
    found.append(judged('records', f'{len(times)} at {topics.fps} Hz', bad=len(times) < 2,
                        next='The streams share less than two records: record longer.'))
    if len(times) < 2:
        return found, None
    picks, taken = _pick(scan, topics, color, times, found)
    episode = _episode(scan, topics, cameras, state, taken, found)
    return found, None if episode is None else Records(episode, picks)


def _camera(scan: Scan, topics: TopicMap, camera: CameraTopics,
            found: list[Finding]) -> tuple[CameraModel, NDArray[np.float64] | None]:
    """Model and K; K is None when a bad line says why."""
    color, depth = scan.images[camera.color], scan.images[camera.depth]
    height, width = color.size
    if depth.size != color.size:
        found.append(Finding(camera.depth, BAD, f'{depth.size[1]}x{depth.size[0]}, colour '
                             f'{width}x{height}', 'Take the depth that is aligned to colour.'))
    elif depth.frames[0][1] != color.frames[0][1]:
        found.append(judged(camera.depth, f'frame {depth.frames[0][1]!r}, colour in '
                            f'{color.frames[0][1]!r}', warning=True,
                            next='Is this depth aligned to colour?'))
    share = float(np.mean(depth.coverage))
    found.append(judged(camera.depth, f'{100 * share:.0f} % of pixels valid',
                        bad=share < _COVERAGE[0], warning=share < _COVERAGE[1],
                        next='Look at exposure, distance and emitter of the camera.'))
    infos, K = scan.infos[camera.info], None
    if len(infos) != 1:
        found.append(Finding(camera.info, BAD, f'{len(infos)} different calibrations',
                             'Exactly one is needed: record camera_info, do not change it.'))
    else:
        try:
            K = images.camera_info_to_K(infos[0], height, width, camera.info)
            found.append(judged(camera.info, f'fx {K[0, 0]:.1f}, fy {K[1, 1]:.1f}'))
        except InputError as error:
            found.append(Finding(camera.info, BAD, str(error), error.hint))
    return CameraModel(camera.name, height, width, depth.unit), K


@dataclass(frozen=True, eq=False)
class _State:
    """(stamps, positions (n, J)) of the arm's and of the finger joints."""

    arm: tuple[NDArray[np.int64], NDArray[np.float64]]
    gripper: tuple[NDArray[np.int64], NDArray[np.float64]]


def _state_series(scan: Scan, topics: TopicMap, found: list[Finding]) -> _State | None:
    series = []
    for topic, names in ((topics.joint_topic, topics.joint_names),
                         (topics.gripper.topic, topics.gripper.joints)):
        rows = [(stamp, [p[n] for n in names]) for stamp, p in zip(
            scan.joint_stamps[topic], scan.joint_positions[topic], strict=True)
            if all(n in p for n in names)]
        if not rows:
            seen = sorted({n for p in scan.joint_positions[topic] for n in p})
            found.append(Finding(topic, BAD, f'no message with all of {", ".join(names)}; it has '
                                 f'{", ".join(seen)}', f'Correct the joints in {topics.path}.'))
            return None
        stamps = np.array([stamp for stamp, _ in rows])
        gap = float(np.diff(stamps).max(initial=0)) / NS
        found.append(judged(topic, f'{len(rows)} of {", ".join(names)}, longest gap {gap:.3f} s',
                            bad=gap > _STATE_GAP, next='Joint states are missing.'))
        series.append((stamps, np.array([values for _, values in rows])))
    return _State(*series)


def _pick(scan: Scan, topics: TopicMap, color: list[NDArray[np.int64]], times: NDArray[np.int64],
          found: list[Finding]) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Message of every topic for every record, and the stamps (T, V) of the colour images."""
    picks, taken = {}, []
    for camera, stamps in zip(topics.cameras, color, strict=True):
        index = resample.newest(stamps, times)
        age = (times - stamps[index]) / NS
        worst = int(np.argmax(age))
        repeats = int((np.diff(index) == 0).sum())
        found.append(judged(
            camera.color, f'records take images at most {age[worst]:.3f} s old, {repeats} twice',
            bad=age[worst] > topics.max_age, warning=repeats > 0.05 * len(times),
            next=f'Nothing within max_age {topics.max_age:g} s at '
                 f'{(times[worst] - times[0]) / NS:.1f} s: ask for a lower fps, or record again.'))
        depth_stamps = np.array(scan.images[camera.depth].stamps)
        depth_index = resample.nearest(depth_stamps, stamps[index])
        apart = np.abs(depth_stamps[depth_index] - stamps[index]).max() / NS
        limit = 0.5 * max(resample.interval(stamps), 1) / NS
        found.append(judged(camera.depth, f'at most {apart:.4f} s from its colour image',
                            bad=apart > limit, warning=apart > 1e-3,
                            next='Depth images are missing, or not aligned: enable align_depth and '
                                 'enable_sync.'))
        picks[camera.color], picks[camera.depth] = index, depth_index
        taken.append(stamps[index])
    stamps = np.stack(taken, axis=1)
    skew = (stamps.max(axis=1) - stamps.min(axis=1)) / NS
    found.append(judged('cameras', f'at most {skew.max():.4f} s apart',
                        bad=skew.max() > topics.max_skew,
                        next=f'More than max_skew {topics.max_skew:g} s: synchronise the cameras '
                             'or their clocks.'))
    return picks, stamps


def _episode(scan: Scan, topics: TopicMap,
             cameras: list[tuple[CameraModel, NDArray[np.float64]]], state: _State,
             taken: NDArray[np.int64], found: list[Finding]) -> Episode | None:
    times = taken[:, 0]
    joints = resample.interpolate(*state.arm, times)
    fingers = resample.interpolate(*state.gripper, times).mean(axis=1)
    opening = topics.gripper.opening_at(fingers)
    try:
        if topics.urdf is None:
            tcp = np.stack([scan.tree.lookup(topics.base_frame, topics.tcp_frame, int(t))
                            for t in times])
        else:
            tcp = kinematics.tcp_path(topics.urdf, topics.base_frame, topics.tcp_frame,
                                      topics.joint_names, joints)
    except FourdgenError as error:
        found.append(Finding('TCP', BAD, str(error), error.hint))
        return None
    poses = []
    for camera, stamps in zip(topics.cameras, taken.T, strict=True):
        frame = scan.images[camera.color].frames[0][1]
        try:
            poses.append(np.stack([
                scan.tree.lookup(topics.base_frame, frame, int(t))
                if camera.T_base_camera is None else camera.T_base_camera for t in stamps]))
        except FourdgenError as error:
            found.append(Finding(f'pose of {camera.name}', BAD, str(error),
                                 f'Record /tf_static, or give T_base_camera in {topics.path}.'))
            return None
        moved = float(np.abs(poses[-1] - poses[-1][0]).max())
        found.append(judged(f'pose of {camera.name}', 'moves' if moved > 1e-6 else
                            f'at {np.round(poses[-1][0][:3, 3], 3).tolist()} m'))
    found += _motion_findings(tcp, opening, topics)
    if any(f.verdict == BAD for f in found):
        return None
    task = scan.notes.get('task') or topics.task
    text = scan.notes.get('text') or topics.text
    return Episode(
        source=scan.name, task=task or text, text=text or task,
        outcome=scan.notes.get('outcome') or 'success', fps=topics.fps,
        cameras=tuple(model for model, _ in cameras), stamps=taken,
        K=np.stack([K for _, K in cameras]), T_base_camera=np.stack(poses, axis=1), tcp=tcp,
        opening=opening, joints=joints, joint_names=topics.joint_names)


def _motion_findings(tcp: NDArray[np.float64], opening: NDArray[np.float64],
                     topics: TopicMap) -> list[Finding]:
    length = float(np.linalg.norm(np.diff(tcp[:, :3, 3], axis=0), axis=1).sum())
    low, high = float(opening.min()), float(opening.max())
    outside = max(topics.gripper.opening[0] - low, high - topics.gripper.opening[1])
    return [judged('TCP', f'travels {length:.3f} m', bad=length < MOTION,
                   next='The arm does not move: was the right robot recorded?'),
            judged('gripper', f'{1e3 * low:.1f} to {1e3 * high:.1f} mm',
                   bad=outside > _GRIPPER_SLACK, warning=high - low < _GRIPPER_MOVES,
                   next=f'Opening is {topics.gripper.opening} m in {topics.path}: are positions '
                        'right?' if outside > _GRIPPER_SLACK else 'The gripper does not move.')]
