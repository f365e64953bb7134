# SPDX-License-Identifier: Apache-2.0
"""How the expert does PutSpatulaOnTable, from any state."""

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
HALF_LENGTH = 0.135  # m, of the spatula: z in its frame from -HALF_LENGTH (blade) up
HANDLE_THICKNESS, HANDLE_WIDTH = 0.008, 0.010  # m, half sizes along x and y
CROCK_RADIUS, CROCK_HEIGHT = 0.042, 0.12  # m, inside
_ENDS = np.array([[0.0, 0.0, -HALF_LENGTH], [0.0, 0.0, HALF_LENGTH]])
_GRIP = 0.082  # m from the middle towards the handle's end
_OUTSIDE = 0.006  # m of the TCP off the handle's axis: fingertips stay clear of the table
_TILTS = np.radians([24.0, 32.0, 40.0])  # of the approach towards the blade
_STEEP = -0.25  # greatest vertical part of the approach's direction
_BEFORE = 0.10  # m before the grasp
_CLEAR = 0.36  # m, height of the TCP that passes over the spatula
_LOW = 0.30  # m, of a TCP that may be in the way of the spatula
_LIFT = 0.05  # m of the lower end over crock or table on the way
_BESIDE = 0.05  # m from the crock at which the lower end no longer needs lifting over it
_HOVER = 0.10  # m over the mat before going down
_THERE = 0.03, np.radians(12.0)  # m and rad off the place over the mat that need no leg
_DROP = 0.003  # m under the handle when it is let go
_BACK = 0.15  # m from the handle to where the arm rests
_GRASPED = 2.0 * HANDLE_WIDTH + 0.008  # m, a smaller opening holds the handle
_CLOSE_TIME, _OPEN_TIME = 0.8, 0.5  # s
_MOVED = 0.010  # m of the spatula that make an approach pointless
_SLIPPED = 0.025  # m of the spatula in the hand that make a plan pointless
_REACH = (0.25, 0.75, 0.45)  # m: x from, x to, |y| up to


def plan(cell: Cell, laid: bool) -> list[Leg]:
    """Legs from the state of the cell to the spatula on the mat and the arm above it; where there
    is no way, up and out of the way; none when the handle is out of reach from there too."""
    if laid:
        return _leave(cell)
    if held(cell):
        return choice.best(cell, _carries(cell, cell.tcp_pose()), 'spatula', sealed=False)
    return choice.best(cell, _fetches(cell), 'spatula', sealed=False) or _withdraw(cell)


def ends(cell: Cell) -> Array:
    """(2, 3) lower end of the blade and upper end of the handle, base frame, m."""
    return se3.apply(cell.body_pose('spatula'), _ENDS)


def distance(cell: Cell) -> float:
    """From the TCP to the spatula's axis, m."""
    tcp = se3.apply(se3.inverse(cell.body_pose('spatula')), cell.tcp_pose()[:3, 3])
    tcp[2] -= np.clip(tcp[2], -HALF_LENGTH, HALF_LENGTH)
    return float(np.linalg.norm(tcp))


def held(cell: Cell) -> bool:
    """Whether the fingers have closed on the handle; for moments only one of them may touch it."""
    return cell.touching('spatula') > 0 and cell.opening < _GRASPED


def _leave(cell: Cell) -> list[Leg]:
    tcp = cell.tcp_pose()
    legs = []
    if cell.touching('spatula'):
        legs.append(Leg(tcp, MAX_OPENING, hold=_OPEN_TIME))
    gap = distance(cell)
    if gap < _BACK - 0.02:
        legs.append(Leg(choice.backwards(tcp, _BACK - gap), MAX_OPENING))
    return legs


def _withdraw(cell: Cell) -> list[Leg]:
    """Let go and make room above, where the spatula may lean on the hand."""
    tcp = cell.tcp_pose()
    if tcp[2, 3] > _LOW:
        return []
    return [Leg(tcp, MAX_OPENING, hold=_OPEN_TIME),
            Leg(_raised(tcp, _CLEAR - tcp[2, 3]), MAX_OPENING)]


