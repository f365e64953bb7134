# SPDX-License-Identifier: Apache-2.0
"""How fast `~/stop` stops the simulated robot, and what the checks of a plan cost.

Cell and execution node run as processes of their own; this one asks for motions and stops them at
moments drawn from a seed. Nothing is asserted: the figures are for docs/safety.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fourdgen_ros.cli.processes import NodeProcesses, claim_domain
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.types import GripperTrajectory
from fourdgen_ros.motion import safety
from fourdgen_ros.motion.deviation import DeviationLimits, DeviationMonitor
from fourdgen_ros.motion.embedded import EmbeddedPlanner
from fourdgen_ros.motion.kinematics import ForwardKinematics, RobotModel
from fourdgen_ros.motion.robot import RobotConfig

FRAMES, DT = 9, 0.15
ENDS = ((0.45, -0.2, 0.4), (0.45, 0.2, 0.4))  # m, between which the tool goes to and fro
MOVING, STANDING = 0.1, 0.01  # rad/s, the fastest joint
PLANS = 30
GATES = ('check_inputs', 'check_frames', 'check_workspace', 'check_table', 'check_motion',
         'check_on_path')


def main() -> int:
    """Print the figures, as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--stops', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write them here')
    args = parser.parse_args()
    figures = {'stops': args.stops, **gates(args.seed), **stops(args.stops, args.seed)}
    text = json.dumps(figures, indent=1)
    print(text)  # noqa: T201
    if args.json is not None:
        args.json.write_text(text + '\n', encoding='utf-8')
    return 0


def path(start: np.ndarray, end: tuple[float, float, float], stamp: int) -> GripperTrajectory:
    """Straight from `start` (4, 4) to a place, the tool held as it is."""
    poses = np.tile(start, (FRAMES, 1, 1))
    poses[:, :3, 3] += np.linspace(0.0, 1.0, FRAMES)[:, None] * (np.array(end) - start[:3, 3])
    return GripperTrajectory(poses, np.full(FRAMES, 0.08), np.ones(FRAMES), DT * np.arange(FRAMES),
                             'panda_link0', stamp)


def gates(seed: int) -> dict[str, Any]:
    """Milliseconds per plan: all of it, its safety checks, its collision checks; microseconds of
    one look at the deviation."""
    robot, rng = RobotConfig.named('panda'), np.random.default_rng(seed)
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - start
        return wrapper

    for name in GATES:
        setattr(safety, name, timed('checks', getattr(safety, name)))
    RobotModel.first_contact = timed('collisions', RobotModel.first_contact)
    planner = EmbeddedPlanner(robot)
    model = ForwardKinematics(robot, robot.urdf.read_text())
    start = model.fk(robot.home)
    rows, looks = [], []
    for _ in range(PLANS):
        end = tuple(start[:3, 3] + rng.uniform([-0.1, -0.2, -0.1], [0.1, 0.2, 0.1]))
        spent.clear()
        begin = time.perf_counter()
        plan = planner.plan(path(start, end, 0), robot.home, 0.08, now_ns=0)
        rows.append((time.perf_counter() - begin, spent['checks'], spent['collisions']))
        times, poses = plan.tcp_paths()[0]
        monitor = DeviationMonitor(times, poses, DeviationLimits(distance=0.0, angle=0.0))
        begin = time.perf_counter()
        for t in np.linspace(0.0, times[-1], 100):
            monitor.check(model.fk(robot.home), t)
        looks.append((time.perf_counter() - begin) / 100)
    total, checks, collisions = (1e3 * np.array(column) for column in zip(*rows, strict=True))
    return {'plan_ms': spread(total), 'checks_ms': spread(checks),
            'collision_checks_ms': spread(collisions),
            'deviation_look_us': spread(1e6 * np.array(looks))}


