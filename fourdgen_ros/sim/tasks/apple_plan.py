# SPDX-License-Identifier: Apache-2.0
"""How the expert does PlaceAppleFromBowlIntoBin, from any state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.scene import MAX_OPENING

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

Array = NDArray[np.float64]
DOWN = np.diag([1.0, -1.0, -1.0])  # TCP x forward, fingers open along base y
_WIDE = 0.07  # m; less counts as not open
_LIFT = 0.21  # m, travel height of the TCP with the apple
_SAFE = 0.17  # m, travel height without
_ABOVE = 0.10  # m over the apple before going down
_LOWEST = 0.021  # m of the TCP above the table: the fingertips stay clear
_DROP = 0.125  # m, height of the TCP over the bin to let go
_REST = 0.30  # m, height of the TCP over the bin in the end
_CLOSE_TIME, _OPEN_TIME = 0.8, 0.5  # s; two frames of 0.4 s see the closed fingers at the apple
_AIMED = 0.014  # m off the apple's axis at which the open fingers still pass it
_MOVED = 0.010  # m of the apple that make an approach pointless
_IN_HAND = 0.025  # m between TCP and a held apple
_REACH = (0.25, 0.75, 0.5)  # m: x from, x to, |y| up to


def _at(x: float, y: float, z: float, rotation: Array = DOWN) -> Array:
    return se3.make(rotation, np.array([x, y, z]))


def _position(cell: Cell, name: str) -> Array:
    return cell.body_pose(name)[:3, 3]


def _still_there(cell: Cell, where: Array) -> bool:
    return bool(np.linalg.norm(_position(cell, 'apple') - where) < _MOVED)


def _in_hand(cell: Cell) -> bool:
    distance = np.linalg.norm(_position(cell, 'apple') - cell.tcp_pose()[:3, 3])
    return bool(distance < _IN_HAND and cell.touching('apple') > 0)


def plan(cell: Cell, in_bin: bool, held: bool) -> list[Leg]:
    """Legs from the state of the cell to the apple in the bin and the arm at rest above it; none
    when the apple is out of reach."""
    if in_bin:
        return _leave(cell)
    if held:
        return _carry(cell, cell.tcp_pose())
    return _fetch(cell)


def _leave(cell: Cell) -> list[Leg]:
    tcp, goal = cell.tcp_pose(), _position(cell, 'bin')
    legs = []
    if cell.touching('apple'):
        legs.append(Leg(tcp, MAX_OPENING, hold=_OPEN_TIME))
    x, y, z = tcp[:3, 3]
    if z < _SAFE and np.hypot(x - goal[0], y - goal[1]) > 0.05:
        legs.append(Leg(_at(x, y, _LIFT), MAX_OPENING, blend=True))
    return [*legs, Leg(_at(goal[0], goal[1], _REST), MAX_OPENING)]


def _carry(cell: Cell, tcp: Array) -> list[Leg]:
    goal, (x, y, z), R = _position(cell, 'bin'), tcp[:3, 3], tcp[:3, :3]
    holds = partial(_in_hand, cell)
    legs = []
    if np.hypot(x - goal[0], y - goal[1]) > 0.03:
        if z < _LIFT - 0.02:
            legs.append(Leg(_at(x, y, _LIFT, R), 0.0, blend=True, holds_true=holds))
        legs.append(Leg(_at(goal[0], goal[1], _LIFT), 0.0, blend=True, holds_true=holds))
    legs.append(Leg(_at(goal[0], goal[1], _DROP), 0.0, holds_true=holds))
    legs.append(Leg(legs[-1].pose, MAX_OPENING, hold=_OPEN_TIME))
    legs.append(Leg(_at(goal[0], goal[1], _REST), MAX_OPENING))
    return legs


def _fetch(cell: Cell) -> list[Leg]:
    tcp, apple = cell.tcp_pose(), _position(cell, 'apple')
    near, far, side = _REACH
    if not (near < apple[0] < far and abs(apple[1]) < side and apple[2] > 0.0):
        return []
    stays = partial(_still_there, cell, apple)
    R = _grasp_rotation(cell, apple)
    grasp = _at(apple[0], apple[1], max(apple[2], _LOWEST), R)
    above = _at(apple[0], apple[1], grasp[2, 3] + _ABOVE, R)
    (x, y, z), off = tcp[:3, 3], float(np.hypot(*(tcp[:2, 3] - apple[:2])))
    low = z < above[2, 3] - 0.02
    legs = []
    if low and cell.opening < _WIDE:
        legs.append(Leg(tcp, MAX_OPENING, hold=_OPEN_TIME))
    if off > _AIMED:
        height = _SAFE if off > 0.10 else above[2, 3]
        if z < height - 0.02:
            legs.append(Leg(_at(x, y, height, tcp[:3, :3]), MAX_OPENING, blend=True))
        legs.append(Leg(above, MAX_OPENING, blend=True, holds_true=stays))
    legs.append(Leg(grasp, MAX_OPENING, speed=0.22, holds_true=stays))
    legs.append(Leg(grasp, 0.0, hold=_CLOSE_TIME))
    return legs + _carry(cell, grasp)


def _grasp_rotation(cell: Cell, apple: Array) -> Array:
    """Fingers along base y, or along x where a wall beside the apple is in their way."""
    bowl, goal = _position(cell, 'bowl'), _position(cell, 'bin')
    x, y = np.abs(apple[:2] - bowl[:2])
    beside_bowl = 0.10 < np.hypot(x, y) < 0.19 and y > x and apple[2] < 0.045
    x, y = np.abs(apple[:2] - goal[:2])
    beside_bin = x < 0.11 and 0.11 < y < 0.18 and apple[2] < 0.10
    if beside_bowl or beside_bin:
        return se3.exp_so3(np.array([0.0, 0.0, np.pi / 2.0])) @ DOWN
    return DOWN
