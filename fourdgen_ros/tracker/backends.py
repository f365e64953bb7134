# SPDX-License-Identifier: Apache-2.0
"""Trackers from the parameters of the node `tracker`, also without ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.tracker.base import Tracker
from fourdgen_ros.tracker.by_estimator import EstimatorTracker
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.estimator import GripperObject, PoseEstimator, gripper_object
from fourdgen_ros.tracker.foundationpose.client import FoundationPose, FoundationPoseOptions
from fourdgen_ros.tracker.fusion import FusionSettings
from fourdgen_ros.tracker.gripper_model import load_gripper

Values = Mapping[str, Any]


def load_tracker(values: Values) -> Tracker:
    """Build the tracker that needs no ROS, and start what it needs.

    `values` are all parameters of the node `tracker` by name (config/tracker.yaml). Raises
    InputError, and MissingDependencyError and TrackingError that say what is not there.
    """
    backend = values['backend']
    if backend == 'embedded':
        return EmbeddedTracker(load_gripper(values['gripper']))
    if backend != 'foundationpose':
        raise InputError('backend', expected='embedded or foundationpose', got=repr(backend),
                         hint='Others need the node `tracker`.')
    return with_estimator(values, lambda tracked: FoundationPose(tracked, FoundationPoseOptions(
        path=values['foundationpose_path'], python=values['foundationpose_python'],
        address=values['foundationpose_address'],
        start_timeout=values['foundationpose_start_timeout'],
        timeout=values['foundationpose_timeout'],
        register_iterations=values['register_iterations'],
        track_iterations=values['track_iterations'])))


def with_estimator(values: Values,
                   make: Callable[[GripperObject], PoseEstimator]) -> EstimatorTracker:
    """Our score, fusion and search around the estimator that `make` makes."""
    gripper = load_gripper(values['gripper'])
    tracked = gripper_object(gripper, values['mesh_opening'])
    return EstimatorTracker(gripper, tracked, make(tracked), fusion=FusionSettings(
        speed=values['max_speed'], turn_rate=values['max_turn_rate'],
        least_confidence=values['least_confidence']))


def tracker_values(file: Path | None = None) -> dict[str, Any]:
    """Parameters of the node `tracker`: those of config/tracker.yaml, overlaid with `file`.

    `file` is a YAML file as ROS reads it. Raises InputError when it has nothing for the tracker.
    """
    values = _section(share_directory() / 'config' / 'tracker.yaml')
    return values if file is None else values | _section(file)


def _section(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        (section,) = (part['ros__parameters'] for node, part in content.items()
                      if node.split('/')[-1] == 'tracker')
        return dict(section)
    except (OSError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f'parameter file {path}', expected='one section /**/tracker with '
                         'ros__parameters, as config/tracker.yaml has it',
                         got=f'{type(error).__name__}: {error}') from error