def stops(count: int, seed: int) -> dict[str, Any]:
    """Milliseconds from the call of ~/stop to its answer, and until no joint moves any more."""
    domain, reserved = claim_domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    config = share_directory() / 'config'
    # Cameras cost time that belongs to the other processes; nobody looks here.
    parameters = {'cell': {'camera_rate': 0.1, 'image_width': 64, 'image_height': 48},
                  'execution': {'heartbeat_timeout': 0.0, 'max_age': 600.0}}
    with (reserved, tempfile.TemporaryDirectory() as logs,
          NodeProcesses(Path(logs)) as processes):
        for node, values in parameters.items():
            processes.start(node, values, [config / f'{node}.yaml', config / 'sim.yaml'])
        from fourdgen_ros.nodes.base import spinning

        with spinning(make_client, args=[]) as client:
            rows = [client.stop_once(i, np.random.default_rng((seed, i)))
                    for i in range(count)]
    answer, rest, speed = (np.array(column) for column in zip(*rows, strict=True))
    return {'stop_answer_ms': spread(1e3 * answer), 'stop_at_rest_ms': spread(1e3 * rest),
            'speed_at_stop_rad_s': spread(speed)}


def make_client() -> Any:
    """The node that asks; made here because the domain must be set before rclpy is used."""
    from sensor_msgs.msg import JointState
    from std_srvs.srv import Trigger

    from fourdgen_ros.action import ExecutePlan, PlanMotion
    from fourdgen_ros.nodes import conversions
    from fourdgen_ros.nodes.actions import SafeActionClient, call_action, call_service, send_goal
    from fourdgen_ros.nodes.base import StageNode
    from fourdgen_ros.nodes.qos import SENSOR

    class Client(StageNode):
        def __init__(self) -> None:
            super().__init__('bench')
            robot = RobotConfig.named('panda')
            self._joints, self._model = robot.joints, ForwardKinematics(robot,
                                                                        robot.urdf.read_text())
            self._heard = threading.Condition()
            self._q, self._speed = np.zeros(7), 0.0
            self._plan = SafeActionClient(self, PlanMotion, 'plan_motion')
            self._execute = SafeActionClient(self, ExecutePlan, 'execute_plan')
            self._triggers = {name: self.create_client(Trigger, f'execution/{name}',
                                                       callback_group=self.group)
                              for name in ('stop', 'reset_fault')}
            self.inputs.subscribe(JointState, '/joint_states', self._on_joints, SENSOR)

        def _on_joints(self, message: JointState) -> None:
            state = conversions.joint_state_to_dict(message)
            with self._heard:
                self._q = np.array([state[name][0] for name in self._joints])
                self._speed = max(abs(state[name][1]) for name in self._joints)
                self._heard.notify_all()

        def _until(self, condition: Any) -> float:
            with self._heard:
                if not self._heard.wait_for(lambda: self._q.any() and condition(), 120.0):
                    raise TimeoutError('the simulated robot does not do as it should')
            return time.monotonic()

        def stop_once(self, index: int, rng: np.random.Generator) -> tuple[float, float, float]:
            """Seconds to the answer and to rest, and the speed (rad/s) before."""
            self._until(lambda: self._speed < STANDING)
            start = self._model.fk(self._q)
            trajectory = path(start, ENDS[index % 2], self.get_clock().now().nanoseconds)
            plan = call_action(self._plan, PlanMotion.Goal(
                trajectory=conversions.gripper_trajectory_to_msg(trajectory, 'bench')),
                timeout=60.0, accept_timeout=120.0)
            if plan.error_code:
                raise RuntimeError(plan.error_msg)
            running = send_goal(self._execute, ExecutePlan.Goal(plan_id=plan.plan.plan_id),
                                timeout=60.0)
            self._until(lambda: self._speed > MOVING)
            time.sleep(rng.uniform(0.0, 0.3))
            speed, begin = self._speed, time.monotonic()
            answer: list[float] = []
            call = self._triggers['stop'].call_async(Trigger.Request())
            call.add_done_callback(lambda _: answer.append(time.monotonic()))
            rest = self._until(lambda: self._speed < STANDING)
            if not running.wait(60.0) or running.result.error_code != ExecutePlan.Result.STOPPED:
                raise RuntimeError(f'not stopped: {running.result.error_msg}')
            call_service(self._triggers['reset_fault'], Trigger.Request(), timeout=30.0)
            return answer[0] - begin, rest - begin, speed

    return Client()


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, 95th percentile and greatest."""
    p50, p95 = np.percentile(values, (50, 95))
    return {'p50': round(float(p50), 2), 'p95': round(float(p95), 2),
            'max': round(float(np.max(values)), 2)}


if __name__ == '__main__':
    sys.exit(main())
