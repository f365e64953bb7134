# SPDX-License-Identifier: Apache-2.0
"""What plans of several tasks share: approaches, conditions, and the choice among candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.scene import MAX_OPENING

if TYPE_CHECKING:
    from fourdgen_ros.sim.cell import Cell

Array = NDArray[np.float64]
_ENOUGH = 0.08  # rad from the joints' limits, at which no better plan is looked for
_WIDE = 0.07  # m; less counts as not open
_OPEN_TIME = 0.5  # s
_ASIDE, _TURNED = 0.01, np.radians(8.0)  # m and rad off an approach that need no new one


def best(cell: Cell, candidates: Iterable[list[Leg]], thing: str, *,
         sealed: bool = True) -> list[Leg]:
    """The first candidate that keeps well clear of joint limits, else the one that does so best;
    no legs when the arm cannot follow any of them. See `Cell.rehearse`."""
    chosen: tuple[float, list[Leg]] = (-1.0, [])
    for legs in candidates:
        margin = cell.rehearse(legs, thing, sealed=sealed)
        if margin > chosen[0]:
            chosen = margin, legs
        if margin > _ENOUGH:
            break
    return chosen[1]


def approaches(cell: Cell, grasp: Array, distance: float, clear: float,
               stays: Callable[[], bool]) -> Iterator[list[Leg]]:
    """Ways from where the tool is to `distance` m before T_base_tcp `grasp`: none where it already
    is between the two; else straight, or first back, or first up to the height `clear` (m)."""
    tcp, before = cell.tcp_pose(), backwards(grasp, distance)
    opening = [Leg(tcp, MAX_OPENING, hold=_OPEN_TIME)] if cell.opening < _WIDE else []
    if _aimed(tcp, grasp, distance):
        yield opening
    last = Leg(before, MAX_OPENING, blend=True, holds_true=stays)
    yield [*opening, last]
    if tcp[2, 3] < clear:
        away = backwards(tcp, 0.12)
        up, over = away.copy(), before.copy()
        up[2, 3], over[2, 3] = (max(clear, p[2, 3]) for p in (up, over))
        back = Leg(away, MAX_OPENING, blend=True)
        yield [*opening, back, last]
        yield [*opening, back, Leg(up, MAX_OPENING, blend=True), Leg(over, MAX_OPENING), last]


def _aimed(tcp: Array, grasp: Array, distance: float) -> bool:
    x, y, z = (se3.inverse(grasp) @ tcp)[:3, 3]
    turn = se3.distance(tcp, grasp)[1]
    return bool(np.hypot(x, y) < _ASIDE and -distance < z < _ASIDE and turn < _TURNED)


def backwards(pose: Array, distance: float) -> Array:
    """T_base_tcp `distance` m back along the approach."""
    return pose @ se3.make(translation=np.array([0.0, 0.0, -distance]))


def still_there(cell: Cell, thing: str, where: Array, tolerance: float) -> bool:
    """Whether a body is within `tolerance` m of (3,) m."""
    return bool(np.linalg.norm(cell.body_pose(thing)[:3, 3] - where) < tolerance)


def in_hand(cell: Cell, thing: str, T_thing_tcp: Array, tolerance: float) -> bool:
    """Whether a body is held as it was, but for `tolerance` m."""
    moved = se3.inverse(cell.body_pose(thing)) @ cell.tcp_pose()
    slip = np.linalg.norm(moved[:3, 3] - T_thing_tcp[:3, 3])
    return bool(slip < tolerance and cell.touching(thing) > 0)
