# SPDX-License-Identifier: Apache-2.0
"""The simulated robot cell as a ROS 2 node, with the topics and actions of a real cell."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fourdgen_ros.core.errors import FourdgenError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.nodes.base import StageNode, run_node
from fourdgen_ros.nodes.cell_cameras import CellCameras
from fourdgen_ros.nodes.cell_states import ARM_JOINTS, CellStates
from fourdgen_ros.nodes.conversions import ns_to_stamp
from fourdgen_ros.nodes.gripper_server import GripperServer
from fourdgen_ros.nodes.joint_trajectory_goal import Limits
from fourdgen_ros.nodes.joint_trajectory_server import JointTrajectoryServer
from fourdgen_ros.sim.cameras import CAMERA_SETS, FIXED
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.loop import CellLoop
from fourdgen_ros.sim.trajectory import Tolerances
from fourdgen_ros.srv import CheckSuccess, GetCellState, ResetCell


class CellNode(StageNode):
    """Physics in one thread, pictures in another, requests in the executor's threads.

    Publishes joint states, TF and RGB-D images; serves FollowJointTrajectory and GripperCommand,
    and the services cell/reset, cell/check_success and cell/get_state.
    """

    def __init__(self, **options: Any) -> None:
        """`options` go to `rclpy.node.Node`."""
        super().__init__('cell', **options)
        task = self.parameter('task', 'PlaceAppleFromBowlIntoBin', 'Task whose scene is simulated.')
        camera_set = self.parameter(
            'camera_set', FIXED, 'Where cameras stand: fixed by the task, or by the seed on '
                                 'a shell around the scene.', choices=CAMERA_SETS)
        seed = self.parameter('seed', 0, 'Seed of the first episode.', low=0, high=2**31 - 1)
        realtime = self.parameter(
            'realtime', True,
            'Keep pace with the wall clock. If false, run as fast as possible and publish /clock; '
            'set use_sim_time for all other nodes.')
        self._rate = self.parameter('camera_rate', 10.0, 'Images per second and camera.',
                                    low=0.1, high=60.0)
        self._width = self.parameter('image_width', 640, 'Pixels.', low=32, high=640)
        self._height = self.parameter('image_height', 480, 'Pixels.', low=32, high=480)
        limits = self._limits()
        cell = Cell(task, seed, camera_set)
        self._loop = CellLoop(cell, lambda: self.get_clock().now().nanoseconds, realtime=realtime)
        self._states = CellStates(self, publish_clock=not realtime)
        self._arm = JointTrajectoryServer(
            self, 'panda_arm_controller/follow_joint_trajectory', ARM_JOINTS, limits, cell)
        self._gripper = GripperServer(self, 'panda_hand_controller/gripper_cmd', cell)
        self._cameras = self._make_cameras(cell)
        self._resetting = threading.Lock()
        for service, name, call in ((ResetCell, 'reset', self._reset),
                                    (CheckSuccess, 'check_success', self._check_success),
                                    (GetCellState, 'get_state', self._get_state)):
            self.create_service(service, f'cell/{name}', self._answer(call),
                                callback_group=self.group)
        self.report(lambda: {'physics': self._physics_status(),
                             'cameras': self._camera_status()})
        self._states.publish_static(self._loop.stamp_ns, cell)
        self._loop.parts = [self._arm, self._gripper, self._states, self._cameras]
        self._loop.start()
        self.get_logger().info(f'cell is up: task {task}, seed {seed}, cameras '
                               f'{", ".join(cell.cameras)}')

    def close(self) -> None:
        """Stop motion, physics and pictures."""
        super().close()
        self._loop.stop()
        self._cameras.close()

    def _limits(self) -> Limits:
        def bound(name: str, default: float, description: str) -> float:
            value = self.parameter(name, default, description, low=0.0, high=1e3)
            return np.inf if value == 0 else value

        path = bound('path_tolerance', 0.2, 'rad off the path that abort a motion; 0: any.')
        goal = bound('goal_tolerance', 0.02, 'rad off the goal at the end; 0: any.')
        return Limits(
            Tolerances(
                path=np.full(len(ARM_JOINTS), path), goal=np.full(len(ARM_JOINTS), goal),
                goal_time_s=bound('goal_time', 1.0,
                                  's after the end to reach the goal; 0: forever.'),
                stopped_velocity=bound('stopped_velocity', 0.05,
                                       'rad/s that count as standing at the goal; 0: any.')),
            start=bound('start_tolerance', 0.05,
                        'rad that a first point at time 0 may be off; 0: any.'))

    def _make_cameras(self, cell: Cell) -> CellCameras:
        return CellCameras(self, cell, self._rate, self._height, self._width)

    def _answer(self, call: Callable[[Any, Any], tuple[bool, str]]) -> Callable[[Any, Any], Any]:
        """A service callback whose response tells what went wrong."""

        def callback(request: Any, response: Any) -> Any:
            try:
                response.success, response.message = call(request, response)
            except (FourdgenError, TimeoutError) as error:
                self.get_logger().error(str(error))
                response.success, response.message = False, f'{type(error).__name__}: {error}'
            return response

        return callback

    def _reset(self, request: ResetCell.Request, _: ResetCell.Response) -> tuple[bool, str]:
        with self._resetting:
            if request.task and request.task != self._loop.cell.task:
                self._change_task(Cell(request.task, request.seed, self._loop.cell.camera_set))
            else:
                self._loop.run(lambda: self._reset_cell(request.seed))
        return True, f'{self._loop.cell.task}, seed {request.seed}'

    def _reset_cell(self, seed: int) -> None:
        cell = self._loop.cell
        cell.reset(seed)
        self._begin_episode(cell)

    def _begin_episode(self, cell: Cell) -> None:
        self._arm.restart(cell, 'the cell was reset')
        self._gripper.restart()
        self._states.forget()
        self._states.publish_static(self._loop.stamp_ns, cell)

    def _change_task(self, cell: Cell) -> None:
        self._cameras.close()
        self._cameras = self._make_cameras(cell)

        def swap() -> None:
            self._loop.cell = cell
            self._loop.parts[-1] = self._cameras
            self._begin_episode(cell)

        self._loop.run(swap)

    def _check_success(self, _: CheckSuccess.Request,
                       response: CheckSuccess.Response) -> tuple[bool, str]:
        cell = self._loop.cell
        response.stage = cell.stage()
        return cell.success(), ''

    def _get_state(self, _: GetCellState.Request,
                   response: GetCellState.Response) -> tuple[bool, str]:
        cell = self._loop.cell
        stamp, state = self._loop.run(lambda: (self._loop.stamp_ns, cell.state()))
        response.task, response.seed = cell.task, state.seed
        response.stamp, response.state = ns_to_stamp(stamp), state.to_array().tolist()
        return True, ''

    def _physics_status(self) -> Status:
        stats = self._loop.stats()
        values = {'real_time_factor': f'{stats.real_time_factor:.3f}',
                  'time_given_up_s': f'{stats.lost_s:.2f}'}
        if self._loop.failed:
            return Status(Level.ERROR, 'physics has stopped', values)
        if stats.real_time_factor < 0.98:
            return Status(Level.WARN, f'slower than real time: {stats.real_time_factor:.2f}',
                          values)
        return Status(Level.OK, 'real time', values)

    def _camera_status(self) -> Status:
        stats = self._cameras.stats()
        values = {'published': stats.published, 'skipped': stats.skipped,
                  'seconds_per_set': f'{stats.seconds:.3f}'}
        if stats.seconds > 1.0 / self._rate:
            return Status(Level.WARN, 'drawing takes longer than the period', values)
        return Status(Level.OK, f'{self._rate:g} Hz', values)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_node(CellNode, args)


if __name__ == '__main__':
    sys.exit(main())
