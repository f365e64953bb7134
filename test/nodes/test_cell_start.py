# SPDX-License-Identifier: Apache-2.0
"""The cell node's start: simulated time and bad parameters."""

from __future__ import annotations

import pytest
from ros_graph import eventually, parameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.cell import CellNode
from fourdgen_ros.nodes.conversions import stamp_to_ns


def test_faster_than_real_time_the_clock_is_published(graph):
    clocks = graph.listen(Clock, '/clock', qos.SENSOR)
    states = graph.listen(JointState, '/joint_states', qos.SENSOR)
    graph.add(CellNode(**parameters(realtime=False, image_width=64, image_height=48)))
    assert eventually(lambda: len(clocks) > 20 and len(states) > 20, 60.0)
    assert stamp_to_ns(clocks[-1].clock) % 10_000_000 < 4_000_000
    stamps = [stamp_to_ns(m.header.stamp) for m in states]
    assert stamps == sorted(stamps)
    assert stamps[-1] < 3600e9  # simulated time, not that of the wall clock


def test_an_unknown_task_stops_the_start(graph):
    with pytest.raises(InputError, match='PlaceAppleFromBowlIntoBin'):
        CellNode(**parameters(task='Juggle'))
