# SPDX-License-Identifier: Apache-2.0
"""The way from a gripper trajectory to a checked motion, whoever follows the path and times it."""

from __future__ import annotations

import logging
import threading
import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, PlanningError
from fourdgen_ros.core.types import GripperCommand, GripperTrajectory, JointTrajectory, MotionPlan
from fourdgen_ros.motion import path, safety, timing
from fourdgen_ros.motion.base import Bodies, Follower, Kinematics
from fourdgen_ros.motion.gripper import GripperEvent, find_events
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.motion.safety import CheckError, CheckLog, SafetyLimits

Array = NDArray[np.float64]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """How a tracked path becomes a motion. m, rad, s.

    `pose_noise`: standard deviation of a pose of confidence 1; `acceleration`: what the path's own
    accelerations are like; together they set the smoothing. `step`: between waypoints.
    `opening_change`: that makes a gripper event. `min_motion`: shorter arm motions are left out.
    `timing_factor`: least duration of a motion relative to that in the future (1.0: never faster
    than imagined; 0.0: as fast as the limits allow). `dt`: between points of the result.
    """

    pose_noise: tuple[float, float] = (0.004, 0.03)
    acceleration: tuple[float, float] = (0.2, 1.5)
    step: float = 0.01
    opening_change: float = 0.01
    min_motion: float = 0.003
    timing_factor: float = 1.0
    dt: float = 0.01


@dataclass(frozen=True, eq=False)
class _Leg:
    """Smoothed poses (n, 4, 4) between two gripper events, with the frames and times they show.

    `later`: the trusted frames from its event on.
    """

    poses: Array
    frames: Array
    times: Array
    event: GripperEvent | None
    later: Array


@dataclass(frozen=True, eq=False)
class _Motion:
    """One timed arm motion, its FK (n, 4, 4), and how far it gets: the share of the leg and the
    last frame that it passes."""

    segment: JointTrajectory
    tcp: Array
    fraction: float
    frame: int


