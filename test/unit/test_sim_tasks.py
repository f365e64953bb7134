# SPDX-License-Identifier: Apache-2.0
"""The tasks beside the apple's: real physics, the expert from the start and from mishaps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import mujoco
import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.sim import shapes
from fourdgen_ros.sim.cell import Cell, CellState
from fourdgen_ros.sim.expert import Expert
from fourdgen_ros.sim.tasks import TASKS, load_task
from fourdgen_ros.sim.tasks.spatula_plan import HALF_LENGTH, HANDLE_THICKNESS

CEREAL, SPATULA = 'StoreCerealBoxUnderShelf', 'PutSpatulaOnTable'
FLAT = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # handle away from the robot


@cache
def cell_of(task: str) -> Cell:
    return Cell(task, 0)


def work(cell: Cell) -> Iterator[str]:
    """Let the expert work until the task is done; the stage after every 20 ms."""
    expert = Expert(cell)
    end = cell.time + 16.0
    while cell.time < end and not (cell.success() and expert.resting):
        expert.drive()
        yield cell.stage()


def put(cell: Cell, name: str, T_base_thing: np.ndarray) -> None:
    """Put a free body somewhere and let it come to rest."""
    here = cell.body_pose(name)[:3, 3]
    array = cell.state().to_array()
    start = next(i for i in range(len(array) - 2)  # of the body's position among the numbers
                 if np.abs(array[i:i + 3] - here).max() < 1e-9)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, T_base_thing[:3, :3].ravel())
    array[start:start + 7] = [*T_base_thing[:3, 3], *quaternion]
    cell.set_state(CellState.from_array(array, cell.task))
    cell.step(0.5)


@pytest.mark.parametrize('other', TASKS)
@pytest.mark.parametrize('task', TASKS)
def test_only_a_cell_of_the_same_task_takes_a_state_or_an_appearance(task: str, other: str) -> None:
    """Two tasks have as many joints, so that their number does not tell them apart."""
    cell, source = cell_of(task), cell_of(other)
    state, appearance = source.state(), source.appearance()
    if task == other:
        cell.set_appearance(appearance, state.seed)
        cell.set_state(state)
        return
    before = cell.state().to_array()
    with pytest.raises(InputError, match=f'appearance of the cell; .*{task}; got .*{other}'):
        cell.set_appearance(appearance, state.seed)
    with pytest.raises(InputError, match=f'state of the cell; .*{task}; got .*{other}'):
        cell.set_state(state)
    np.testing.assert_array_equal(cell.state().to_array(), before)


@pytest.mark.parametrize('task', [CEREAL, SPATULA])
def test_the_expert_passes_every_stage_and_both_cameras_see_the_gripper(task: str) -> None:
    cell = cell_of(task)
    cell.reset(1)
    assert not cell.success()
    stages = []
    for k, stage in enumerate(work(cell)):
        stages.append(stage)
        if k % 50 == 0:
            assert all(cell.gripper_mask(c, 96, 128).sum() > 50 for c in cell.cameras)
    assert cell.success() and cell.time < 10.0
    passed = list(dict.fromkeys(stages))
    assert [s for s in passed if s != 'none'] == ['reach', 'grasp', 'lift', 'place']


@pytest.mark.parametrize('turn', [0.0, 2.0])
def test_a_spatula_dropped_on_the_table_is_picked_up(turn: float) -> None:
    cell = cell_of(SPATULA)
    cell.reset(3)
    rotation = se3.exp_so3(np.array([0.0, 0.0, turn])) @ FLAT
    put(cell, 'spatula', se3.make(rotation, np.array([0.46, 0.08, HANDLE_THICKNESS + 0.001])))
    assert not cell.success() and cell.stage() == 'none'
    assert any(cell.success() for _ in work(cell))


def test_a_spatula_on_the_mat_is_done_only_when_let_go() -> None:
    cell = cell_of(SPATULA)
    cell.reset(4)
    expert = Expert(cell)
    while cell.stage() != 'place':
        expert.drive()
    assert cell.touching('spatula') > 0 and not cell.success()


def test_nothing_is_planned_for_a_spatula_out_of_reach() -> None:
    cell = cell_of(SPATULA)
    cell.reset(5)
    put(cell, 'spatula', se3.make(FLAT, np.array([0.3, -0.6, HANDLE_THICKNESS + 0.001])))
    assert load_task(SPATULA).plan(cell) == []


def test_a_loft_is_closed_and_faces_outwards() -> None:
    half = np.array([0.01, 0.02])
    vertices, faces = shapes.loft(np.array([[-HALF_LENGTH, *half], [HALF_LENGTH, *half]]))
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = np.einsum('ni,ni->', a, np.cross(b, c)) / 6.0
    assert 0.75 < volume / (8.0 * half.prod() * HALF_LENGTH) < 1.0
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
