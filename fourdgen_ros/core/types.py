# SPDX-License-Identifier: Apache-2.0
"""The value types between the stages.

Observation -> (generator) -> Future -> (tracker) -> GripperTrajectory -> (motion) -> MotionPlan.

All are frozen dataclasses; their arrays are checked when they are built, which raises InputError.
Optical frames are REP 103: x right, y down, z forward. Invalid depth and points are NaN (REP 117).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError

MAX_OPENING = 0.2  # m, wider than any gripper that a table-top arm carries
MAX_DT = 10.0  # s between two frames; more is a time in milliseconds
OPENING_SLACK = 0.005  # m below 0 that a simulated or measured opening may be


def _require(condition: bool, what: str, expected: str, got: object, hint: str = '') -> None:
    if not condition:
        raise InputError(what, expected=expected, got=str(got), hint=hint)


@dataclass(frozen=True, eq=False)
class RgbdView:
    """One RGB-D image of one camera, in the camera's own optical frame.

    rgb (H, W, 3) uint8; depth (H, W) float32 metres along z, NaN where invalid; K (3, 3) float64
    pixels, pixel centres at integers; stamp in ns of the ROS clock; `frame_id` the optical frame.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]
    stamp: int
    camera: str
    frame_id: str = ''

    def __post_init__(self) -> None:
        name = f'view of camera {self.camera!r}'
        _require(
            self.rgb.ndim == 3 and self.rgb.shape[2] == 3 and self.rgb.dtype == np.uint8,
            f'rgb of {name}', '(H, W, 3) uint8', (self.rgb.shape, self.rgb.dtype))
        _require(
            self.depth.shape == self.rgb.shape[:2] and self.depth.dtype == np.float32,
            f'depth of {name}', f'{self.rgb.shape[:2]} float32, as the colour image',
            (self.depth.shape, self.depth.dtype))
        _require(
            self.K.shape == (3, 3) and self.K[0, 0] > 0 and self.K[1, 1] > 0,
            f'K of {name}', '(3, 3) with positive focal lengths', self.K.tolist())

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True, eq=False)
class Observation:
    """What the robot sees now: 1..N views, the first of which is the reference."""

    views: tuple[RgbdView, ...]

    def __post_init__(self) -> None:
        _require(len(self.views) >= 1, 'observation', 'at least one view', 'none')
        names = [v.camera for v in self.views]
        _require(len(set(names)) == len(names), 'observation', 'distinct camera names', names)

    @property
    def reference(self) -> RgbdView:
        """The view in whose frame points and poses of later stages are given."""
        return self.views[0]

    @property
    def stamp(self) -> int:
        """Stamp of the reference view, ns."""
        return self.views[0].stamp

    @property
    def skew(self) -> float:
        """Largest stamp difference between views, s."""
        stamps = [v.stamp for v in self.views]
        return (max(stamps) - min(stamps)) * 1e-9


