# SPDX-License-Identifier: Apache-2.0
"""The robot's controllers as action clients: joint trajectories and gripper commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from action_msgs.srv import CancelGoal
from control_msgs.action import FollowJointTrajectory, GripperCommand, ParallelGripperCommand
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from fourdgen_ros.core import types
from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.motion.moveit import SUCCESS
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.actions import (
    CanceledError,
    RunningGoal,
    SafeActionClient,
    SentGoal,
    request_goal,
    server_gone,
    wait_for_ready,
)
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.move_group import error_code, moveit_msgs

ACCEPT_TIMEOUT = 5.0  # s that a controller may take to accept a goal
HOLD_TIMEOUT = 3.0  # s that a canceled controller may take to hold
# What a gripper that fails may lack, when it closes and when it opens.
_CLOSING = ('Is the gripper switched on, homed, and its controller active? franka_gripper aborts a '
            'grasp unless its default_grasp_epsilon is wide: see docs/robot.md.')
_OPENING = ('Is the gripper switched on, and its controller active? franka_gripper aborts an '
            'opening that is wider than homing has measured, and any before: ros2 action send_goal '
            '/franka_gripper/homing franka_msgs/action/Homing {}. Or lower `open_to` in the robot '
            'file.')


class RejectedError(ExecutionError):
    """A controller is not there or did not accept a goal: nothing has moved."""


class UnstoppedError(ExecutionError):
    """A controller may go on with what it was told to end."""

    def __init__(self, what: str) -> None:
        super().__init__(f'{what}: the robot may move',
                         hint='Use the emergency stop, then look at the driver.')


class Controllers:
    """Runs plan segments one at a time, and stops whatever runs."""

    def __init__(self, node: StageNode, *, arm_action: str, gripper_action: str, gripper_type: str,
                 robot: RobotConfig, time_factor: float, time_margin: float,
                 gripper_timeout: float, execute_action: str = '') -> None:
        """Set up the clients.

        An arm motion may take `time_factor` times its duration plus `time_margin` s, a gripper
        command `gripper_timeout` s. Motions go to the action `execute_action` of move_group, which
        passes them on; where that is empty, to `arm_action` directly.
        """
        self._robot, self._gripper_type = robot, gripper_type
        self._time_factor, self._time_margin = time_factor, time_margin
        self._gripper_timeout = gripper_timeout
        self._arm = SafeActionClient(node, FollowJointTrajectory, arm_action)
        self._gripper = SafeActionClient(
            node, GripperCommand if gripper_type == 'GripperCommand' else ParallelGripperCommand,
            gripper_action)
        self._execute = (SafeActionClient(node, moveit_msgs().action.ExecuteTrajectory,
                                          execute_action) if execute_action else None)
        self._cancel = [
            node.create_client(CancelGoal, f'{name}/_action/cancel_goal', callback_group=node.group)
            for name in (arm_action, gripper_action)]
        self._event = node.create_publisher(String, 'trajectory_execution_event', 10)
        self._warn = node.get_logger().warning
        self._unstopped: tuple[str, RunningGoal | SentGoal] | None = None

    @property
    def unstopped(self) -> str:
        """Name of the action whose goal was told to end and has not, else ''."""
        if self._unstopped is None or self._unstopped[1].ended:
            return ''
        return self._unstopped[0]

    def run(self, segment: types.JointTrajectory | types.GripperCommand,
            interrupted: Callable[[], bool],
            on_start: Callable[[], None] = lambda: None) -> None:
        """Run one segment to its end; `on_start()` is called when the controller has accepted it.

        Raises RejectedError when nothing was started, ExecutionError with the controller's own code
        and text when it failed, vanished or took too long, and CanceledError as soon as
        `interrupted()`; whatever still runs has then been canceled, and has ended: otherwise
        UnstoppedError is raised.
        """
        if isinstance(segment, types.JointTrajectory):
            self._run_arm(segment, interrupted, on_start)
        else:
            self._run_gripper(segment, interrupted, on_start)

    def stop(self) -> None:
        """Stop every motion at once, ours or not, and do not wait for answers.

        Three ways, because any one may be missing: MoveIt's stop event, and for both controllers a
        cancel request for all goals, which also reaches a goal that is not yet known as accepted.
        A cancel request to move_group would end nothing, so what it passed on is canceled here.
        """
        self._event.publish(String(data='stop'))
        for client in self._cancel:
            if client.service_is_ready():
                client.call_async(CancelGoal.Request())
            else:
                self._warn(f'stop: no service {client.service_name}; if that controller moves '
                           f'anything, it does not hear of the stop')

    def _run_arm(self, trajectory: types.JointTrajectory, interrupted: Callable[[], bool],
                 on_start: Callable[[], None]) -> None:
        message = conversions.joint_trajectory_to_msg(trajectory)
        limit = trajectory.duration * self._time_factor + self._time_margin
        if self._execute is not None:
            self._run_move_group(self._execute, message, limit, interrupted, on_start)
            return
        goal = FollowJointTrajectory.Goal(trajectory=message)
        running = self._finish(self._arm, goal, limit, interrupted, on_start)
        result = running.result
        if result.error_code != FollowJointTrajectory.Result.SUCCESSFUL or not running.succeeded:
            raise ExecutionError(
                f'arm controller {self._arm.name!r} failed with code {result.error_code} '
                f'({_fjt_code(result.error_code)}), goal {running.outcome}',
                got=result.error_string,
                hint='See the log of the controller. Is the arm ready, and nothing in the way?')

    def _run_move_group(self, client: SafeActionClient, trajectory: JointTrajectoryMsg,
                        limit: float, interrupted: Callable[[], bool],
                        on_start: Callable[[], None]) -> None:
        msgs = moveit_msgs()
        goal = msgs.action.ExecuteTrajectory.Goal(
            trajectory=msgs.msg.RobotTrajectory(joint_trajectory=trajectory))
        running = self._finish(client, goal, limit, interrupted, on_start)
        error = error_code(running.result.error_code)
        if error.code != SUCCESS or not running.succeeded:
            raise ExecutionError(f'move_group action {client.name!r} failed, goal '
                                 f'{running.outcome}', expected='SUCCESS', got=str(error))

    def _run_gripper(self, command: types.GripperCommand, interrupted: Callable[[], bool],
                     on_start: Callable[[], None]) -> None:
        opening = min(command.opening, self._robot.open_to)
        position = self._robot.finger_position(opening)
        if self._gripper_type == 'GripperCommand':
            goal = GripperCommand.Goal()
            goal.command.position, goal.command.max_effort = position, command.max_effort
        else:
            # parallel_gripper_action_controller has one joint, which the other mimics, and rejects
            # goals of more positions.
            goal = ParallelGripperCommand.Goal(command=JointState(
                name=[self._robot.finger_joints[0]], position=[position],
                effort=[command.max_effort]))
        running = self._finish(self._gripper, goal, self._gripper_timeout, interrupted, on_start)
        result = running.result
        # A gripper that holds an object stalls before the commanded position: that is a success.
        if not running.succeeded and not (result.stalled or result.reached_goal):
            raise ExecutionError(
                f'gripper controller {self._gripper.name!r} failed, goal {running.outcome}',
                expected=f'an opening of {1e3 * opening:.1f} mm, or fingers that an object stops',
                got='neither at the goal nor stalled',
                hint=_CLOSING if opening <= self._robot.opening[0] else _OPENING)

    def _finish(self, client: SafeActionClient, goal: Any, limit: float,
                interrupted: Callable[[], bool], on_start: Callable[[], None]) -> RunningGoal:
        running = self._begin(client, goal, interrupted)
        on_start()
        gone = server_gone(client)
        if running.wait(limit, lambda: interrupted() or gone()):
            if not running.succeeded and interrupted():
                raise CanceledError  # the stop reached the controller before it reached us
            if running.outcome == 'CANCELED':
                raise ExecutionError(
                    f'controller {client.name!r}: goal CANCELED', got='a cancel request, not by '
                    'this node', hint='Something else stopped it: RViz, a pendant, another node?')
            return running
        lost = gone()
        self.stop()
        running.cancel()
        if not running.wait(HOLD_TIMEOUT):
            self._unstopped = client.name, running
            raise UnstoppedError(
                f'controller {client.name!r} has gone while it worked on a goal' if lost else
                f'controller {client.name!r} has not ended {HOLD_TIMEOUT:g} s after it was told to')
        if interrupted():
            raise CanceledError
        raise ExecutionError(
            f'controller {client.name!r} '
            + ('could not be reached for a while' if lost else
               f'did not finish within {limit:.1f} s') + ' and was canceled')

    def _begin(self, client: SafeActionClient, goal: Any,
               interrupted: Callable[[], bool]) -> RunningGoal:
        try:
            sent = request_goal(client, goal, timeout=ACCEPT_TIMEOUT, interrupted=interrupted)
            if sent.wait(ACCEPT_TIMEOUT, interrupted):
                return sent.accepted()
        except ExecutionError as error:
            raise RejectedError(error.what, expected=error.expected, got=error.got,
                                hint=error.hint) from error
        except CanceledError:
            self.stop()
            raise
        self.stop()
        sent.abandon()
        self._unstopped = client.name, sent
        if interrupted() and wait_for_ready(lambda: sent.ended, HOLD_TIMEOUT):
            raise CanceledError
        raise UnstoppedError(f'action server {client.name!r} did not answer in time, or goes '
                             f'on with what it was told to end')


def _fjt_code(code: int) -> str:
    names = ('SUCCESSFUL', 'INVALID_GOAL', 'INVALID_JOINTS', 'OLD_HEADER_TIMESTAMP',
             'PATH_TOLERANCE_VIOLATED', 'GOAL_TOLERANCE_VIOLATED')
    return names[-code] if 0 <= -code < len(names) else 'unknown code'
