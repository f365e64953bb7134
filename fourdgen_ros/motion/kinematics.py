# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics and collision checks of a RobotConfig, with Pinocchio and Coal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError, MissingDependencyError
from fourdgen_ros.motion.robot import RobotConfig

Array = NDArray[np.float64]


class RobotModel:
    """Kinematics and collision geometry of one cell. Not thread safe: it reuses its buffers."""

    def __init__(self, robot: RobotConfig) -> None:
        try:
            import coal
            import pinocchio as pin
        except ImportError as error:
            raise MissingDependencyError(
                'Pinocchio', expected='the packages pin and coal', got=str(error),
                hint='Install the embedded planner: pip install "fourdgen_ros[motion]".') from error
        self._pin = pin
        self.robot = robot
        self._model = pin.buildModelFromUrdf(str(robot.urdf))
        self._data = self._model.createData()
        self._tcp = self._frame(robot.tcp_link)
        self._arm = [self._position_index(name) for name in robot.joints]
        self._fingers = [self._position_index(name) for name in robot.finger_joints]
        lower = self._model.lowerPositionLimit[self._arm]
        upper = self._model.upperPositionLimit[self._arm]
        if (robot.lower < lower - 1e-9).any() or (robot.upper > upper + 1e-9).any():
            raise InputError(f'joint limits of robot {robot.name!r}',
                             expected=f'within those of {robot.urdf.name}',
                             got=f'{robot.lower.tolist()} to {robot.upper.tolist()}')
        self._geometry = pin.buildGeomFromUrdf(self._model, str(robot.urdf),
                                               pin.GeometryType.COLLISION)
        self._geometry.addAllCollisionPairs()
        pin.removeCollisionPairs(self._model, self._geometry, str(robot.srdf))
        self._names = [self._model.frames[g.parentFrame].name
                       for g in self._geometry.geometryObjects]
        self._add_scene(coal)
        self._geometry_data = self._geometry.createData()

    def fk(self, joints: Array) -> Array:
        """T_base_tcp (4, 4) at joints (J,) rad."""
        self._pin.framesForwardKinematics(self._model, self._data, self._full(joints, 0.0))
        return self._data.oMf[self._tcp].homogeneous.copy()

    def fk_path(self, path: Array) -> Array:
        """T_base_tcp (n, 4, 4) along joint positions (n, J)."""
        return np.stack([self.fk(q) for q in path])

    def collision(self, joints: Array, opening: float) -> tuple[str, str] | None:
        """Find two bodies in contact at joints (J,) and gripper opening (m); None when free."""
        pin = self._pin
        q = self._full(joints, opening)
        if not pin.computeCollisions(self._model, self._data, self._geometry, self._geometry_data,
                                     q, False):
            return None
        for pair, result in zip(self._geometry.collisionPairs,
                                self._geometry_data.collisionResults, strict=True):
            if result.isCollision():
                return self._names[pair.first], self._names[pair.second]
        raise AssertionError('Coal reported a collision without a pair')

    def _full(self, joints: Array, opening: float) -> Array:
        q = np.zeros(self._model.nq)
        q[self._arm] = joints
        q[self._fingers] = opening / len(self._fingers)
        return q

    def _frame(self, name: str) -> int:
        if not self._model.existFrame(name):
            raise InputError(f'link {name!r}', expected=f'a link of {self.robot.urdf.name}',
                             got='none of that name')
        return self._model.getFrameId(name)

    def _position_index(self, joint: str) -> int:
        if not self._model.existJointName(joint):
            raise InputError(f'joint {joint!r}', expected=f'a joint of {self.robot.urdf.name}',
                             got='none of that name')
        return self._model.idx_qs[self._model.getJointId(joint)]

    def _add_scene(self, coal: object) -> None:
        pin, links = self._pin, range(len(self._names))
        for box in self.robot.scene:
            placement = pin.SE3(np.eye(3), np.array(box.position))
            index = self._geometry.addGeometryObject(
                pin.GeometryObject(box.name, 0, placement, coal.Box(*box.size)))
            self._names.append(box.name)
            for link in links:
                if self._names[link] not in box.touches:
                    self._geometry.addCollisionPair(pin.CollisionPair(link, index))
