# SPDX-License-Identifier: Apache-2.0
"""What the page does when its buttons are pressed; without a browser and without ROS."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shown_things as things
from ros_graph import eventually
from viser._messages import GuiUpdateMessage

from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.view.gate import Gate, serve
from fourdgen_ros.view.hand import load_hand
from fourdgen_ros.view.page import Actions, Outlook, Page


class Desk:
    """A page with a robot, and somebody in front of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.confirmed: list[str] = []
        self.stopped = threading.Event()
        self.server = serve('127.0.0.1', 0, Gate('127.0.0.1'))
        monkeypatch.setattr(self.server.gui, '_resolve_client', lambda _: object())
        self.page = Page(self.server, load_hand('panda_hand'),
                         Outlook(np.zeros(3), np.array([0.0, 0.0, 1.0])),
                         Actions(self._confirm, self._stop))

    def _confirm(self, plan_id: str) -> str:
        self.confirmed.append(plan_id)
        return 'confirmed'

    def _stop(self) -> str:
        self.stopped.set()
        return 'stopped'

    def change(self, handle: Any, value: Any) -> None:
        """What viser does when a message of a browser comes: a button's value is pressed."""
        asyncio.run_coroutine_threadsafe(self.server.gui._handle_gui_updates(
            0, GuiUpdateMessage(handle._impl.uuid, {'value': value})),
            self.server.get_event_loop()).result(30.0)

    def press(self, handle: Any) -> None:
        self.change(handle, True)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(monkeypatch)
    yield desk
    desk.page.close()


def test_stop_waits_for_no_drawing(desk: Desk) -> None:
    page = desk.page
    page.show_future(things.future(1), things.T_BASE_REF)
    with page._lock:  # as while something large is drawn
        for i in range(40):  # more than viser has threads for what other widgets do
            desk.change(page._slider, things.DT * (i % 3))
            desk.change(page._which, f'future {i}')
        desk.press(page._stop)
        assert desk.stopped.wait(10.0)
    assert eventually(lambda: page._answer.content == 'stopped')


def waiting_for(plan_id: str) -> dict[str, Status]:
    state = f'waiting for the confirmation of plan {plan_id}'
    return {'execution: execution': Status(Level.OK, state, {'mode': 'confirm', 'state': state})}


def test_a_fault_is_marked(desk: Desk) -> None:
    told = 'fault: stopped by a call of ~/stop'
    for level, marked in ((Level.ERROR, True), (Level.OK, False)):
        desk.page.show_statuses({'execution: execution': Status(level, told, {'mode': 'auto'})})
        assert (f'⚠ auto: {told}' in desk.page._state.content) == marked


def show(page: Page, stamp: int, plan_id: str) -> None:
    """A future and its plan, for which the robot waits."""
    page.show_future(things.future(stamp), things.T_BASE_REF)
    page.show_plan(things.plan(stamp, plan_id))
    page.show_statuses(waiting_for(plan_id))


def test_the_plan_on_show_can_be_confirmed(desk: Desk) -> None:
    page = desk.page
    assert page._confirm.disabled
    show(page, 1, 'p1')
    assert (page._confirm.label, page._confirm.disabled) == ('Confirm plan p1', False)
    page.show_plan(things.plan(1, 'p1'))  # latched messages may come again
    desk.press(page._confirm)
    assert eventually(lambda: desk.confirmed == ['p1'])
    page.show_statuses({})
    assert page._confirm.disabled


def test_a_plan_that_is_not_on_show_is_shown_before_it_can_be_confirmed(desk: Desk) -> None:
    page = desk.page
    show(page, 1, 'p1')
    show(page, 2, 'p2')
    desk.change(page._which, page._label(1))  # somebody looks back
    assert eventually(lambda: page._confirm.label == 'Show the plan that waits')
    desk.press(page._confirm)
    assert eventually(lambda: page._confirm.label == 'Confirm plan p2')
    assert page._shown == 2
    assert page._which.value == page._label(2)
    assert desk.confirmed == []
    desk.press(page._confirm)
    assert eventually(lambda: desk.confirmed == ['p2'])


def test_a_press_is_for_the_plan_that_was_on_the_button(desk: Desk) -> None:
    page = desk.page
    show(page, 1, 'p1')
    pressed = page._confirm
    show(page, 2, 'p2')  # while the press is on its way
    desk.press(pressed)
    assert not eventually(lambda: bool(desk.confirmed), 1.0)
    desk.press(page._confirm)
    assert eventually(lambda: desk.confirmed == ['p2'])


def test_a_slider_that_is_moved_pauses_and_shows_where_it_is(desk: Desk) -> None:
    page = desk.page
    page.show_future(things.future(1), things.T_BASE_REF)
    for i in (1, 0, 2):
        desk.change(page._slider, things.DT * i)
    assert eventually(lambda: page._button.label == 'Play'
                      and page._facts.content.startswith('frame 2 of 2'))
    assert page._slider.value == pytest.approx(2 * things.DT)
