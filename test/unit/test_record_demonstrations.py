# SPDX-License-Identifier: Apache-2.0
"""What the demonstrator notes of an expert's motion is the whole motion."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts'))

from record_demonstrations import NotedCell

from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.collect import record
from fourdgen_ros.sim.expert import Expert

TASK = 'PlaceAppleFromBowlIntoBin'


@pytest.mark.parametrize('seed', [200000, 200004])  # from home; placed elsewhere
def test_a_cell_that_repeats_the_noted_motion_ends_in_the_same_state(seed: int) -> None:
    noted = NotedCell(TASK)
    episode = record(noted, Expert(noted), seed, perturb=True)
    assert episode is not None
    before, recorded = noted.motion.split(noted.begin)
    assert len(recorded.times) == pytest.approx(50 * episode['times'][-1], rel=0.1)
    other = Cell(TASK)
    other.reset(noted.seed)
    if noted.placed is not None:
        other.set_robot(*noted.placed)
    for part in (before, recorded):
        steps = np.diff([*part.times, noted.time if part is recorded else noted.begin])
        for q, qd, opening, dt in zip(part.joints, part.velocities, part.openings, steps,
                                      strict=True):
            other.set_arm_target(q, qd)
            other.set_gripper_target(opening)
            other.step(dt)
    np.testing.assert_array_equal(other.state().to_array(), noted.state().to_array())
    assert other.success()