def _carries(cell: Cell, tcp: Array) -> Iterator[list[Leg]]:
    """Ways to the mat with the spatula in the hand as it is between `tcp` and the spatula now; it
    may lie there in two directions."""
    spatula, mat = cell.body_pose('spatula'), cell.body_pose('mat')
    T_spatula_tcp = se3.inverse(spatula) @ tcp
    stays = partial(choice.in_hand, cell, 'spatula', T_spatula_tcp, _SLIPPED)
    rise = _rise(cell)
    places = [_lying(mat, direction, T_spatula_tcp) @ T_spatula_tcp for direction in (1.0, -1.0)]
    for place in sorted(places, key=lambda T: se3.distance(tcp, T)[1]):
        hover, down = _raised(place, _HOVER), _raised(place, _DROP)
        legs = []
        if rise > 0.0:
            legs.append(Leg(_raised(tcp, rise), 0.0, holds_true=stays))
        if not _over(tcp, hover):
            legs.append(Leg(hover, 0.0, blend=True, holds_true=stays))
        legs.append(Leg(down, 0.0, speed=0.15, holds_true=stays))
        legs.append(Leg(down, MAX_OPENING, hold=_OPEN_TIME))
        legs.append(Leg(choice.backwards(down, _BACK), MAX_OPENING))
        yield legs


def _lying(mat: Array, direction: float, T_spatula_tcp: Array) -> Array:
    """T_base_spatula on the mat, along its x or, for -1, the other way; the hand above."""
    up = np.array([0.0, 0.0, -np.sign(T_spatula_tcp[0, 2])])
    along = direction * mat[:3, 0]
    rotation = np.column_stack([up, np.cross(along, up), along])
    return se3.make(rotation, mat[:3, 3] + (0.0, 0.0, HANDLE_THICKNESS))


def _raised(pose: Array, height: float) -> Array:
    raised = pose.copy()
    raised[2, 3] += height
    return raised


def _rise(cell: Cell) -> float:
    """How far the spatula must go up before it may go elsewhere, m."""
    blade, handle = ends(cell)
    crock = cell.body_pose('crock')[:3, 3]
    beside = np.hypot(*(blade - crock)[:2]) > CROCK_RADIUS + _BESIDE
    over = 0.0 if beside else CROCK_HEIGHT
    rise = over + _LIFT - min(blade[2], handle[2])
    return float(max(0.0, rise)) if rise > 0.005 else 0.0


def _over(tcp: Array, hover: Array) -> bool:
    near, turned = _THERE
    turn = se3.distance(tcp, hover)[1]
    low = tcp[2, 3] < hover[2, 3] + near
    return bool(low and np.hypot(*(tcp - hover)[:2, 3]) < near and turn < turned)


def _fetches(cell: Cell) -> Iterator[list[Leg]]:
    """Ways to grasp the handle and carry the spatula, the best guess first."""
    spatula = cell.body_pose('spatula')
    near, far, side = _REACH
    x, y, _ = se3.apply(spatula, np.array([0.0, 0.0, _GRIP]))
    if not (near < x < far and abs(y) < side):
        return
    stays = partial(choice.still_there, cell, 'spatula', spatula[:3, 3], _MOVED)
    for tilt in _TILTS:
        for front in sorted((-1.0, 1.0), key=lambda f: -f * spatula[2, 0]):
            for finger in (1.0, -1.0):
                grasp = spatula @ _grasp(front, tilt, finger)
                if grasp[2, 2] > _STEEP:
                    continue
                reach = [Leg(grasp, MAX_OPENING, speed=0.2, holds_true=stays),
                         Leg(grasp, 0.0, hold=_CLOSE_TIME)]
                for way in choice.approaches(cell, grasp, _BEFORE, _CLEAR, stays):
                    for carry in _carries(cell, grasp):
                        yield way + reach + carry


def _grasp(front: float, tilt: float, finger: float) -> Array:
    """T_spatula_tcp, from the side `front` (1 or -1) of the blade."""
    z = np.array([-front * np.cos(tilt), 0.0, -np.sin(tilt)])
    y = np.array([0.0, front * finger, 0.0])
    return se3.make(np.column_stack([np.cross(y, z), y, z]),
                    np.array([front * _OUTSIDE, 0.0, _GRIP]))
