# SPDX-License-Identifier: Apache-2.0
"""Task PlaceAppleFromBowlIntoBin: objects, their random places, success and stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fourdgen_ros.sim import shapes
from fourdgen_ros.sim.cameras import CameraPose, Shell
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.scene import (
    COLLISION,
    add_convex_mesh,
    add_visual_mesh,
    base_scene,
    place_fixture,
)
from fourdgen_ros.sim.tasks import apple_plan

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

RADIUS = 0.026  # m
FLATNESS = 0.92
BOWL_RIM, BOWL_HEIGHT = 0.095, 0.045
LIFTED = 0.08  # m over the table; the apple's centre, when the apple is clear of the bowl's rim
NEAR = 0.06  # m between TCP and apple
BIN_X, BIN_Y, BIN_HEIGHT, BIN_WALL = 0.09, 0.11, 0.10, 0.005  # half sizes, height, thickness; m


class PlaceAppleFromBowlIntoBin:
    """Take the apple out of the bowl and let it go in the bin. Implements `Task`."""

    name = 'PlaceAppleFromBowlIntoBin'
    cameras: ClassVar = {
        'cam_left': CameraPose((1.17, 0.53, 0.78), (0.48, 0.04, 0.165), np.radians(45.0)),
        'cam_right': CameraPose((1.17, -0.47, 0.78), (0.48, 0.02, 0.165), np.radians(45.0)),
    }
    shell = Shell((0.48, 0.03, 0.15), (-1.7, 1.7))
    start_box = ((0.36, -0.33, 0.13), (0.64, 0.33, 0.42))

    def build(self) -> mujoco.MjSpec:
        """The scene with bowl and apple as free bodies and the bin as a mocap body."""
        spec = base_scene(self.name)
        spec.add_material(name='apple', rgba=[0.78, 0.10, 0.09, 1.0], specular=0.5, shininess=0.5)
        spec.add_material(name='bowl', rgba=[0.90, 0.90, 0.84, 1.0], specular=0.4, shininess=0.6)
        spec.add_material(name='bin', rgba=[0.16, 0.36, 0.62, 1.0], specular=0.2, shininess=0.2)
        _add_bowl(spec)
        _add_apple(spec)
        _add_bin(spec)
        return spec

    def place(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Random poses: bowl on the right, apple in it, bin on the left of the robot."""
        bowl = rng.uniform((0.42, -0.30), (0.58, -0.08))
        half_yaw = rng.uniform(-np.pi, np.pi) / 2.0
        offset = 0.015 * np.sqrt(rng.uniform()) * _unit(rng.uniform(-np.pi, np.pi))
        half_tilt = rng.uniform(-0.4, 0.4) / 2.0
        data.joint('bowl').qpos = [*bowl, 0.001, np.cos(half_yaw), 0.0, 0.0, np.sin(half_yaw)]
        data.joint('apple').qpos = [*(bowl + offset), 0.033, np.cos(half_tilt), np.sin(half_tilt),
                                    0.0, 0.0]
        place_fixture(model, data, 'bin', rng.uniform((0.42, 0.18), (0.58, 0.32)))

    def feasible(self, cell: Cell) -> bool:
        """Bowl and bin are always within reach."""
        return True

    def success(self, cell: Cell) -> bool:
        """The apple lies in the bin and no finger touches it."""
        return in_bin(cell) and cell.touching('apple') == 0

    def stage(self, cell: Cell) -> str:
        """The furthest stage that the state shows."""
        if in_bin(cell):
            return 'place'
        apple = cell.body_pose('apple')[:3, 3]
        if held(cell):
            return 'lift' if apple[2] > LIFTED else 'grasp'
        return 'reach' if np.linalg.norm(cell.tcp_pose()[:3, 3] - apple) < NEAR else 'none'

    def plan(self, cell: Cell) -> list[Leg]:
        """What the expert does from the state that the cell is in."""
        return apple_plan.plan(cell, in_bin(cell), held(cell))


def _add_bowl(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name='bowl', pos=[0.5, -0.2, 0.0])
    body.add_freejoint(name='bowl')
    body.explicitinertial = True
    body.mass, body.ipos, body.inertia = 0.4, [0.0, 0.0, 0.015], [8e-4, 8e-4, 1.5e-3]
    inner, outer = shapes.bowl_profile(0.055, BOWL_RIM, BOWL_HEIGHT, 0.005)
    add_visual_mesh(spec, body, 'bowl_visual', shapes.bowl(inner, outer), 'bowl')
    contact = dict(group=COLLISION, friction=[0.8, 0.01, 0.001])
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[outer[0, 0], 0.0025, 0.0],
                  pos=[0.0, 0.0, 0.0025], **contact)
    sectors = 16
    for k in range(len(inner) - 1):
        add_convex_mesh(spec, f'bowl_ring_{k}',
                        shapes.wedge(inner[k:k + 2], outer[k:k + 2], sectors))
        for i in range(sectors):
            half = np.pi * i / sectors
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=f'bowl_ring_{k}',
                          quat=[np.cos(half), 0.0, 0.0, np.sin(half)], **contact)


def _add_apple(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name='apple', pos=[0.5, -0.2, 0.05])
    body.add_freejoint(name='apple')
    add_visual_mesh(spec, body, 'apple_visual', shapes.apple(RADIUS, FLATNESS), 'apple')
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.0016, 0.007, 0.0],
                  pos=[0.0, 0.0, 0.024], rgba=[0.35, 0.22, 0.1, 1.0], contype=0, conaffinity=0,
                  mass=0.0, group=1)
    body.add_geom(name='apple', type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, group=COLLISION,
                  size=[RADIUS, RADIUS, FLATNESS * RADIUS], mass=0.08, condim=6,
                  friction=[1.0, 0.005, 0.0015])


def _add_bin(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name='bin', pos=[0.5, 0.25, 0.0], mocap=True)
    common = dict(type=mujoco.mjtGeom.mjGEOM_BOX, material='bin', friction=[0.6, 0.01, 0.001])
    half_wall, half_height = BIN_WALL / 2.0, BIN_HEIGHT / 2.0
    body.add_geom(size=[BIN_X, BIN_Y, half_wall], pos=[0.0, 0.0, half_wall], **common)
    for side in (-1.0, 1.0):
        body.add_geom(size=[half_wall, BIN_Y, half_height],
                      pos=[side * BIN_X, 0.0, half_height], **common)
        body.add_geom(size=[BIN_X, half_wall, half_height],
                      pos=[0.0, side * BIN_Y, half_height], **common)


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


def in_bin(cell: Cell) -> bool:
    """Whether the apple's centre is between the walls of the bin and below their rim."""
    x, y, z = np.abs(cell.body_pose('apple')[:3, 3] - cell.body_pose('bin')[:3, 3])
    return bool(x < BIN_X and y < BIN_Y and z < BIN_HEIGHT)


def held(cell: Cell) -> bool:
    """Whether both fingers hold the apple."""
    return cell.touching('apple') == 2
