# SPDX-License-Identifier: Apache-2.0
"""Definitions in bags are those of the installed packages: their hashes say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from fourdgen_ros.core.errors import MissingDependencyError
from fourdgen_ros.nodes.recorder_definitions import definition, message_class


@pytest.mark.parametrize('name', [
    'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/JointState',
    'sensor_msgs/msg/PointCloud2', 'tf2_msgs/msg/TFMessage', 'std_msgs/msg/String',
    'rcl_interfaces/msg/ParameterEvent', 'control_msgs/msg/JointTolerance',
    'fourdgen_ros/msg/GeneratedFuture', 'fourdgen_ros/msg/GripperTrajectory',
    'fourdgen_ros/msg/MotionPlan'])
def test_another_parser_finds_the_hash_that_ros_gave(name: str) -> None:
    package, _, kind = name.split('/')
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition(name), name))
    told = json.loads(Path(get_package_share_directory(package), 'msg', f'{kind}.json').read_text())
    expected = {h['type_name']: h['hash_string'] for h in told['type_hashes']}[name]
    assert store.hash_rihs01(name) == expected
    assert message_class(name).__name__ == kind


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(MissingDependencyError, match='ros-jazzy-nobody-msgs'):
        message_class('nobody_msgs/msg/Thing')
    with pytest.raises(MissingDependencyError, match='Thing'):
        definition('std_msgs/msg/Thing')