class TrajectoryPlanner:
    """Planner for one robot cell (see motion/base.py for the protocol). Calls are serialised.

    `follower` finds joint positions along a path and times them; `kinematics` and `bodies` check
    the result, and so do all checks of motion/safety.py, whatever the follower is.
    """

    def __init__(self, robot: RobotConfig, limits: SafetyLimits | None = None,
                 settings: PathSettings | None = None, *, follower: Follower,
                 kinematics: Kinematics, bodies: Bodies) -> None:
        self.robot = robot
        self.limits = SafetyLimits() if limits is None else limits
        self.settings = PathSettings() if settings is None else settings
        self._follower, self._kinematics, self._bodies = follower, kinematics, bodies
        self._lock = threading.Lock()

    def plan(self, trajectory: GripperTrajectory, joints: Array, opening: float, *,
             frames: int | None = None, now_ns: int, steady_ns: int | None = None,
             skip_passed: bool = False) -> MotionPlan:
        """Follow the first `frames` poses (frame 0, the robot's own, included; None: all).

        With `skip_passed` the robot has moved along the trajectory since it was observed: what lies
        before the nearest pose is left out, and `frames` count from there.

        The path is split at gripper events, smoothed by confidence, followed by inverse kinematics,
        timed within the robot's limits and no faster than imagined, and checked. When a later part
        of the path cannot be reached it is cut off, and `checks` says so; a future in which
        nothing moves gives a plan without segments. `now_ns` is in the clock of
        `trajectory.stamp`, `steady_ns` in that of the expiry (None: the same).

        Raises CheckError (a PlanningError) naming check, limit and value, PlanningError when there
        is no inverse kinematics, InputError for a malformed request.
        """
        if len(trajectory.poses) < 2:
            raise InputError('gripper trajectory', expected='at least 2 poses',
                             got=str(len(trajectory.poses)),
                             hint='The first is the present, the others lie ahead.')
        with self._lock:
            if skip_passed:
                trajectory = path.without_passed(
                    trajectory, self._kinematics.fk(np.asarray(joints, float)),
                    self.settings.opening_change)
                frames = None if frames is None else min(frames, len(trajectory.poses))
            n = len(trajectory.poses)
            if frames is not None and not 2 <= frames <= n:
                raise InputError('frames to follow', expected=f'2 to {n}, or none for all',
                                 got=str(frames),
                                 hint='Frame 0 is the present; the task loop has it as `frames`.')
            return self._plan(trajectory, np.asarray(joints, float), float(opening),
                              n if frames is None else frames, now_ns,
                              now_ns if steady_ns is None else steady_ns)

    def _plan(self, trajectory: GripperTrajectory, joints: Array, opening: float, frames: int,
              now_ns: int, steady_ns: int) -> MotionPlan:
        robot, limits, log = self.robot, self.limits, CheckLog()
        safety.check_inputs(log, trajectory, joints, opening, robot, limits, now_ns)
        joints = np.clip(joints, robot.lower, robot.upper)
        start = self._kinematics.fk(joints)
        self._require_free(log, joints[None], opening, 'now',
                           'Jog the arm clear, move the object, or correct `scene` in the robot '
                           'file.')

        legs = self._legs(log, trajectory, start, opening, frames)
        lengths = [float(path.path_steps(leg.poses).sum()) for leg in legs]
        total, covered, last = sum(lengths), 0.0, 0
        segments: list[JointTrajectory | GripperCommand] = []
        tcp_paths = [start[None]]
        for leg, length in zip(legs, lengths, strict=True):
            fraction, last = 1.0, int(leg.frames[-1])
            if length >= self.settings.min_motion:
                motion = self._arm_segment(log, leg, joints, opening)
                fraction, last = motion.fraction, motion.frame
                segments.append(motion.segment)
                tcp_paths.append(motion.tcp)
                joints = motion.segment.positions[-1]
            covered += fraction * length
            if fraction < 1.0:
                break
            if leg.event is not None:
                segments.append(self._gripper_command(leg.event))
                before = opening
                opening = self._opening_after(trajectory.opening[leg.later], leg.event)
                if not leg.event.close:
                    safety.check_opening(log, self._kinematics.fk(joints), before, opening, robot,
                                         limits)
                    self._require_free(log, joints[None], opening, 'opening',
                                       safety.OPENING_HINT)
        share = covered / total if total > 0.0 else 1.0
        log.at_least('path fraction', share, limits.min_fraction,
                     hint='The arm cannot reach the rest of the path.')
        if share < 1.0:
            log.note('path cut', f'followed {100 * share:.0f} %, to frame {last}')
        log.note('segments', f'{len(segments)}' if segments else '0: nothing moves in the future')
        plan = MotionPlan(
            plan_id=uuid.uuid4().hex, segments=tuple(segments), checks=log.values,
            stamp=trajectory.stamp, expiry=steady_ns + round(limits.plan_lifetime * 1e9),
            frames=last + 1, tcp_path=np.concatenate(tcp_paths))
        _LOG.debug('plan %s: %s', plan.plan_id, plan.checks)
        return plan

    def _legs(self, log: CheckLog, trajectory: GripperTrajectory, start: Array, opening: float,
              frames: int) -> list[_Leg]:
        """Choose the frames to follow and cut them at gripper events; the first pose is `start`."""
        limits, settings = self.limits, self.settings
        trusted = path.trusted_frames(trajectory.confidence, limits.min_confidence,
                                      limits.max_gap)
        kept = trusted[trusted < frames]
        poses, flips = path.resolve_flips(trajectory.poses[kept], start)
        log.note('half turns of the gripper', str(flips))
        self._check_start_pose(log, poses[0], start)
        lowest = float(trajectory.confidence[kept[1:]].min()) if len(kept) > 1 else float(
            trajectory.confidence[1:frames].max())
        log.at_least('confidence', lowest, limits.min_confidence,
                     hint='The gripper was not tracked: look at the generated future.')
        log.at_least('confident fraction', float(kept[-1]) / (frames - 1), limits.min_fraction,
                     hint='The track is lost too early to be worth following.')
        dropped = sorted(set(range(frames)) - set(kept.tolist()))
        if dropped:
            log.note('frames left out', ', '.join(map(str, dropped)))
        poses = np.concatenate([start[None], poses[1:]])
        safety.check_frames(log, poses, limits)

        # Where the gripper was not seen nobody saw it open or close either.
        events = find_events(trajectory.opening[trusted], opening, self.robot.opening,
                             change=settings.opening_change)
        legs, first = [], 0
        for event in [*(e for e in events if e.frame < len(kept)), None]:
            last = len(kept) - 1 if event is None else event.frame
            chosen = kept[first:last + 1]
            part = np.concatenate([start[None], poses[first + 1:last + 1]])
            part = path.smooth(part, trajectory.times[chosen], trajectory.confidence[chosen],
                               noise=settings.pose_noise, acceleration=settings.acceleration)
            legs.append(_Leg(part, chosen, trajectory.times[chosen], event, trusted[last:]))
            first, start = last, part[-1]
        return legs

    def _check_start_pose(self, log: CheckLog, pose: Array, start: Array) -> None:
        distance, angle = se3.distance(start, pose)
        hint = (f'Tracked start {np.round(pose[:3, 3], 3).tolist()} m, robot at '
                f'{np.round(start[:3, 3], 3).tolist()} m: the tracking or the camera extrinsics '
                'are off.')
        log.at_most('start pose distance', distance, self.limits.start_distance, ' m', hint=hint)
        log.at_most('start pose angle', angle, self.limits.start_angle, ' rad', hint=hint)

    def _arm_segment(self, log: CheckLog, leg: _Leg, joints: Array, opening: float) -> _Motion:
        """Plan one arm motion from `joints` and check it.

        Takes the follower's first variant that gets to the end, otherwise the one that gets
        farthest.
        """
        best: tuple[_Motion, CheckLog] | None = None
        failure: PlanningError | None = None
        for variant in range(self._follower.variants):
            trial = CheckLog()
            try:
                motion = self._attempt(trial, leg, joints, opening, variant)
            except PlanningError as error:
                failure = failure or error
                continue
            if best is None or motion.fraction > best[0].fraction:
                best = motion, trial
            if motion.fraction == 1.0:
                break
        if best is None:
            assert failure is not None
            raise failure
        log.merge(best[1])
        return best[0]

    def _attempt(self, log: CheckLog, leg: _Leg, joints: Array, opening: float,
                 variant: int) -> _Motion:
        robot, limits, dt = self.robot, self.limits, self.settings.dt
        poses = np.concatenate([self._kinematics.fk(joints)[None], leg.poses[1:]])
        waypoints, knots = path.densify(poses, leg.times, self.settings.step)
        if robot.table_height is not None:
            waypoints, amount = path.lift(waypoints, robot.tip, opening, robot.table_height,
                                          limits.tip_clearance)
            log.at_most('table clearance (lift)', amount, limits.z_clearance, ' m',
                        hint='The path leads into the table.')
        safety.check_workspace(log, 'workspace (waypoints)', waypoints, robot)
        timed = self._follower.follow(waypoints, joints, variant=variant,
                                      velocity_scaling=limits.velocity_scaling,
                                      acceleration_scaling=limits.acceleration_scaling)
        end = timed.fraction * (len(waypoints) - 1)
        reached = int(end + 1e-6)
        positions = self._retime(timed.positions, timed.dt,
                                 float(np.interp(end, knots, leg.times) - leg.times[0]))
        velocity, acceleration, _ = timing.derivatives(positions, dt)
        acceleration[[0, -1]] = 0.0
        times = dt * np.arange(len(positions), dtype=float)
        segment = JointTrajectory(robot.joints, times, positions, velocity, acceleration)
        tcp = self._kinematics.fk_path(positions)
        passed = knots <= reached
        followed = waypoints[knots[passed]]
        safety.check_motion(log, segment, joints, tcp, followed, robot, limits)
        safety.check_on_path(log, tcp, waypoints[:reached + 2], limits)
        safety.check_table(log, 'table clearance (motion)', tcp, opening, robot, limits)
        self._require_free(log, positions, opening, 'in motion',
                           'Move the object, or correct `scene` in the robot file.')
        return _Motion(segment, tcp, timed.fraction, int(leg.frames[passed][-1]))

    def _retime(self, positions: Array, dt: float, imagined: float) -> Array:
        """Slow down to the imagined duration and the TCP speed limit, then limit the jerk."""
        robot, limits, settings = self.robot, self.limits, self.settings
        tcp = self._kinematics.fk_path(positions)[:, :3, 3]
        speed = float((np.linalg.norm(np.diff(tcp, axis=0), axis=1) / dt).max())
        optimal = (len(positions) - 1) * dt
        factor = max(1.0, speed / limits.tcp_speed, settings.timing_factor * imagined / optimal)
        positions = timing.stretch(positions, dt, factor, settings.dt)
        positions = timing.limit_jerk(positions, settings.dt, robot.jerk)
        factor = timing.slow_down(positions, settings.dt,
                                  velocity=limits.velocity_scaling * robot.velocity,
                                  acceleration=limits.acceleration_scaling * robot.acceleration,
                                  jerk=robot.jerk)
        if factor > 1.0:
            positions = timing.stretch(positions, settings.dt, factor, settings.dt)
        return positions

    def _require_free(self, log: CheckLog, path_: Array, opening: float, when: str,
                      hint: str) -> None:
        contact = self._bodies.first_contact(path_, opening)
        if contact is not None:
            raise CheckError(
                f'collision ({when})', expected='no contact',
                got=f'{contact.a} touches {contact.b} at point {contact.index} of {len(path_)}',
                hint=hint)
        log.note(f'collision ({when})', 'none')

    def _gripper_command(self, event: GripperEvent) -> GripperCommand:
        # A grasp closes fully: the object stops the fingers and the effort holds it.
        closed, opened = self.robot.opening
        return GripperCommand(closed if event.close else opened, self.robot.effort)

    def _opening_after(self, imagined: Array, event: GripperEvent) -> float:
        """Return the opening (m) for collision checks after an event: `imagined`, if it holds."""
        closed, opened = self.robot.opening
        if not event.close:
            return opened
        return float(np.clip(imagined.min(), closed, opened))
