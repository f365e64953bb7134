# SPDX-License-Identifier: Apache-2.0
"""The page as a user has it: in a real browser, with a real execution node behind its buttons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import shown_things as things
from browser import Tab, browser
from robot_server import HOME, Robot, move
from ros_graph import Graph, eventually, parameters

from fourdgen_ros.action import ExecutePlan, PlanMotion
from fourdgen_ros.core.types import MotionPlan
from fourdgen_ros.msg import GeneratedFuture
from fourdgen_ros.msg import GripperTrajectory as GripperTrajectoryMsg
from fourdgen_ros.nodes import conversions
from fourdgen_ros.nodes.execution import ExecutionNode
from fourdgen_ros.nodes.qos import LATCHED
from fourdgen_ros.nodes.tf import StaticTransformPublisher

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope='module')
def open_page() -> Iterator[Callable[[str], Tab]]:
    with browser() as opener:
        yield opener


class Planner:
    """Plans a motion of 60 s, whatever the trajectory."""

    def plan(self, trajectory: Any, joints: Any, opening: float, *, frames: int | None = None,
             now_ns: int, steady_ns: int, skip_passed: bool = False) -> MotionPlan:
        return MotionPlan('plan7', (move(HOME + 0.2, 60.0),), {'workspace': 'inside'},
                          trajectory.stamp, steady_ns + 600 * 10**9, things.FRAMES,
                          trajectory.poses)


def red(pixels: np.ndarray) -> float:
    """How much redder than blue a picture is; frames of the test's future grow redder."""
    return float((pixels[..., 0] - pixels[..., 2]).mean())


def test_the_page_needs_no_internet_and_the_slider_moves_the_cloud(
        open_page: Callable[[str], Tab]) -> None:
    from fourdgen_ros.view.gate import Gate, serve
    from fourdgen_ros.view.hand import load_hand
    from fourdgen_ros.view.page import Outlook, Page

    page = Page(serve('127.0.0.1', 0, Gate('127.0.0.1')), load_hand('panda_hand'),
                Outlook(np.array([0.45, 0, 0]), np.array([0.46, 0.0, 1.5])))
    try:
        page.show_future(things.future(1), things.T_BASE_REF)
        page.show_trajectory(things.trajectory(1))
        tab = open_page(page.url)
        tab.press('Pause')
        slider = tab.page.get_by_role('slider').first
        slider.focus()
        slider.press('Home')
        tab.text('frame 0 of 2')
        first = tab.scene()
        slider.press('End')
        tab.text('frame 2 of 2')
        tab.text('confidence 0.00, fingers 20 mm apart')
        last = tab.scene()
        assert np.abs(first - last).mean() > 1.0
        assert red(last) > red(first) + 1.0
        assert tab.foreign == []
    finally:
        page.close()


@pytest.mark.parametrize('mode', ['confirm'])
def test_confirm_moves_the_robot_and_stop_stops_it(
        mode: str, graph: Graph, open_page: Callable[[str], Tab]) -> None:
    from fourdgen_ros.nodes.view import ViewNode

    robot = graph.add(Robot())
    graph.add(ExecutionNode(Planner(), **parameters(
        execution_mode=mode, heartbeat_timeout=0.0, joint_state_timeout=5.0,
        deviation_distance=0.0, deviation_angle=0.0)))  # the plan's tool path is of something else
    view = graph.add(ViewNode(**parameters(port=0)))
    StaticTransformPublisher(graph.client).send(
        [(things.BASE, things.REFERENCE, things.T_BASE_REF)], time.time_ns())
    stamp = time.time_ns()
    graph.client.create_publisher(GeneratedFuture, 'future', LATCHED).publish(
        conversions.future_to_msg(things.future(stamp), 'f1'))
    trajectory = conversions.gripper_trajectory_to_msg(things.trajectory(stamp), 'f1')
    graph.client.create_publisher(GripperTrajectoryMsg, 'gripper_trajectory', LATCHED).publish(
        trajectory)
    tab = open_page(view.url)
    tab.press('Pause')
    tab.text('of 2,')  # the future has come
    tab.text('tracked with confidence')
    assert graph.act(PlanMotion, 'plan_motion',
                     PlanMotion.Goal(trajectory=trajectory)).error_code == 0
    running = graph.start(ExecutePlan, 'execute_plan', ExecutePlan.Goal(plan_id='plan7'))
    tab.press('Confirm plan plan7')
    assert eventually(lambda: robot.moving)
    tab.text('executing arm segment 1 of 1')
    tab.press('Stop the robot')
    assert running.wait(30.0)
    assert running.result.error_code == ExecutePlan.Result.STOPPED
    assert eventually(lambda: not robot.moving)
    tab.text('stopped; call reset_fault')
    # It stays stopped.
    again = graph.act(PlanMotion, 'plan_motion', PlanMotion.Goal(trajectory=trajectory))
    assert again.error_code == PlanMotion.Result.FAULT
