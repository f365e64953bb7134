# SPDX-License-Identifier: Apache-2.0
"""How the expert does StoreCerealBoxUnderShelf, from any state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.scene import MAX_OPENING
from fourdgen_ros.sim.tasks import choice

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

Array = NDArray[np.float64]
BOX = np.array([0.07, 0.0275, 0.10])  # m, half sizes
SHELF_WIDTH, SHELF_DEPTH, SHELF_HEIGHT = 0.28, 0.13, 0.36  # m: half, half, whole
_UP = np.array([0.0, 0.0, 1.0])
_GRASP = np.array([-0.053, 0.0, 0.065])  # m in the box: near its upper edge, clear of the palm
_PITCHES = np.radians([32.0, 26.0, 38.0])  # of the approach below the horizontal
_BEFORE = 0.10  # m before the grasp
_LIFT = 0.03  # m under the box while it is carried
_LOW = 0.02  # m
_DROP = 0.003  # m under the box when it is let go
_FRONT = -0.29  # m, y of the box in the shelf's frame before it is pushed in
_INSIDE = -0.02  # m, in the end: 4 cm further than it must, the arm need not follow it in
_ASIDE = 0.02  # m in x that do not keep the box from being pushed in
_BACK = 0.17  # m from the box to where the arm rests
_CLEAR = 0.33  # m, height of the TCP that passes over the box
_GRASPED = 2.0 * BOX[1] + 0.008  # m, a smaller opening holds the box
_CLOSE_TIME, _OPEN_TIME = 0.8, 0.5  # s
_MOVED = 0.010  # m of the box that make an approach pointless
_SLIPPED = 0.025  # m of the box in the hand that make a plan pointless
_REACH = (0.30, 0.72, 0.45)  # m: x from, x to, |y| up to
_UPRIGHT = 0.9  # cosine of the greatest lean that can be grasped


def plan(cell: Cell, stored: bool) -> list[Leg]:
    """Legs from the state of the cell to the box under the shelf and the arm before it; none when
    the box has fallen or is out of reach."""
    if stored:
        return _leave(cell)
    if held(cell):
        return choice.best(cell, [_carry(cell, cell.tcp_pose())], 'cereal')
    return choice.best(cell, _fetches(cell), 'cereal')


def held(cell: Cell) -> bool:
    """Whether the fingers have closed on the box; for moments only one of them may touch it."""
    return cell.touching('cereal') > 0 and cell.opening < _GRASPED


def _leave(cell: Cell) -> list[Leg]:
    tcp, box = cell.tcp_pose(), cell.body_pose('cereal')
    legs = []
    if cell.touching('cereal'):
        legs.append(Leg(tcp, MAX_OPENING, hold=_OPEN_TIME))
    gap = float(np.linalg.norm(tcp[:3, 3] - box[:3, 3]))
    if gap < _BACK - 0.02:
        legs.append(Leg(choice.backwards(tcp, _BACK - gap), MAX_OPENING))
    return legs


def _carry(cell: Cell, tcp: Array) -> list[Leg]:
    """With the box in the hand as it is between `tcp` and the box now."""
    box, shelf = cell.body_pose('cereal'), cell.body_pose('shelf')
    T_box_tcp = se3.inverse(box) @ tcp
    stays = partial(choice.in_hand, cell, 'cereal', T_box_tcp, _SLIPPED)
    turn = np.pi / 2.0 if (shelf[:3, 1] @ box[:3, 0]) > 0.0 else -np.pi / 2.0

    def goal(y: float, height: float) -> Array:
        local = se3.make(se3.exp_so3(turn * _UP), np.array([0.0, y, BOX[2] + height]))
        return shelf @ local @ T_box_tcp

    local = se3.inverse(shelf) @ box
    legs = []
    if box[2, 3] - BOX[2] < _LOW:
        lifted = tcp.copy()
        lifted[2, 3] += _LIFT - (box[2, 3] - BOX[2])
        legs.append(Leg(lifted, 0.0, blend=True, holds_true=stays))
    if abs(local[0, 3]) > _ASIDE or local[1, 3] < _FRONT:
        legs.append(Leg(goal(_FRONT, _LIFT), 0.0, blend=True, holds_true=stays))
    legs.append(Leg(goal(_INSIDE, _LIFT), 0.0, speed=0.2, holds_true=stays))
    legs.append(Leg(goal(_INSIDE, _DROP), 0.0, speed=0.1, holds_true=stays))
    legs.append(Leg(legs[-1].pose, MAX_OPENING, hold=_OPEN_TIME))
    legs.append(Leg(choice.backwards(legs[-1].pose, _BACK), MAX_OPENING))
    return legs


def _fetches(cell: Cell) -> Iterator[list[Leg]]:
    """Ways to grasp the box and carry it, the best guess first."""
    box = cell.body_pose('cereal')
    near, far, side = _REACH
    x, y, _ = box[:3, 3]
    if box[2, 2] < _UPRIGHT or not (near < x < far and abs(y) < side):
        return
    stays = partial(choice.still_there, cell, 'cereal', box[:3, 3], _MOVED)
    inwards = cell.body_pose('shelf')[:3, 1] @ box[:3, 0] > 0.0
    for pitch in _PITCHES:
        for end in ((1.0, -1.0) if inwards else (-1.0, 1.0)):
            forward = end * box[:3, 0]
            for finger in (-1.0, 1.0):
                grasp = _grasp(box, forward, pitch, finger, end)
                reach = [Leg(grasp, MAX_OPENING, speed=0.2, holds_true=stays),
                         Leg(grasp, 0.0, hold=_CLOSE_TIME)]
                for way in choice.approaches(cell, grasp, _BEFORE, _CLEAR, stays):
                    yield way + reach + _carry(cell, grasp)


def _grasp(box: Array, forward: Array, pitch: float, finger: float, end: float) -> Array:
    approach = np.cos(pitch) * forward - np.sin(pitch) * _UP
    y = finger * np.cross(_UP, forward)
    y /= np.linalg.norm(y)
    x = np.cross(y, approach)
    rotation = np.column_stack([x / np.linalg.norm(x), y, np.cross(x / np.linalg.norm(x), y)])
    return se3.make(rotation, se3.apply(box, _GRASP * (end, 1.0, 1.0)))
