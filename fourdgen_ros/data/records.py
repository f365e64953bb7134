# SPDX-License-Identifier: Apache-2.0
"""A scanned bag -> what is wrong with it, and the records that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.core.transforms import TransformError
from fourdgen_ros.data import kinematics, resample
from fourdgen_ros.data.bags import Bag
from fourdgen_ros.data.calibration import place_finding, view_finding
from fourdgen_ros.data.cell_parts import (
    STATE_GAP,
    State,
    camera_model,
    joint_rows,
    motion_findings,
    state_series,
)
from fourdgen_ros.data.episode import COLOUR, DEPTH, CameraModel, Episode, Picture
from fourdgen_ros.data.findings import BAD, Finding, judged
from fourdgen_ros.data.mapping import TopicMap
from fourdgen_ros.data.scan import JOINTS, NS, TF, Scan, decode_image, image_topics
from fourdgen_ros.data.streams import (
    coverage_findings,
    image_findings,
    offset_findings,
    order_findings,
    others,
    silence,
    transform_clock_findings,
    transform_findings,
)


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
    findings += _joint_findings(scan, topics)
    findings += offset_findings(scan, topics)
    findings += transform_findings(scan)
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


def _joint_findings(scan: Scan, topics: TopicMap) -> list[Finding]:
    advice = f'Correct {topics.path}.{others(scan, JOINTS, scan.joint_stamps)}'
    found = [silence(topic, scan, advice)
             for topic, stamps in scan.joint_stamps.items() if not stamps]
    # Two publishers may share a topic: their stamps follow each other but for a little.
    for topic, names in ((topics.joint_topic, topics.joint_names),
                         (topics.gripper.topic, topics.gripper.joints)):
        stamps, _ = joint_rows(scan, topic, names)
        found += [f for f in order_findings(topic, stamps) if f not in found]
    return found


def _label_findings(scan: Scan, topics: TopicMap) -> list[Finding]:
    task = scan.notes.get('task') or topics.task
    text = scan.notes.get('text') or topics.text
    outcome, labelled = _outcome(scan)
    return [judged('task', repr(task or text), bad=not (task or text),
                   next=f'Give task or text in {topics.path}.'),
            judged('outcome', outcome if labelled else f'not labelled, taken for {outcome}',
                   bad=outcome not in topics.outcomes, warning=not labelled,
                   next=f'Kept out by outcomes in {topics.path}.' if labelled else
                        'Label episodes, so that failures are left out.')]


def _outcome(scan: Scan) -> tuple[str, bool]:
    """How the episode ended, and whether somebody said so; the recorder notes 'unknown' if not."""
    noted = scan.notes.get('outcome', 'unknown')
    return ('success', False) if noted in ('', 'unknown') else (noted, True)


def _records(scan: Scan, topics: TopicMap) -> tuple[list[Finding], Records | None]:
    found: list[Finding] = []
    cameras = [camera_model(scan, topics, c, found) for c in topics.cameras]
    state = state_series(scan, topics, found)
    if state is None or any(f.verdict == BAD for f in found):
        return found, None
    span = None
    if topics.urdf is None:
        try:
            span = scan.tree.span(topics.base_frame, topics.tcp_frame)
            found += transform_clock_findings(
                scan, scan.tree.moving(topics.base_frame, topics.tcp_frame))
        except FourdgenError as error:
            found.append(Finding('TCP', BAD, error.problem,
                                 f'Record {" and ".join(topics.tf)} of the arm, or give a urdf in '
                                 f'{topics.path}.{_other_transforms(scan, topics)}'))
            return found, None
    color = [np.array(scan.images[c.color].stamps) for c in topics.cameras]
    robot = [state.arm[0], state.gripper[0], *([] if span is None else [np.array(span)])]
    depth = [np.array(scan.images[c.depth].stamps) for c in topics.cameras]
    found += coverage_findings({
        f'{topics.joint_topic} (arm)': state.arm[0],
        f'{topics.gripper.topic} (gripper)': state.gripper[0],
        **({} if span is None else {'TCP': np.array(span)})}, [*color, *depth])
    if any(f.verdict == BAD for f in found):
        return found, None
    # The robot is looked up at the stamps of images: those from before it was heard are not taken.
    begin = max(int(stamps[0]) for stamps in robot)
    images = [stamps[stamps >= begin] for stamps in (*color, *depth)]
    times = np.empty(0, np.int64) if any(len(stamps) == 0 for stamps in images) else (
        resample.grid([*images, *robot], topics.fps, resample.interval(color[0]) // 2))
    if span is not None:
        times = times[times <= span[1]]
    found.append(judged('records', f'{len(times)} at {topics.fps} Hz', bad=len(times) < 2,
                        next='The streams share less than two records: record longer.'))
    if len(times) < 2:
        return found, None
    picks, taken = _pick(scan, topics, color, times, found)
    episode = _episode(scan, topics, cameras, state, taken, found)
    return found, None if episode is None else Records(episode, picks)


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
             cameras: list[tuple[CameraModel, NDArray[np.float64]]], state: State,
             taken: NDArray[np.int64], found: list[Finding]) -> Episode | None:
    times = taken[:, 0]
    joints = resample.interpolate(*state.arm, times)
    fingers = resample.interpolate(*state.gripper, times).mean(axis=1)
    opening = topics.gripper.opening_at(fingers)
    try:
        if topics.urdf is None:
            tcp = _path(scan, topics.base_frame, topics.tcp_frame, times, max_gap_s=STATE_GAP)
        else:
            tcp = kinematics.tcp_path(topics.urdf, topics.base_frame, topics.tcp_frame,
                                      topics.joint_names, joints)
    except FourdgenError as error:
        found.append(Finding('TCP', BAD, error.problem, error.hint))
        return None
    poses = []
    for camera, (model, K), stamps in zip(topics.cameras, cameras, taken.T, strict=True):
        frame = scan.images[camera.color].frames[0][1]
        try:
            poses.append(_path(scan, topics.base_frame, frame, stamps)
                         if camera.T_base_camera is None
                         else np.stack([camera.T_base_camera] * len(stamps)))
        except FourdgenError as error:
            found.append(Finding(f'pose of {camera.name}', BAD, error.problem,
                                 f'{error.hint} Or give T_base_camera in {topics.path}.'
                                 + _other_transforms(scan, topics)))
            return None
        found.append(place_finding(model, poses[-1]))
        found.append(view_finding(model, K, poses[-1], tcp))
    found += motion_findings(tcp, opening, topics)
    if any(f.verdict == BAD for f in found):
        return None
    task = scan.notes.get('task') or topics.task
    text = scan.notes.get('text') or topics.text
    return Episode(
        source=scan.name, task=task or text, text=text or task,
        outcome=_outcome(scan)[0], fps=topics.fps,
        cameras=tuple(model for model, _ in cameras), stamps=taken,
        K=np.stack([K for _, K in cameras]), T_base_camera=np.stack(poses, axis=1), tcp=tcp,
        opening=opening, joints=joints, joint_names=topics.joint_names)


def _other_transforms(scan: Scan, topics: TopicMap) -> str:
    """What to do about transforms in the bag that the map does not name, as those of a namespace;
    empty where there are none."""
    found = others(scan, TF, (*topics.tf, *topics.tf_static))
    return f'{found} Name what you need in the lists tf and tf_static.' if found else ''


def _path(scan: Scan, target: str, source: str, stamps: NDArray[np.int64], *,
          max_gap_s: float | None = None) -> NDArray[np.float64]:
    """Poses (T, 4, 4); raises TransformError, with the time, where TF does not know one, or was
    silent for longer than `max_gap_s`."""
    poses = []
    for stamp in stamps:
        try:
            poses.append(scan.tree.lookup(target, source, int(stamp), max_gap_s=max_gap_s))
        except TransformError as error:
            raise TransformError(
                f'{error.what}, {(stamp - stamps[0]) / NS:.1f} s after the first record',
                expected=error.expected, got=error.got, hint=error.hint) from error
    return np.stack(poses)
