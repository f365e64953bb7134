# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics and collision checks of a RobotConfig, with Pinocchio and Coal."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install
from fourdgen_ros.motion.base import Contact
from fourdgen_ros.motion.robot import RobotConfig

Array = NDArray[np.float64]


class ForwardKinematics:
    """Where the TCP of a robot is. Not thread safe: it reuses its buffers."""

    def __init__(self, robot: RobotConfig, urdf: str) -> None:
        """`urdf` is the text of the robot's description."""
        try:
            import pinocchio as pin
        except ImportError as error:
            raise MissingDependencyError(
                'Pinocchio', expected='the package pin', got=str(error),
                hint=how_to_install('motion')) from error
        self._pin = pin
        self.robot = robot
        try:
            self._model = pin.buildModelFromXML(urdf)
        except (ValueError, RuntimeError) as error:
            raise InputError(f'description of robot {robot.name!r}', expected='a URDF',
                             got=str(error)) from error
        self._data = self._model.createData()
        self._tcp = self._frame(robot.tcp_link)
        self._base = self._frame(robot.base_link)
        self._arm = [self._position_index(name) for name in robot.joints]
        lower = self._model.lowerPositionLimit[self._arm]
        upper = self._model.upperPositionLimit[self._arm]
        if (robot.lower < lower - 1e-9).any() or (robot.upper > upper + 1e-9).any():
            raise InputError(f'joint limits of robot {robot.name!r}',
                             expected=f'within {lower.tolist()} to {upper.tolist()} as its '
                                      'description says',
                             got=f'{robot.lower.tolist()} to {robot.upper.tolist()}')

    def fk(self, joints: Array) -> Array:
        """T_base_tcp (4, 4) at joints (J,) rad."""
        q = self._pin.neutral(self._model)
        q[self._arm] = joints
        self._pin.framesForwardKinematics(self._model, self._data, q)
        return self._data.oMf[self._base].actInv(self._data.oMf[self._tcp]).homogeneous.copy()

    def fk_path(self, path: Array) -> Array:
        """T_base_tcp (n, 4, 4) along joint positions (n, J)."""
        return np.stack([self.fk(q) for q in path])

    def _frame(self, name: str) -> int:
        if not self._model.existFrame(name):
            raise InputError(f'link {name!r} of robot {self.robot.name!r}',
                             expected='a link of its description', got='none of that name',
                             hint='Compare the robot file with the topic robot_description.')
        return self._model.getFrameId(name)

    def _position_index(self, joint: str) -> int:
        if not self._model.existJointName(joint):
            raise InputError(f'joint {joint!r} of robot {self.robot.name!r}',
                             expected='a joint of its description', got='none of that name',
                             hint='Compare the robot file with the topic robot_description.')
        index = self._model.getJointId(joint)
        if self._model.nqs[index] != 1:
            raise InputError(f'joint {joint!r} of robot {self.robot.name!r}',
                             expected='a revolute or prismatic joint with limits',
                             got='a continuous or floating one',
                             hint='Give the joint limits in its description.')
        return self._model.idx_qs[index]


class RobotModel(ForwardKinematics):
    """Kinematics and collision geometry of one cell. Not thread safe: it reuses its buffers."""

    def __init__(self, robot: RobotConfig) -> None:
        urdf, srdf = robot.model_files()
        text = urdf.read_text()
        super().__init__(robot, text)
        try:
            import coal
        except ImportError as error:
            raise MissingDependencyError(
                'Coal', expected='the package coal', got=str(error),
                hint=how_to_install('motion')) from error
        pin = self._pin
        self._fingers = [self._position_index(name) for name in robot.finger_joints]
        # Multiplier and offset, per degree of freedom, of what moves along with the fingers.
        self._mimics = np.zeros((2, self._model.nv))
        for name, multiplier, offset in mimics(text, robot.finger_joints):
            index = self._model.idx_vs[self._model.getJointId(name)]
            self._mimics[:, index] = multiplier, offset
        try:
            self._geometry = pin.buildGeomFromUrdf(self._model, str(urdf),
                                                   pin.GeometryType.COLLISION)
        except (ValueError, RuntimeError) as error:
            raise InputError(f'collision geometry of robot {robot.name!r}',
                             expected='meshes that are there', got=str(error),
                             hint=f'Correct their paths in {urdf}.') from error
        self._geometry.addAllCollisionPairs()
        try:
            pin.removeCollisionPairs(self._model, self._geometry, str(srdf))
        except (ValueError, RuntimeError) as error:
            raise InputError(f'srdf of robot {robot.name!r}', expected='an SRDF',
                             got=f'{srdf}: {error}',
                             hint='The MoveIt configuration of the robot has one.') from error
        self._names = [self._model.frames[g.parentFrame].name
                       for g in self._geometry.geometryObjects]
        self._add_scene(coal)
        self._geometry_data = self._geometry.createData()

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

    def first_contact(self, path: Array, opening: float) -> Contact | None:
        """Find the first of joint positions (n, J) in which two bodies touch."""
        for index, joints in enumerate(path):
            pair = self.collision(joints, opening)
            if pair is not None:
                return Contact(index, *pair)
        return None

    def _full(self, joints: Array, opening: float) -> Array:
        position = self.robot.finger_position(opening)
        multipliers, offsets = self._mimics
        # The joints of some linkages are continuous: cosine and sine, not one number.
        q = self._pin.integrate(self._model, self._pin.neutral(self._model),
                                multipliers * position + offsets)
        q[self._arm] = joints
        q[self._fingers] = position
        return q

    def _add_scene(self, coal: ModuleType) -> None:
        pin, links = self._pin, range(len(self._names))
        for box in self.robot.scene:
            placement = pin.SE3(np.eye(3), np.array(box.position))
            index = self._geometry.addGeometryObject(
                pin.GeometryObject(box.name, 0, placement, coal.Box(*box.size)))
            self._names.append(box.name)
            for link in links:
                if self._names[link] not in box.touches:
                    self._geometry.addCollisionPair(pin.CollisionPair(link, index))


def mimics(urdf: str, fingers: Sequence[str]) -> list[tuple[str, float, float]]:
    """Joints of a description that follow one of `fingers`: name, multiplier and offset.

    One that is among the fingers itself follows nothing.
    """
    found = []
    for joint in ElementTree.fromstring(urdf).iter('joint'):
        name, mimic = joint.get('name', ''), joint.find('mimic')
        if mimic is not None and mimic.get('joint') in fingers and name not in fingers:
            found.append((name, float(mimic.get('multiplier', 1.0)),
                          float(mimic.get('offset', 0.0))))
    return found
