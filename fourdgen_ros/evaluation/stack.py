# SPDX-License-Identifier: Apache-2.0
"""The stages that one process needs for a road, built from names."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from fourdgen_ros import __version__
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.evaluation.generators import load_generator, model_folder
from fourdgen_ros.evaluation.road import Road, RoadConfig
from fourdgen_ros.motion.embedded import EmbeddedPlanner
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.sim.cameras import FIXED
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.tracker.backends import load_tracker, tracker_values
from fourdgen_ros.tracker.base import Tracker
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.gripper_model import load_gripper

_LIBRARIES = ('numpy', 'scipy', 'torch', 'diffusers', 'mujoco', 'mink', 'pin', 'roboplan-core')


def build_tracker(parameters: Path | None = None) -> Tracker:
    """The embedded tracker with the Panda hand, or that of a parameter file of the node."""
    if parameters is None:
        return EmbeddedTracker(load_gripper('panda_hand'))
    return load_tracker(tracker_values(parameters))


def build_road(task: str, generator: str, config: RoadConfig | None = None,
               on_stage: Callable[[int, str], None] = lambda segment, stage: None,
               camera_set: str = FIXED) -> Road:
    """Cell, generator (by name or folder), embedded tracker and planner."""
    cell = Cell(task, camera_set=camera_set)
    robot = RobotConfig.from_yaml(share_directory() / 'config' / 'robots' / 'panda.yaml')
    return Road(cell, load_generator(generator, cell.state), build_tracker(),
                EmbeddedPlanner(robot), config, on_stage)


def limit_threads(generator: str) -> None:
    """One torch thread: several processes that each take all cores slow each other down."""
    if model_folder(generator) is not None:
        import torch

        torch.set_num_threads(1)


def versions() -> dict[str, str]:
    """Versions of this package and of what decides its results."""
    found = {'fourdgen_ros': __version__, 'python': platform.python_version(),
             'platform': f'{sys.platform} {platform.machine()}'}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = 'not installed'
    return found
