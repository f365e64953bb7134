# SPDX-License-Identifier: Apache-2.0
"""Task PutSpatulaOnTable: objects, their random places, success and stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.sim import shapes
from fourdgen_ros.sim.cameras import CameraPose, Shell
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.scene import (
    COLLISION,
    VISUAL,
    add_convex_mesh,
    add_visual_mesh,
    base_scene,
    place_fixture,
)
from fourdgen_ros.sim.tasks import spatula_plan
from fourdgen_ros.sim.tasks.spatula_plan import (
    CROCK_HEIGHT,
    CROCK_RADIUS,
    HALF_LENGTH,
    HANDLE_THICKNESS,
    HANDLE_WIDTH,
)

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

_WALL, _FLOOR = 0.005, 0.006  # m, of the crock
_SECTORS = 16
_BLADE_WIDTH, _BLADE_THICKNESS = 0.030, 0.0025  # m, half
_BLADE_END, _NECK_END = -0.055, 0.0  # m along the spatula, from its middle
_MAT = np.array([0.175, 0.08])  # m, half sizes
_LEAN = np.radians((8.0, 24.0))
_GAP = 0.010  # m between the neck's middle and the rim that it leans on
_LOW = 0.02  # m over the table, the greatest height of an end of what lies
_LIFTED = 0.03  # m, of the lower end
_NEAR = 0.05  # m between TCP and the spatula's axis


class PutSpatulaOnTable:
    """Take the spatula out of the crock and lay it down on the mat. Implements `Task`."""

    name = 'PutSpatulaOnTable'
    cameras: ClassVar = {
        'cam_left': CameraPose((1.13, 0.70, 0.56), (0.51, 0.06, 0.18), np.radians(44.0)),
        'cam_right': CameraPose((0.98, -0.62, 0.56), (0.50, 0.03, 0.20), np.radians(45.0)),
    }
    shell = Shell((0.50, 0.0, 0.17), (-1.5, 1.5))
    start_box = ((0.36, -0.28, 0.33), (0.60, 0.28, 0.45))

    def build(self) -> mujoco.MjSpec:
        """The scene with the spatula as a free body, crock and mat as mocap bodies."""
        spec = base_scene(self.name)
        spec.add_material(name='handle', rgba=[0.93, 0.42, 0.05, 1.0], specular=0.3, shininess=0.3)
        spec.add_material(name='blade', rgba=[0.13, 0.14, 0.16, 1.0], specular=0.3, shininess=0.3)
        spec.add_material(name='crock', rgba=[0.86, 0.86, 0.80, 1.0], specular=0.4, shininess=0.6)
        spec.add_material(name='mat', rgba=[0.20, 0.46, 0.42, 1.0], specular=0.0)
        _add_spatula(spec)
        _add_crock(spec)
        mat = spec.worldbody.add_body(name='mat', pos=[0.5, 0.2, 0.0], mocap=True)
        # a cloth too thin to matter to what lies on it
        mat.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[*_MAT, 0.0006], material='mat',
                     contype=0, conaffinity=0, group=VISUAL)
        return spec

    def place(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Random poses: crock on the right, the handle of the spatula in it leaning away
        from the robot, mat on the left, its long side away from the robot."""
        crock = rng.uniform((0.50, -0.26), (0.60, -0.08))
        yaw = np.arctan2(crock[1], crock[0]) + rng.uniform(-0.35, 0.35)
        lean = rng.uniform(*_LEAN)
        place_fixture(model, data, 'crock', crock)
        upright = se3.exp_so3(np.array([0.0, 0.0, yaw]))
        rotation = upright @ se3.exp_so3(np.array([0.0, lean, 0.0]))
        rim = CROCK_RADIUS - _GAP - (CROCK_HEIGHT - _FLOOR) * np.tan(lean)
        foot = np.array([rim, 0.0, _FLOOR + 0.004])
        middle = np.array([*crock, 0.0]) + upright @ foot + HALF_LENGTH * rotation[:, 2]
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, rotation.ravel())
        data.joint('spatula').qpos = [*middle, *quaternion]
        mat = rng.uniform((0.43, 0.15), (0.51, 0.26))
        place_fixture(model, data, 'mat', mat,
                      np.arctan2(mat[1], mat[0]) + rng.uniform(-0.35, 0.35))

    def feasible(self, cell: Cell) -> bool:
        """Whether the spatula leans in the crock and the arm can lay it on the mat."""
        return bool(self.plan(cell))

    def success(self, cell: Cell) -> bool:
        """The spatula lies on the mat and no finger touches it."""
        return laid(cell) and cell.touching('spatula') == 0

    def stage(self, cell: Cell) -> str:
        """The furthest stage that the state shows."""
        if laid(cell):
            return 'place'
        ends = spatula_plan.ends(cell)
        if spatula_plan.held(cell):
            return 'lift' if ends[:, 2].min() > _LIFTED else 'grasp'
        return 'reach' if spatula_plan.distance(cell) < _NEAR else 'none'

    def plan(self, cell: Cell) -> list[Leg]:
        """What the expert does from the state that the cell is in."""
        return spatula_plan.plan(cell, laid(cell))


