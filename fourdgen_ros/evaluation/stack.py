# SPDX-License-Identifier: Apache-2.0
"""The stages that one process needs for a road, built from names."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import trimesh
from numpy.typing import NDArray

from fourdgen_ros import __version__
from fourdgen_ros.core import se3
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.sensor_faults import Fault
from fourdgen_ros.evaluation.faulty import build_cell
from fourdgen_ros.evaluation.generators import (
    RGB_ONLY,
    is_policy,
    load_generator,
    model_folder,
)
from fourdgen_ros.evaluation.policy_road import PolicyRoad
from fourdgen_ros.evaluation.road import Road, RoadConfig
from fourdgen_ros.motion.embedded import EmbeddedPlanner
from fourdgen_ros.motion.robot import RobotConfig
from fourdgen_ros.policy.client import PolicyClient
from fourdgen_ros.sim.cameras import FIXED
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.tracker.backends import load_tracker, tracker_values
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.gripper_model import load_gripper
from fourdgen_ros.tracker.silhouette import SilhouetteTracker

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator
    from fourdgen_ros.tracker.base import Tracker

_LIBRARIES = ('numpy', 'scipy', 'torch', 'diffusers', 'mujoco', 'mink', 'pin', 'roboplan-core',
              'small_gicp')

_WRIST_POINTS = 2000  # 4 mm apart


def build_tracker(cell: Cell, generator: Generator, parameters: Path | None = None) -> Tracker:
    """The embedded tracker with the Panda hand; for a generator without depth that of silhouettes,
    which is told where the cameras of `cell` stand; with `parameters`, a parameter file of the node
    `tracker`, the one that it names."""
    if parameters is not None:
        return load_tracker(tracker_values(parameters))
    gripper = load_gripper('panda_hand')
    if generator.name in RGB_ONLY:
        return SilhouetteTracker(
            gripper, lambda: {name: cell.T_base_camera(name) for name in cell.cameras},
            mount=_wrist())
    return EmbeddedTracker(gripper)


def _wrist() -> NDArray[np.float64]:
    """Points (n, 3), m, of the surface of the Panda's last link in the frame of the TCP."""
    mesh = trimesh.load(str(resources.files('fourdgen_ros') / 'assets' / 'franka_panda' / 'assets'
                            / 'link7.stl'), force='mesh')
    points, _ = trimesh.sample.sample_surface(mesh, _WRIST_POINTS, seed=0)
    # the flange is 0.107 m in front of the link's frame, the TCP 0.1034 m in front of the flange
    T_link_tcp = se3.make(se3.exp_so3(np.array([0.0, 0.0, -np.pi / 4])),
                          np.array([0.0, 0.0, 0.107 + 0.1034]))
    return se3.apply(se3.inverse(T_link_tcp), np.asarray(points))


def build_road(task: str, generator: str, config: RoadConfig | None = None,
               on_stage: Callable[[int, str], None] = lambda segment, stage: None,
               camera_set: str = FIXED, fault: Fault | None = None) -> Road:
    """Cell, generator (by name or folder), embedded tracker and planner; or a policy by its folder
    in the place of generator and tracker. With `fault` the cell observes with it."""
    cell = build_cell(task, camera_set, fault)
    robot = RobotConfig.from_yaml(share_directory() / 'config' / 'robots' / 'panda.yaml')
    if is_policy(generator):
        return PolicyRoad(cell, PolicyClient(model_folder(generator)), EmbeddedPlanner(robot),
                          config)
    imagine = load_generator(generator, cell.state)
    return Road(cell, imagine, build_tracker(cell, imagine), EmbeddedPlanner(robot), config,
                on_stage)


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
