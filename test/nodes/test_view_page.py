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


def test_a_slider_that_is_moved_pauses_and_shows_where_it_is(desk: Desk) -> None:
    page = desk.page
    page.show_future(things.future(1), things.T_BASE_REF)
    for i in (1, 0, 2):
        desk.change(page._slider, things.DT * i)
    assert eventually(lambda: page._button.label == 'Play'
                      and page._facts.content.startswith('frame 2 of 2'))
    assert page._slider.value == pytest.approx(2 * things.DT)
