# SPDX-License-Identifier: Apache-2.0
"""Topics of a camera by its name."""

from __future__ import annotations

from rclpy.node import Node

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.nodes.base import RCLError


def camera_topic(node: Node, pattern: str, camera: str) -> str:
    """Absolute name, remapped, of the topic `pattern`, in which {camera} is the camera's name.

    Raises InputError for a name or a pattern that makes no topic.
    """
    try:
        if camera:
            return node.resolve_topic_name(pattern.format(camera=camera))
        reason = 'an empty name'
    except (RCLError, KeyError, IndexError, ValueError) as error:
        reason = f'{type(error).__name__}: {error}'
    raise InputError(
        f'topic {pattern!r} of camera {camera!r}', expected='a topic', got=reason,
        hint='Names of cameras are of letters, digits, _ and /; at launch there are spaces between '
             'them, cameras:="cam_left cam_right". {camera} stands for the name.')
