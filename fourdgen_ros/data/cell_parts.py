# SPDX-License-Identifier: Apache-2.0
"""The parts of a cell in a scanned bag: cameras, joints, and what the robot did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.data.calibration import intrinsics
from fourdgen_ros.data.episode import CameraModel
from fourdgen_ros.data.findings import BAD, Finding, judged
from fourdgen_ros.data.mapping import CameraTopics, TopicMap
from fourdgen_ros.data.scan import JOINTS, NS, Scan
from fourdgen_ros.data.streams import others

MOTION = 0.01  # m that the TCP must travel
_GRIPPER_SLACK = 0.003  # m that the opening may leave its range
_GRIPPER_MOVES = 0.002  # m
_CANCELLED = 0.2  # of the travel of one finger: below, the mean of all does not tell it
_COVERAGE = (0.05, 0.4)  # share of valid depth: below is bad, below is worth a look
STATE_GAP = 0.25  # s between joint states, or transforms of a moving link


def camera_model(scan: Scan, topics: TopicMap, camera: CameraTopics,
                 found: list[Finding]) -> tuple[CameraModel, NDArray[np.float64] | None]:
    """Model of a camera and its K (3, 3); K is None when a bad line says why."""
    color, depth = scan.images[camera.color], scan.images[camera.depth]
    height, width = color.size
    if height % 2 or width % 2:
        found.append(Finding(camera.color, BAD, f'{width}x{height}, videos need even sizes',
                             'Record at another resolution, or crop colour, depth and camera_info '
                             'by a pixel.'))
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
                        next='Look at exposure, distance and emitter of the camera. Pixels from 0 '
                             'to 6.55 m count: 16UC1 is in mm, 32FC1 is in metres (REP 118).'))
    return CameraModel(camera.name, height, width, depth.unit), intrinsics(
        scan, topics, camera, found)


@dataclass(frozen=True, eq=False)
class State:
    """(ascending stamps, positions (n, J)) of the arm's and of the finger joints."""

    arm: tuple[NDArray[np.int64], NDArray[np.float64]]
    gripper: tuple[NDArray[np.int64], NDArray[np.float64]]


def joint_rows(scan: Scan, topic: str,
               names: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stamps (n,) in ns and positions (n, J) of the messages that have all of the joints, in the
    order of the bag."""
    rows = [(stamp, [p[n] for n in names]) for stamp, p in zip(
        scan.joint_stamps[topic], scan.joint_positions[topic], strict=True)
        if all(n in p for n in names)]
    return np.array([stamp for stamp, _ in rows], np.int64), np.array([row for _, row in rows])


def state_series(scan: Scan, topics: TopicMap, found: list[Finding]) -> State | None:
    """Positions of the joints of the map; None when a bad line says why."""
    series = []
    for topic, names in ((topics.joint_topic, topics.joint_names),
                         (topics.gripper.topic, topics.gripper.joints)):
        stamps, positions = joint_rows(scan, topic, names)
        if not len(stamps):
            seen = ', '.join(sorted({n for p in scan.joint_positions[topic] for n in p}))
            found.append(Finding(
                topic, BAD, f'no message with all of {", ".join(names)}; '
                + (f'it has {seen}' if seen else 'no joint has a name and a position'),
                f'Correct the joints in {topics.path}.'
                + others(scan, JOINTS, scan.joint_stamps) if seen else
                'Does its publisher fill name and position?'))
            return None
        if (odd := np.argwhere(~np.isfinite(positions))).size:
            message, joint = odd[0]
            found.append(Finding(
                topic, BAD, f'{names[joint]} is {positions[message, joint]} '
                f'{(stamps[message] - stamps[0]) / NS:.1f} s after the first message',
                'Look at the driver of this joint, and record again.'))
            return None
        order = np.argsort(stamps, kind='stable')  # of two publishers, say
        stamps, positions = stamps[order], positions[order]
        gap = float(np.diff(stamps).max(initial=0)) / NS
        found.append(judged(topic, f'{len(stamps)} of {", ".join(names)}, longest gap {gap:.3f} s',
                            bad=gap > STATE_GAP, next='Joint states are missing.'))
        series.append((stamps, positions))
    if cancelled := _cancelled(topics, series[1][1]):
        found.append(cancelled)
        return None
    return State(*series)


def _cancelled(topics: TopicMap, positions: NDArray[np.float64]) -> Finding | None:
    """A bad line where fingers, at positions (n, J), move in opposite directions: the opening is
    told by their mean."""
    gripper, travel = topics.gripper, np.ptp(positions, axis=0)
    most, mean = int(travel.argmax()), float(np.ptp(positions.mean(axis=1)))
    opened = abs(gripper.opening_at(travel[most]) - gripper.opening_at(np.zeros(())))
    if opened < _GRIPPER_MOVES or mean > _CANCELLED * travel[most]:
        return None
    return Finding(gripper.topic, BAD,
                   f'{gripper.joints[most]} moves by {travel[most]:.4f}, the mean of '
                   f'gripper.joints by {mean:.4f}',
                   f'Do they move in opposite directions? Name one of them in {topics.path}.')


def motion_findings(tcp: NDArray[np.float64], opening: NDArray[np.float64],
                    topics: TopicMap) -> list[Finding]:
    """Lines about the path (T, 4, 4) of the TCP and the opening (T,) in m."""
    length = float(np.linalg.norm(np.diff(tcp[:, :3, 3], axis=0), axis=1).sum())
    low, high = float(opening.min()), float(opening.max())
    outside = max(topics.gripper.opening[0] - low, high - topics.gripper.opening[1])
    return [judged('TCP', f'travels {length:.3f} m', bad=length < MOTION,
                   next='The arm does not move: was the right robot recorded?'),
            judged('gripper', f'{1e3 * low:.1f} to {1e3 * high:.1f} mm',
                   bad=outside > _GRIPPER_SLACK, warning=high - low < _GRIPPER_MOVES,
                   next=f'Opening is {topics.gripper.opening} m in {topics.path}: are positions '
                        'right?' if outside > _GRIPPER_SLACK else 'The gripper does not move.')]