@dataclass(frozen=True, eq=False)
class Future:
    """A multi-view RGB-D future; frame 0 is the observation itself at the generator's resolution.

    rgb (V, T, H, W, 3) uint8; points (V, T, H, W, 3) float32 m, of *every* view in the reference
    camera's optical frame, NaN where not valid; valid (V, T, H, W) bool; gripper (V, T, H, W)
    float32 in 0..1, the gripper mask; dt s between frames; K (V, 3, 3) of the generated images;
    stamp ns of the source observation; `frame_id` of the reference camera, and of every camera in
    `frame_ids`, '' where it is not known; `timings` in s by step name; `clamp_ratio` share of
    points that left the generator's coordinate range; opening (T,) float32 m between the finger
    pads where the generator generates it too, else None: fingers of a small image are three pixels
    wide.

    Raises InputError for arrays of another shape or type and for values that cannot be meant: a
    mask outside 0..1, valid points that are not finite, no positive focal lengths, two cameras of
    one name, an opening outside 0..0.2 m, no frames, dt not in 0..10 s, or a seed that is no whole
    number.
    """

    rgb: NDArray[np.uint8]
    points: NDArray[np.float32]
    valid: NDArray[np.bool_]
    gripper: NDArray[np.float32]
    dt: float
    K: NDArray[np.float64]
    cameras: tuple[str, ...]
    stamp: int
    generator: str
    frame_id: str = ''
    seed: int = 0
    steps: int = 0
    clamp_ratio: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    opening: NDArray[np.float32] | None = None
    frame_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._require_shapes()
        if not self.frame_ids:  # who makes futures of their own need not tell them
            unknown = ('',) * (self.rgb.shape[0] - 1)
            object.__setattr__(self, 'frame_ids', (self.frame_id, *unknown))
        self._require_cameras()
        self._require_words()
        self._require_values()

    def _require_shapes(self) -> None:
        for name in ('rgb', 'points', 'valid', 'gripper', 'K'):
            _require(isinstance(getattr(self, name), np.ndarray), f'{name} of future',
                     'a numpy array', type(getattr(self, name)).__name__,
                     'Of a tensor: tensor.cpu().numpy(); of a list: np.array(list, dtype).')
        _require(self.rgb.ndim == 5 and self.rgb.shape[-1] == 3 and self.rgb.dtype == np.uint8
                 and self.rgb.size > 0, 'rgb of future', '(V, T, H, W, 3) uint8, all of them > 0',
                 (self.rgb.shape, self.rgb.dtype))
        _require(self.points.shape == self.rgb.shape and self.points.dtype == np.float32,
                 'points of future', f'{self.rgb.shape} float32',
                 (self.points.shape, self.points.dtype))
        for name, dtype in (('valid', np.bool_), ('gripper', np.float32)):
            value = getattr(self, name)
            _require(value.shape == self.rgb.shape[:4] and value.dtype == dtype,
                     f'{name} of future', f'{self.rgb.shape[:4]} {np.dtype(dtype)}',
                     (value.shape, value.dtype))

    def _require_cameras(self) -> None:
        views = self.rgb.shape[0]
        _require(self.K.shape == (views, 3, 3), 'K of future', f'({views}, 3, 3)', self.K.shape)
        _require(bool(np.isfinite(self.K).all() and (self.K[:, [0, 1], [0, 1]] > 0).all()),
                 'K of future', 'finite numbers with positive focal lengths, in pixels of the '
                 'generated images', self.K.tolist())
        self._require_names('cameras')
        _require(len(self.cameras) == views and len(set(self.cameras)) == views,
                 'cameras of future', f'{views} distinct names', self.cameras)

    def _require_names(self, name: str) -> None:
        value = getattr(self, name)
        _require(isinstance(value, tuple | list) and all(isinstance(word, str) for word in value),
                 f'{name} of future', 'a tuple of names, each a str', repr(value))

    def _require_words(self) -> None:
        for name, bits in (('seed', 64), ('steps', 32)):
            value = getattr(self, name)
            _require(isinstance(value, Integral) and 0 <= int(value) < 2**bits, f'{name} of future',
                     'a whole number from 0 on', repr(value),
                     'steps is 0 where a generator takes none.')
        for name in ('generator', 'frame_id'):
            value = getattr(self, name)
            _require(isinstance(value, str), f'{name} of future', 'a str', repr(value))
        self._require_names('frame_ids')
        _require(len(self.frame_ids) == len(self.cameras), 'frame_ids of future',
                 f'{len(self.cameras)}, one per camera', self.frame_ids)

    def _require_values(self) -> None:
        _require(isinstance(self.dt, float | int | np.number) and 0.0 < self.dt <= MAX_DT,
                 'dt of future', f'a number above 0 and at most {MAX_DT:g} s', repr(self.dt),
                 'Give it in seconds.')
        low, high = float(self.gripper.min()), float(self.gripper.max())  # NaN when one is
        _require(-1e-3 <= low <= high <= 1.0 + 1e-3, 'gripper of future', 'a mask in 0..1',
                 f'{low:g}..{high:g}',
                 'Apply a sigmoid to logits; divide an 8 bit mask by 255.')
        finite = np.isfinite(self.points)
        wrong = self.valid & ~(finite[..., 0] & finite[..., 1] & finite[..., 2])
        _require(not wrong.any(), 'points of future', 'finite points where `valid` is true',
                 f'NaN or infinity at {int(wrong.sum())} valid pixels',
                 'Set valid=np.isfinite(points).all(-1).')
        if self.opening is not None:
            self._require_opening(self.opening)

    def _require_opening(self, opening: NDArray[np.float32]) -> None:
        _require(isinstance(opening, np.ndarray) and opening.shape == (self.frames,),
                 'opening of future', f'an array ({self.frames},) in m',
                 f'{type(opening).__name__} {np.shape(opening)}')
        _require(bool(((opening >= -OPENING_SLACK) & (opening <= MAX_OPENING)).all()),
                 'opening of future', f'0..{MAX_OPENING:g} m between the finger pads',
                 opening.tolist(), 'Give it in metres, not in millimetres.')

    @property
    def frames(self) -> int:
        """Number of frames T, frame 0 included."""
        return int(self.rgb.shape[1])


