# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of the scripted expert, recorded as on a robot: through ROS, into bags.

The expert first solves a seed in a simulated cell of this process. Its motion then goes to the node
`cell` (FollowJointTrajectory, GripperCommand) while the node `recorder` records it. The same
episodes are written directly too, as `fourdgen collect` does, so that what is learnt from either
can be compared:

    OUT/bags/EPISODE      OUT/direct/episode_*.npz
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from control_msgs.action import FollowJointTrajectory, GripperCommand
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from fourdgen_ros.cli.processes import NodeProcesses, claim_domain
from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.nodes.actions import (
    SafeActionClient,
    call_service,
    send_goal,
)
from fourdgen_ros.nodes.base import StageNode, spinning
from fourdgen_ros.nodes.cell_states import ARM_JOINTS
from fourdgen_ros.nodes.conversions import duration_to_seconds, seconds_to_duration
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.collect import record, store, write_meta
from fourdgen_ros.sim.expert import Expert
from fourdgen_ros.srv import CheckSuccess, ResetCell, StartEpisode, StopEpisode

TIMEOUT = 60.0  # s for services and for an arm that has to arrive
LEAD = 0.2  # s before the first point of a motion
REST = 0.1  # s after the last point, in which the arm comes to rest
APPROACH = 4.0  # s to a start away from home


@dataclass
class Motion:
    """What an expert asked of arm and gripper: times (s), joints (N, 7), velocities (N, 7) and
    openings (N,) in m."""

    times: list[float] = field(default_factory=list)
    joints: list[NDArray] = field(default_factory=list)
    velocities: list[NDArray] = field(default_factory=list)
    openings: list[float] = field(default_factory=list)

    def split(self, time: float) -> tuple[Motion, Motion]:
        """What comes before a time, and the rest."""
        i = bisect.bisect_left(self.times, time - 1e-6)
        lists = self.times, self.joints, self.velocities, self.openings
        return Motion(*(values[:i] for values in lists)), Motion(*(values[i:] for values in lists))


class NotedCell(Cell):
    """A cell that notes what is asked of it since the robot was last placed.

    `placed` (q (7,), opening) is where it was placed after the reset, None where the reset left it;
    `begin` the time of the first picture, with which an episode begins.
    """

    def reset(self, seed: int) -> None:
        """See `Cell`."""
        self.motion = Motion()  # what the reset itself does is noted and forgotten
        super().reset(seed)
        self.placed: tuple[NDArray, float] | None = None
        self.motion, self.begin = Motion(), None

    def set_robot(self, q: NDArray, opening: float) -> None:
        """See `Cell`."""
        super().set_robot(q, opening)
        self.placed, self.motion = (np.array(q), opening), Motion()

    def set_arm_target(self, q: NDArray, qd: NDArray) -> None:
        """See `Cell`."""
        super().set_arm_target(q, qd)
        self._asked = np.array(q), np.array(qd)

    def step(self, dt: float) -> None:
        """See `Cell`."""
        self.motion.times.append(self.time)
        self.motion.joints.append(self._asked[0])
        self.motion.velocities.append(self._asked[1])
        self.motion.openings.append(self.gripper_target)
        super().step(dt)

    def render(self, camera: str, height: int, width: int) -> RgbdView:
        """See `Cell`."""
        if self.begin is None:
            self.begin = self.time
        return super().render(camera, height, width)


