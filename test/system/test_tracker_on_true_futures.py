# SPDX-License-Identifier: Apache-2.0
"""Frames, prediction, score and fusion around an estimator, on a true future of the cell."""

from __future__ import annotations

import numpy as np

from fourdgen_ros.core import se3
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.sim.oracle import OracleGenerator
from fourdgen_ros.tracker.by_estimator import EstimatorTracker
from fourdgen_ros.tracker.estimator import ObjectImage, gripper_object
from fourdgen_ros.tracker.gripper_model import load_gripper

TASK, FRAMES = 'PlaceAppleFromBowlIntoBin', 5
GRIPPER = load_gripper('panda_hand')
OBJECT = gripper_object(GRIPPER, 0.06)


class NoisyTruth:
    """Knows where the gripper is, but for 2 mm and 0.6 deg on each axis, view and frame."""

    def __init__(self, truth: dict[str, np.ndarray]) -> None:
        self._truth, self._rng = truth, np.random.default_rng(0)
        self._asked = dict.fromkeys(truth, 0)
        self.starts: list[tuple[float, float]] = []

    def track(self, image: ObjectImage, start: np.ndarray) -> np.ndarray:
        """The next frame of this camera."""
        truth = self._truth[image.camera][self._asked[image.camera]]
        self._asked[image.camera] += 1
        self.starts.append(se3.distance(start, truth))
        return truth @ se3.exp(self._rng.normal(size=6) * np.repeat([0.002, 0.01], 3))

    def register(self, image: ObjectImage) -> None:
        """Not needed, or something else is wrong."""
        raise AssertionError('the gripper was lost')


def test_a_true_future_is_followed_as_well_as_the_estimator_sees() -> None:
    cell, copy = Cell(TASK), Cell(TASK)
    cell.reset(0)
    state = cell.state()
    oracle = OracleGenerator(lambda: state, FRAMES - 1, 0.4, 120, 160)
    future = oracle.generate(cell.observe(480, 640), task=TASK, seed=0)
    T_base_tcp, opening = [], []
    for rolled in oracle.roll(TASK, state):
        copy.set_state(rolled)
        T_base_tcp.append(copy.tcp_pose())
        opening.append(copy.opening)
    poses = np.stack(T_base_tcp)
    T_ref_tcp = se3.inverse(cell.T_base_camera(cell.cameras[0])) @ poses
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps.max() > 0.1  # m: far more than FoundationPose finds by itself

    estimator = NoisyTruth({name: se3.inverse(cell.T_base_camera(name)) @ poses
                            @ OBJECT.T_tcp_object for name in cell.cameras})
    result = EstimatorTracker(GRIPPER, OBJECT, estimator).track(future, T_ref_tcp[0], opening[0])
    errors = np.array([se3.distance(a, b) for a, b in zip(result.poses, T_ref_tcp, strict=True)])
    assert errors[:, 0].max() < 0.006
    assert errors[:, 1].max() < 0.03
    assert result.confidence.min() > 0.9
    assert np.abs(result.opening - opening).max() < 0.006
    # It is always asked to begin close by.
    assert np.max(estimator.starts, axis=0)[0] < 0.02
    assert np.max(estimator.starts, axis=0)[1] < 0.1