@dataclass(frozen=True, eq=False)
class GripperTrajectory:
    """6-DoF path of the tool centre point (TCP).

    poses (T, 4, 4) of the TCP in `frame_id` (x, y, z of the gripper: z approach, y the direction in
    which the fingers open); opening (T,) m between the finger pads; confidence (T,) 0..1; times
    (T,) s after `stamp`, the first is 0.
    """

    poses: NDArray[np.float64]
    opening: NDArray[np.float64]
    confidence: NDArray[np.float64]
    times: NDArray[np.float64]
    frame_id: str
    stamp: int

    def __post_init__(self) -> None:
        T = self.poses.shape[0]
        _require(T > 0 and self.poses.shape == (T, 4, 4) and se3.is_rigid(self.poses),
                 'poses of gripper trajectory', '(T, 4, 4) rigid transforms, T > 0',
                 self.poses.shape)
        for name in ('opening', 'confidence', 'times'):
            value = getattr(self, name)
            _require(value.shape == (T,) and bool(np.isfinite(value).all()),
                     f'{name} of gripper trajectory', f'({T},) finite', value)
        _require(bool((np.diff(self.times) > 0).all()), 'times of gripper trajectory',
                 'strictly increasing', self.times)

    def transformed(self, T_new_old: NDArray[np.float64], frame_id: str) -> GripperTrajectory:
        """The same path in frame `frame_id`, into which T_new_old (4, 4) maps."""
        return GripperTrajectory(T_new_old @ self.poses, self.opening, self.confidence, self.times,
                                 frame_id, self.stamp)


@dataclass(frozen=True, eq=False)
class JointTrajectory:
    """Timed joint motion: times (n,) s from its start; positions, velocities, accelerations (n, J)
    in rad, rad/s, rad/s^2; velocities are zero at both ends."""

    joint_names: tuple[str, ...]
    times: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    accelerations: NDArray[np.float64]

    def __post_init__(self) -> None:
        n, J = self.positions.shape
        _require(len(self.joint_names) == J, 'positions of joint trajectory',
                 f'{len(self.joint_names)} joints', J)
        for name in ('velocities', 'accelerations'):
            _require(getattr(self, name).shape == (n, J), f'{name} of joint trajectory',
                     str((n, J)), getattr(self, name).shape)
        _require(self.times.shape == (n,) and n >= 2 and bool((np.diff(self.times) > 0).all()),
                 'times of joint trajectory', f'({n},) strictly increasing, n >= 2',
                 self.times.shape)

    @property
    def duration(self) -> float:
        """Time of the last point, s."""
        return float(self.times[-1])


@dataclass(frozen=True, eq=False)
class GripperCommand:
    """Move the fingers to `opening` (m between the pads) with at most `max_effort` (N)."""

    opening: float
    max_effort: float = 40.0


@dataclass(frozen=True, eq=False)
class MotionPlan:
    """A checked motion: segments in order, each an arm motion or a gripper command.

    `checks` maps the name of every safety check passed to what was measured; `expiry` (ns of the
    steady clock) bounds how long the plan may still be started; `frames` is how many frames of the
    future the plan follows; `tcp_path` (n, 4, 4) is FK of the timed motion in the base frame.
    """

    plan_id: str
    segments: tuple[JointTrajectory | GripperCommand, ...]
    checks: dict[str, str]
    stamp: int
    expiry: int
    frames: int
    tcp_path: NDArray[np.float64]

    def __post_init__(self) -> None:
        _require(self.tcp_path.ndim == 3 and self.tcp_path.shape[1:] == (4, 4),
                 'tcp_path of motion plan', '(n, 4, 4)', self.tcp_path.shape)

    @property
    def duration(self) -> float:
        """Seconds of arm motion, gripper commands not counted."""
        return sum(s.duration for s in self.segments if isinstance(s, JointTrajectory))

    def tcp_paths(self) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
        """Times (n,) s and TCP poses (n, 4, 4) of every segment; a gripper command has one of each:
        where the arm stands meanwhile. Raises InputError when `tcp_path` is of another motion."""
        points = [len(s.times) if isinstance(s, JointTrajectory) else 0 for s in self.segments]
        _require(len(self.tcp_path) == 1 + sum(points), 'tcp_path of motion plan',
                 f'{1 + sum(points)} poses, the start and those of the segments',
                 len(self.tcp_path))
        found, last = [], 0
        for segment, n in zip(self.segments, points, strict=True):
            if isinstance(segment, JointTrajectory):
                found.append((segment.times, self.tcp_path[last + 1:last + n + 1]))
            else:
                found.append((np.zeros(1), self.tcp_path[last:last + 1]))
            last += n
        return tuple(found)
