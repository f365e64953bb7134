# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics of the scripted expert: one QP per control step, with mink."""

from __future__ import annotations

import mink
import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.sim.scene import HOME, load_robot

Array = NDArray[np.float64]
_MAX_SPEED = 2.0  # rad/s
_FINGERS = np.array([0.04, 0.04])


class IkSolver:
    """Follows a moving TCP pose; the elbow drifts towards that of the home posture."""

    def __init__(self) -> None:
        model = load_robot().compile()
        self._configuration = mink.Configuration(model)
        self._tcp = mink.FrameTask('hand_tcp', 'site', position_cost=1.0, orientation_cost=0.5,
                                   lm_damping=1e-4)
        # a low gain: the null space must not jump when the start is far from home
        posture = mink.PostureTask(model, cost=1e-2, gain=0.05)
        posture.set_target(np.concatenate([HOME, _FINGERS]))
        self._tasks = [self._tcp, posture]
        speeds = {f'joint{i}': _MAX_SPEED for i in range(1, 8)}
        self._limits = [mink.ConfigurationLimit(model), mink.VelocityLimit(model, speeds)]

    @property
    def limits(self) -> tuple[Array, Array]:
        """Lowest and highest joints, (7,) rad each."""
        low, high = self._configuration.model.jnt_range[:7].T
        return low, high

    def reset(self, q: Array) -> None:
        """Start from joints q (7,) rad, clipped into their limits."""
        low, high = self.limits
        inside = np.clip(q, low + 1e-3, high - 1e-3)
        self._configuration.update(np.concatenate([inside, _FINGERS]))

    def pose(self) -> Array:
        """T_base_tcp (4, 4) of the current solution."""
        return self._configuration.get_transform_frame_to_world('hand_tcp', 'site').as_matrix()

    def step(self, target: Array, dt: float) -> tuple[Array, Array]:
        """Joints q (7,) and velocities (7,) that move towards T_base_tcp (4, 4) within dt s."""
        self._tcp.set_target(mink.SE3.from_matrix(target))
        v = mink.solve_ik(self._configuration, self._tasks, dt, 'daqp', damping=1e-6,
                          limits=self._limits)
        v[7:] = 0.0
        self._configuration.integrate_inplace(v, dt)
        return self._configuration.q[:7].copy(), v[:7].copy()

    def solve(self, target: Array, steps: int = 200) -> tuple[Array, float]:
        """Joints (7,) for T_base_tcp (4, 4) and the error that remains, m and rad summed."""
        for _ in range(steps):
            q, _ = self.step(target, 0.05)
        return q, sum(se3.distance(self.pose(), target))
