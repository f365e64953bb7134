# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the node tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside the tests

from ros_graph import Graph


@pytest.fixture
def graph() -> Iterator[Graph]:
    """A ROS context with an executor and a client, for one test."""
    graph = Graph()
    yield graph
    graph.close()