def laid(cell: Cell) -> bool:
    """Whether the spatula lies flat with both ends over the mat."""
    ends = se3.apply(se3.inverse(cell.body_pose('mat')), spatula_plan.ends(cell))
    return bool((np.abs(ends[:, :2]) < _MAT).all() and (ends[:, 2] < _LOW).all())


def _add_spatula(spec: mujoco.MjSpec) -> None:
    """Blade down (-z) and handle up, its sides along y."""
    body = spec.worldbody.add_body(name='spatula', pos=[0.5, -0.2, 0.2])
    body.add_freejoint(name='spatula')
    foot, top = -HALF_LENGTH, HALF_LENGTH
    thin, wide = _BLADE_THICKNESS, _BLADE_WIDTH
    blade = np.array([[foot, 0.5 * thin, 0.8 * wide], [foot + 0.006, thin, wide],
                      [_BLADE_END - 0.012, thin, 0.9 * wide], [_BLADE_END, thin, 0.4 * wide],
                      [_BLADE_END + 0.015, 0.004, 0.006], [_NECK_END, 0.005, 0.006]])
    thick, width = HANDLE_THICKNESS, HANDLE_WIDTH
    handle = np.array([[_NECK_END - 0.01, 0.6 * thick, 0.6 * width], [_NECK_END, thick, width],
                       [top - 0.012, thick, width], [top - 0.003, 0.8 * thick, 0.8 * width],
                       [top, 0.4 * thick, 0.4 * width]])
    add_visual_mesh(spec, body, 'blade', shapes.loft(blade), 'blade')
    add_visual_mesh(spec, body, 'handle', shapes.loft(handle), 'handle')
    common = dict(type=mujoco.mjtGeom.mjGEOM_BOX, group=COLLISION, condim=4,
                  friction=[0.6, 0.005, 0.001])
    for low, high, x, y, mass in ((foot, _BLADE_END, thin, wide, 0.025),
                                  (_BLADE_END, _NECK_END, 0.004, 0.006, 0.01),
                                  (_NECK_END, top, thick, width, 0.045)):
        body.add_geom(size=[x, y, (high - low) / 2.0], pos=[0.0, 0.0, (high + low) / 2.0],
                      mass=mass, **common)


def _add_crock(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name='crock', pos=[0.5, -0.2, 0.0], mocap=True)
    inner = np.array([[CROCK_RADIUS, _FLOOR], [CROCK_RADIUS, CROCK_HEIGHT]])
    outer = np.array([[CROCK_RADIUS + _WALL, 0.0], [CROCK_RADIUS + _WALL, CROCK_HEIGHT]])
    add_visual_mesh(spec, body, 'crock_visual', shapes.bowl(inner, outer), 'crock')
    contact = dict(group=COLLISION, friction=[0.6, 0.01, 0.001])
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[outer[0, 0], _FLOOR / 2.0, 0.0],
                  pos=[0.0, 0.0, _FLOOR / 2.0], **contact)
    add_convex_mesh(spec, 'crock_wall', shapes.wedge(inner, outer, _SECTORS))
    for i in range(_SECTORS):
        half = np.pi * i / _SECTORS
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname='crock_wall',
                      quat=[np.cos(half), 0.0, 0.0, np.sin(half)], **contact)