class Robot(StageNode):
    """Client of the nodes `cell` and `recorder`."""

    def __init__(self) -> None:
        super().__init__('demonstrator')
        self._arm = SafeActionClient(self, FollowJointTrajectory,
                                     'panda_arm_controller/follow_joint_trajectory')
        self._hand = SafeActionClient(self, GripperCommand, 'panda_hand_controller/gripper_cmd')
        self._calls = {kind: self.create_client(kind, name, callback_group=self.group)
                         for kind, name in ((ResetCell, 'cell/reset'),
                                            (CheckSuccess, 'cell/check_success'),
                                            (StartEpisode, 'recorder/start'),
                                            (StopEpisode, 'recorder/stop'))}

    def call(self, kind: type, **fields: Any) -> Any:
        """Response of a service; raises ExecutionError when there is none."""
        return call_service(self._calls[kind], kind.Request(**fields), timeout=TIMEOUT)

    def place(self, q: NDArray, opening: float) -> None:
        """Go to a start with joints q (7,) and come to rest there."""
        self._grip(opening)
        self.follow(Motion([APPROACH], [q], [np.zeros(7)], [opening]))

    def follow(self, motion: Motion) -> None:
        """Move as `motion` did, and the gripper at the same times. Raises ExecutionError."""
        shift = LEAD - (motion.times[0] if len(motion.times) > 1 else 0.0)
        changes = [i for i in range(1, len(motion.times))
                   if motion.openings[i] != motion.openings[i - 1]]

        def watch(feedback: FollowJointTrajectory.Feedback) -> None:
            now = duration_to_seconds(feedback.desired.time_from_start)
            while changes and motion.times[changes[0]] + shift <= now:
                self._grip(motion.openings[changes.pop(0)])

        points = [_point(t + shift, q, qd) for t, q, qd in zip(
            motion.times, motion.joints, motion.velocities, strict=True)]
        points.append(_point(motion.times[-1] + shift + REST, motion.joints[-1], np.zeros(7)))
        goal = FollowJointTrajectory.Goal(
            trajectory=JointTrajectory(joint_names=list(ARM_JOINTS), points=points))
        running = send_goal(self._arm, goal, timeout=TIMEOUT, feedback=watch)
        if not running.wait(TIMEOUT) or not running.succeeded:
            raise ExecutionError('the motion of a demonstration', expected='that the arm follows',
                                 got=running.result.error_string)

    def _grip(self, opening: float) -> None:
        goal = GripperCommand.Goal()
        goal.command.position = opening / 2.0
        self._hand.send_goal_async(goal)  # the arm does not wait for it, as the expert's does not

    def demonstrate(self, cell: NotedCell, name: str) -> str:
        """Repeat what `cell` noted in the node `cell`, recorded as episode `name`; the outcome."""
        require(self.call(ResetCell, task=cell.task, seed=cell.seed))
        if cell.placed is not None:
            self.place(*cell.placed)
        before, episode = cell.motion.split(cell.begin)
        if before.times:
            self.follow(before)
        require(self.call(StartEpisode, task=cell.task, name=name))
        self.follow(episode)
        outcome = 'success' if self.call(CheckSuccess).success else 'failure'
        require(self.call(StopEpisode, outcome=outcome))
        return outcome


def _point(time: float, q: NDArray, qd: NDArray) -> JointTrajectoryPoint:
    return JointTrajectoryPoint(positions=q.tolist(), velocities=qd.tolist(),
                                time_from_start=seconds_to_duration(time))


def require(response: Any) -> None:
    """Raise ExecutionError when a service refused."""
    if not response.success:
        raise ExecutionError(f'a demonstration: {response.message}')


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Demonstrate until enough were recorded; what came of every seed."""
    cell = NotedCell(args.task)
    expert = Expert(cell)
    direct = args.out / 'direct'
    direct.mkdir(parents=True, exist_ok=True)
    write_meta(direct, args.task, perturb=True, camera_set=cell.camera_set)
    outcomes: dict[int, str] = {}
    config = share_directory() / 'config'
    with NodeProcesses(args.out / 'logs') as processes:
        processes.start('cell', {
            'task': args.task, 'image_width': args.size[1], 'image_height': args.size[0]},
            [config / 'cell.yaml', config / 'sim.yaml'])
        processes.start('recorder', {
            'output_folder': args.out.resolve() / 'bags', 'cameras': list(cell.cameras)},
            [config / 'recorder.yaml'])
        with spinning(Robot, args=[]) as robot:
            for seed in itertools.count(args.first_seed):
                if list(outcomes.values()).count('success') == args.episodes:
                    break
                processes.check()
                episode = record(cell, expert, seed, perturb=True)
                outcomes[seed] = 'expert failed' if episode is None else robot.demonstrate(
                    cell, f'episode_{seed:06d}')
                if outcomes[seed] == 'success':
                    store(direct, seed, episode)
                sys.stdout.write(f'seed {seed}: {outcomes[seed]}\n')
                sys.stdout.flush()
    return {'task': args.task, 'outcomes': outcomes}


def main() -> int:
    """Record `--episodes` demonstrations both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', default='StoreCerealBoxUnderShelf')
    parser.add_argument('--episodes', type=int, default=25)
    parser.add_argument('--first-seed', type=int, default=200000)
    parser.add_argument('--size', type=int, nargs=2, default=(240, 320),
                        metavar=('HEIGHT', 'WIDTH'), help='of the cell\'s images')
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    (args.out / 'bags').mkdir(parents=True, exist_ok=True)
    domain, reserved = claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    with reserved:
        result = run(args)
    (args.out / 'outcomes.json').write_text(json.dumps(result, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
