# SPDX-License-Identifier: Apache-2.0
"""Go through a plan in thought: whether the arm can follow it and what it would hit."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.ik import IkSolver
from fourdgen_ros.sim.path import Leg, Path
from fourdgen_ros.sim.scene import ARM_JOINTS, MAX_OPENING, PREFIX

Array = NDArray[np.float64]
_DT = 0.02  # s, as the expert follows plans: another step would let the elbow drift elsewhere
_EVERY = 4  # steps between looks for collisions
_OFF = 0.03  # m and rad summed, between a pose and the arm's
_CLEARANCE = 0.008  # m between arm and fixtures; the servos lag by 3 mm
_CLOSED = 0.5 * MAX_OPENING


class Rehearsal:
    """Rehearses plans in the scene of a compiled model. Not thread safe."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model = copy.copy(model)
        self._data = mujoco.MjData(model)
        self._ik = IkSolver()
        self._q = [model.joint(name).qposadr[0] for name in ARM_JOINTS]
        names = [model.body(i).name for i in range(model.nbody)]
        self._arm = {i for i, name in enumerate(names)
                     if name.startswith(PREFIX) and name != f'{PREFIX}link0'}
        self._fingers = {i for i in self._arm if 'finger' in names[i]}
        self._fixtures = set(np.flatnonzero(model.body_mocapid >= 0).tolist())
        # contacts within the margin are found before they are real
        model.geom_margin[np.isin(model.geom_bodyid, list(self._fixtures))] = _CLEARANCE

    def margin(self, now: mujoco.MjData, legs: list[Leg], thing: str, *,
               sealed: bool = True) -> float:
        """Least distance of a joint to its limits in rad on the way through `legs` from the state
        `now`; -1 when the arm cannot follow them or hits something.

        The body `thing` goes with the tool while the fingers are closed on it; with `sealed` it
        must not touch a fixture then.
        """
        model, data = self._model, self._data
        mujoco.mj_copyData(data, model, now)
        mujoco.mj_kinematics(model, data)
        body = model.body(thing)
        joint = body.jntadr[0]
        address = slice(model.jnt_qposadr[joint], model.jnt_qposadr[joint] + 7)
        T_base_thing = _pose(data, body.id)
        self._ik.reset(data.qpos[self._q])
        path = Path(self._ik.pose(), legs)
        grasp = next((i for i, leg in enumerate(legs) if leg.opening < _CLOSED), len(legs))
        low, high = self._ik.limits
        held, margin = None, np.inf
        for step in range(1, round(path.duration / _DT) + 1):
            target = path.pose(step * _DT)
            q, _ = self._ik.step(target, _DT)
            if step % _EVERY:
                continue
            if sum(se3.distance(self._ik.pose(), target)) > _OFF:
                return -1.0
            margin = min(margin, float(np.minimum(q - low, high - q).min()))
            leg = path.leg(step * _DT)
            if legs[leg].opening < _CLOSED:
                if held is None:
                    held = se3.inverse(self._ik.pose()) @ T_base_thing
                T_base_thing = self._ik.pose() @ held
                data.qpos[address] = _qpos(T_base_thing)
            data.qpos[self._q] = q
            # the fingers pass close by the thing on the leg before they close on it
            if self._hits(body.id, near=leg >= grasp - 1, sealed=sealed and held is not None):
                return -1.0
        return margin

    def _hits(self, thing: int, near: bool, sealed: bool) -> bool:
        model, data = self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        for contact in data.contact[:data.ncon]:
            pair = {int(model.geom_bodyid[g]) for g in contact.geom}
            arm, others = pair & self._arm, pair - self._arm
            if arm and others:
                other = others.pop()
                free = arm <= self._fingers and (other == 0 or (other == thing and near))
                if not free:
                    return True
            elif sealed and thing in pair and pair & self._fixtures:
                return True
        return False


def _pose(data: mujoco.MjData, body: int) -> Array:
    return se3.make(data.xmat[body].reshape(3, 3).copy(), data.xpos[body].copy())


def _qpos(T: Array) -> Array:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(T[:3, :3]).ravel())
    return np.concatenate([T[:3, 3], quaternion])
