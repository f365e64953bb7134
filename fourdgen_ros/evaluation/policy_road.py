# SPDX-License-Identifier: Apache-2.0
"""The road with a policy in the place of generator and tracker; planner and checks stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import GripperTrajectory, Observation
from fourdgen_ros.evaluation.road import (
    BASE_FRAME,
    Road,
    RoadConfig,
    RoadResult,
    Segment,
)

if TYPE_CHECKING:
    from fourdgen_ros.evaluation.recording import Recorder
    from fourdgen_ros.motion.base import Planner
    from fourdgen_ros.policy.client import PolicyClient
    from fourdgen_ros.sim.cell import Cell

DT = 0.4  # s between the poses that the planner gets, as between the frames of a future


class PolicyRoad(Road):
    """A `Road` whose paths a policy tells at once. Nothing is imagined, so nothing is recorded."""

    def __init__(self, cell: Cell, policy: PolicyClient, planner: Planner,
                 config: RoadConfig | None = None) -> None:
        super().__init__(cell, None, None, planner, config)
        self._policy = policy

    def run(self, seed: int = 0, *, record: bool = False) -> RoadResult:
        """See `Road.run`. Raises InputError when asked to record."""
        if record:
            raise InputError('recording', expected='a generator', got='a policy',
                             hint='A policy imagines nothing to be shown: fourdgen rollout.')
        return super().run(seed)

    def _imagine(self, segment: Segment, observation: Observation, seed: int,
                 recorder: Recorder | None) -> tuple[None, GripperTrajectory]:
        cell = self.cell
        with self._stage(segment, 'generate'):
            T_base_ref = cell.T_base_camera(observation.reference.camera)
            pose = se3.inverse(T_base_ref) @ cell.tcp_pose()
            path = self._policy.act(observation, pose, cell.opening, task=cell.task, seed=seed,
                                    dt=DT)
            return None, path.transformed(T_base_ref, BASE_FRAME)
