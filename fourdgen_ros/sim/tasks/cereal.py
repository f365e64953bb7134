# SPDX-License-Identifier: Apache-2.0
"""Task StoreCerealBoxUnderShelf: objects, their random places, success and stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.sim import prints, shapes
from fourdgen_ros.sim.cameras import CameraPose, Shell
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.scene import COLLISION, add_printed_mesh, base_scene, place_fixture
from fourdgen_ros.sim.tasks import cereal_plan
from fourdgen_ros.sim.tasks.cereal_plan import BOX, SHELF_DEPTH, SHELF_HEIGHT, SHELF_WIDTH

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

_BOARD, _LEG = 0.009, 0.011  # m, half the thickness
_UPRIGHT = 0.95  # cosine of the greatest lean
_STANDS = 0.01  # m over the table, the greatest height of the lowest corner
_LIFTED = 0.015  # m, of the lowest corner
_NEAR = 0.03  # m between TCP and the box's surface
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * BOX


class StoreCerealBoxUnderShelf:
    """Push the cereal box that stands on the table under the shelf. Implements `Task`."""

    name = 'StoreCerealBoxUnderShelf'
    cameras: ClassVar = {
        'cam_left': CameraPose((1.29, 0.67, 0.54), (0.48, 0.10, 0.20), np.radians(45.0)),
        'cam_right': CameraPose((1.22, 0.03, 0.94), (0.48, 0.10, 0.20), np.radians(45.0)),
    }
    # In front of the robot: from its right the box hides the hand that holds it, from its left the
    # shelf does.
    shell = Shell((0.48, 0.10, 0.20), (-0.5, 0.4))
    start_box = ((0.36, -0.30, 0.30), (0.60, 0.15, 0.45))

    def build(self) -> mujoco.MjSpec:
        """The scene with the box as a free body and the shelf as a mocap body."""
        spec = base_scene(self.name)
        spec.add_material(name='shelf', rgba=[0.86, 0.84, 0.78, 1.0], specular=0.2, shininess=0.3)
        _add_box(spec)
        _add_shelf(spec)
        return spec

    def place(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Random poses: box in front of the robot or to its right, shelf to its left."""
        x, y = rng.uniform((0.44, -0.25), (0.58, 0.02))
        half_yaw = (np.pi / 2.0 + rng.uniform(-0.4, 0.4)) / 2.0
        data.joint('cereal').qpos = [x, y, BOX[2] + 0.001,
                                     np.cos(half_yaw), 0.0, 0.0, np.sin(half_yaw)]
        place_fixture(model, data, 'shelf', rng.uniform((0.49, 0.45), (0.55, 0.49)),
                      rng.uniform(-0.08, 0.08))

    def feasible(self, cell: Cell) -> bool:
        """Whether the arm gets the box under the shelf without hitting it."""
        return bool(self.plan(cell))

    def success(self, cell: Cell) -> bool:
        """The box stands under the shelf and no finger touches it."""
        return stored(cell) and cell.touching('cereal') == 0

    def stage(self, cell: Cell) -> str:
        """The furthest stage that the state shows."""
        if stored(cell):
            return 'place'
        if cereal_plan.held(cell):
            return 'lift' if _corners(cell)[:, 2].min() > _LIFTED else 'grasp'
        tcp = se3.apply(se3.inverse(cell.body_pose('cereal')), cell.tcp_pose()[:3, 3])
        outside = np.maximum(np.abs(tcp) - BOX, 0.0)
        return 'reach' if np.linalg.norm(outside) < _NEAR else 'none'

    def plan(self, cell: Cell) -> list[Leg]:
        """What the expert does from the state that the cell is in."""
        return cereal_plan.plan(cell, stored(cell))


def stored(cell: Cell) -> bool:
    """Whether the box stands upright on the table with its whole base under the shelf."""
    corners = se3.apply(se3.inverse(cell.body_pose('shelf')), _corners(cell))
    inside = (np.abs(corners[:, :2]) < (SHELF_WIDTH, SHELF_DEPTH)).all()
    upright = cell.body_pose('cereal')[2, 2] > _UPRIGHT
    return bool(inside and upright and corners[:, 2].min() < _STANDS)


def _corners(cell: Cell) -> np.ndarray:
    """(8, 3) corners of the box in the base frame."""
    return se3.apply(cell.body_pose('cereal'), _CORNERS)


def _add_box(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name='cereal', pos=[0.5, -0.1, BOX[2]])
    body.add_freejoint(name='cereal')
    add_printed_mesh(spec, body, 'cereal', *shapes.carton(BOX), prints.cereal())
    body.add_geom(name='cereal', type=mujoco.mjtGeom.mjGEOM_BOX, group=COLLISION, size=BOX,
                  mass=0.25, condim=4, friction=[0.8, 0.01, 0.001])


def _add_shelf(spec: mujoco.MjSpec) -> None:
    """A board on four legs, so that cameras on all sides see what stands under it."""
    body = spec.worldbody.add_body(name='shelf', pos=[0.52, 0.47, 0.0], mocap=True)
    common = dict(type=mujoco.mjtGeom.mjGEOM_BOX, material='shelf', friction=[0.6, 0.01, 0.001])
    body.add_geom(size=[SHELF_WIDTH, SHELF_DEPTH, _BOARD],
                  pos=[0.0, 0.0, SHELF_HEIGHT + _BOARD], **common)
    for x in (-1.0, 1.0):
        for y in (-1.0, 1.0):
            body.add_geom(size=[_LEG, _LEG, SHELF_HEIGHT / 2.0],
                          pos=[x * (SHELF_WIDTH - _LEG), y * (SHELF_DEPTH - _LEG),
                               SHELF_HEIGHT / 2.0], **common)
