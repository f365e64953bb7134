# SPDX-License-Identifier: Apache-2.0
"""The page in the browser: the imagined clouds in time, the gripper's path, the plan, buttons.

It takes value types and knows no ROS; `nodes/view.py` feeds it from topics, `fourdgen view
--future` from a file. Everything that is shown is shared by all browsers that have it open.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.health import Status
from fourdgen_ros.core.types import Future, GripperTrajectory, MotionPlan
from fourdgen_ros.view import status as words
from fourdgen_ros.view.geometry import Colours, Playback, Points, pixel_size
from fourdgen_ros.view.hand import HandPart
from fourdgen_ros.view.scene import Scene
from fourdgen_ros.view.segment import Picture, Segment, imagined, side_by_side

Array = NDArray[np.float64]
KEPT = 8  # futures that can be looked back at
_CONFIRM = 'Confirm the plan'
_TICK = 0.05  # s
_POINT = 0.65  # of a pixel; surfaces look closed, and the hand's mesh still shows through them


@dataclass(frozen=True)
class Actions:
    """What the buttons do; both return a sentence. `confirm` takes the id of the plan."""

    confirm: Callable[[str], str]
    stop: Callable[[], str]


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is looked at, m in the base frame, z up: `centre` (3,) is a point on the table, `eye`
    (3,) where a browser looks from at first, `box` the edges (12, 2, 3) of the workspace."""

    centre: Array
    eye: Array
    box: Array | None = None


class Page:
    """One page on a viser server; its methods may be called from any thread."""

    def __init__(self, server: Any, hand: Sequence[HandPart], outlook: Outlook,
                 actions: Actions | None = None) -> None:
        """Without `actions` there is no robot, and what would be about one is left out."""
        self._server, self._actions = server, actions
        self._lock = threading.RLock()
        self._segments: OrderedDict[int, Segment] = OrderedDict()
        self._numbers: dict[int, int] = {}
        self._trajectory: GripperTrajectory | None = None  # the newest
        self._plan: MotionPlan | None = None
        self._shown: int | None = None  # stamp of the segment on show
        self._statuses: Mapping[str, Status] = {}
        self._now: Mapping[str, Picture] | None = None
        self._playing_since = time.monotonic()
        self._closing = threading.Event()
        self._moved = threading.Event()  # the slider, by hand
        self._offered: tuple[str, bool] | None = None  # id of the plan on the button, on show
        self._scene = Scene(server.scene, hand, outlook.box, outlook.centre)
        self._build(server.gui)
        camera = server.initial_camera
        camera.up = (0.0, 0.0, 1.0)
        camera.look_at = outlook.centre + (0.0, 0.0, 0.12)
        camera.position = outlook.eye
        self._thread = threading.Thread(target=self._play, name='playback', daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the page."""
        host = self._server.get_host()
        if host in ('0.0.0.0', '::'):
            host = socket.gethostname()
        return f'http://{f"[{host}]" if ":" in host else host}:{self._server.get_port()}'

    def close(self) -> None:
        """End the server."""
        self._closing.set()
        self._thread.join(2.0)
        self._server.stop()

    # --- what is shown --------------------------------------------------------------------------

    def show_future(self, future: Future, T_base_ref: Array) -> None:
        """Show a new future from its first frame on, unless an older one is being looked at."""
        with self._lock:
            newest = next(reversed(self._segments), None)
            self._numbers.setdefault(future.stamp, len(self._numbers) + 1)
            segment = self._segments[future.stamp] = Segment(future, T_base_ref)
            # Latched messages come in any order.
            if self._trajectory is not None and self._trajectory.stamp == future.stamp:
                segment.trajectory = self._trajectory
            if self._plan is not None and self._plan.stamp == future.stamp:
                segment.plan = self._plan
            while len(self._segments) > KEPT:
                self._segments.popitem(last=False)
            if self._shown == newest or self._shown not in self._segments:
                self._select(future.stamp)
            else:
                self._which.options = tuple(self._label(s) for s in self._segments)
            self._update_buttons()

    def show_trajectory(self, trajectory: GripperTrajectory) -> None:
        """Show the path that was tracked through the future of the same stamp."""
        with self._lock:
            self._trajectory = trajectory
            segment = self._segments.get(trajectory.stamp)
            if segment is not None:
                segment.trajectory = trajectory
                self._redraw(trajectory.stamp)

    def show_plan(self, plan: MotionPlan) -> None:
        """Show the plan that follows the future of the same stamp."""
        with self._lock:
            self._plan = plan
            segment = self._segments.get(plan.stamp)
            if segment is not None:
                segment.plan = plan
                self._redraw(plan.stamp)
            self._update_buttons()

    def show_real(self, stamp: int, real: Mapping[int, Mapping[str, Picture]]) -> None:
        """Real pictures, by camera, of executed frames of the future of a stamp."""
        with self._lock:
            segment = self._segments.get(stamp)
            if segment is not None:
                segment.real = dict(real)
                if stamp == self._shown:
                    self._show_pictures()

    def show_live(self, points: Points, colours: Colours,
                  pictures: Mapping[str, Picture]) -> None:
        """What the cameras see now: points (n, 3) in the base frame, and pictures by camera."""
        with self._lock:
            self._now = pictures
            self._scene.show_live(points, colours)
            if self._shown is not None:
                self._show_pictures()

    def show_statuses(self, statuses: Mapping[str, Status]) -> None:
        """How the task, the robot and the stages are."""
        with self._lock:
            self._statuses = statuses
            self._update_buttons()
            mark = '⚠ ' if words.fault(statuses) else ''
            text = (f'**Task** {words.task_text(statuses)}  \n'
                    f'**Robot** {mark}{words.robot_text(statuses)}')
            for problem in words.problems(statuses):
                text += f'  \n⚠ {problem}'
            self._state.content = text

    # --- the panel ------------------------------------------------------------------------------

    def _build(self, gui: Any) -> None:
        gui.configure_theme(control_width='large', show_logo=False, show_share_button=False,
                            dark_mode=True, brand_color=(255, 176, 0))
        gui.main_panel.dock_right()
        gui.set_panel_label('fourdgen_ros')
        robot = self._actions is not None
        self._state = gui.add_markdown(
            'Waiting for the nodes.' if robot else 'A stored future.')
        self._stop = gui.add_button('Stop the robot', color='red', icon='hand-stop', visible=robot,
                                    hint='A software stop, not an emergency stop. It stays stopped '
                                         'until ~/reset_fault is called.')
        self._confirm = gui.add_button(_CONFIRM, color='green', icon='check', visible=robot,
                                       disabled=True)
        self._answer = gui.add_markdown('', visible=robot)
        self._which = gui.add_dropdown('Future', ('none yet',), visible=robot)
        self._slider = gui.add_slider('Time [s]', 0.0, 1.0, 0.1, 0.0)
        self._button = gui.add_button('Pause', icon='player-pause')
        self._facts = gui.add_markdown('Nothing has been imagined yet.')
        self._pictures = gui.add_image(np.full((4, 4, 3), 250, np.uint8), visible=False)
        with gui.add_folder('Show', expand_by_default=False):
            self._views_folder = gui.add_folder('Generated, by view', expand_by_default=True)
            for label, name in (('Live cameras', 'live'), ('Gripper', 'gripper'),
                                ('Tracked path', 'path'), ('Plan', 'plan'),
                                ('Workspace', 'workspace')):
                # The live cloud lies where the imagined one does: one at a time is seen best.
                box = gui.add_checkbox(label, name != 'live', visible=robot or name != 'live')
                box.on_update(lambda event, name=name: self._scene.set_visible(
                    name, event.target.value))
            self._scene.set_visible('live', False)
            self._size = gui.add_slider('Point size [mm]', 1.0, 20.0, 0.5,
                                        self._scene.point_size * 1e3)
            self._size.on_update(lambda event: self._scene.set_point_size(
                event.target.value * 1e-3))
        self._views: dict[str, Any] = {}
        self._slider.on_update(self._on_slider)
        self._button.on_click(lambda _: self._set_playing(not self._playing))
        self._which.on_update(lambda event: self._on_which(event.target.value))
        if robot:
            self._stop.on_click(self._on_stop)

    def _add_views(self, gui: Any, cameras: Sequence[str]) -> None:
        for camera in cameras:
            if camera not in self._views:
                with self._views_folder:
                    box = self._views[camera] = gui.add_checkbox(camera, True)
                box.on_update(lambda event, camera=camera: self._scene.set_visible(
                    f'future/{camera}', event.target.value))

    @property
    def _playing(self) -> bool:
        return self._button.label == 'Pause'

    def _set_playing(self, playing: bool) -> None:
        with self._lock:
            self._button.label = 'Pause' if playing else 'Play'
            self._button.icon = 'player-pause' if playing else 'player-play'
            self._playing_since = time.monotonic() - self._slider.value

    # Coroutines run on viser's event loop, where nothing may wait; all else shares the threads of
    # one pool, and a slider that is dragged could keep all of these waiting for a drawing.

    async def _on_stop(self, _: Any) -> None:
        threading.Thread(target=self._answer_with, args=(self._actions.stop,), name='stop',
                         daemon=True).start()

    async def _on_slider(self, event: Any) -> None:
        if event.client is not None:  # None: set by the playback
            self._moved.set()

    def _on_which(self, label: str) -> None:
        with self._lock:
            for stamp in self._segments:
                if self._label(stamp) == label and stamp != self._shown:
                    self._select(stamp)

    def _on_confirm(self, offered: tuple[str, bool]) -> None:
        with self._lock:
            if offered != self._offered:
                return
            plan_id, on_show = offered
            if not on_show:  # nobody confirms what they have not seen
                self._select(next(reversed(self._segments)))
                return
        self._answer_with(lambda: self._actions.confirm(plan_id))

    def _answer_with(self, action: Callable[[], str]) -> None:
        self._answer.content = '…'
        self._answer.content = action()

    def _pending(self) -> MotionPlan | None:
        """Return the newest plan when it can be confirmed."""
        if not self._segments:
            return None
        plan = next(reversed(self._segments.values())).plan
        return plan if plan is not None and words.waits_for(self._statuses, plan.plan_id) else None

    def _update_buttons(self) -> None:
        plan = self._pending()
        offered = None if plan is None else (plan.plan_id, plan.stamp == self._shown)
        if offered == self._offered:
            return
        self._offered = offered
        label = _CONFIRM if offered is None else (
            f'Confirm plan {offered[0][:8]}' if offered[1] else 'Show the plan that waits')
        # Another button, not another label: a press that is on its way means what it was said on.
        button = self._server.gui.add_button(label, color='green', icon='check',
                                             disabled=offered is None, order=self._confirm.order)
        if offered is not None:
            button.on_click(lambda _: self._on_confirm(offered))
        self._confirm.remove()
        self._confirm = button

    # --- the segment on show ------------------------------------------------------------------

    def _label(self, stamp: int) -> str:
        future = self._segments[stamp].future
        return f'{self._numbers[stamp]}: {future.generator}, seed {future.seed}'

    def _select(self, stamp: int) -> None:
        self._shown = stamp
        future = self._segments[stamp].future
        self._add_views(self._server.gui, future.cameras)
        self._size.value = float(np.clip(1e3 * _POINT * pixel_size(future), 1.0, 20.0))
        self._which.options = tuple(self._label(s) for s in self._segments)
        self._which.value = self._label(stamp)
        self._slider.value = 0.0
        self._slider.max = round((future.frames - 1) * future.dt, 6)
        self._slider.step, self._slider.precision = future.dt, 2
        self._playing_since = time.monotonic()
        self._redraw(stamp)
        self._update_buttons()

    def _redraw(self, stamp: int) -> None:
        if stamp == self._shown:
            self._scene.show_lines(self._segments[stamp])
            self._show_frame()

    def _frame(self) -> int:
        future = self._segments[self._shown].future
        return min(round(self._slider.value / future.dt), future.frames - 1)

    def _show_frame(self) -> None:
        segment = self._segments.get(self._shown)
        if segment is None:
            return
        frame = self._frame()
        with self._server.atomic():
            self._scene.show_frame(segment, frame)
            self._facts.content = _facts(segment, frame)
            self._show_pictures()

    def _show_pictures(self) -> None:
        segment = self._segments.get(self._shown)
        if segment is not None:
            now = self._now if self._shown == next(reversed(self._segments)) else None
            frame = self._frame()
            self._pictures.image = imagined(segment, frame) if self._actions is None else (
                side_by_side(segment, frame, now))
            self._pictures.visible = True

    def _play(self) -> None:
        while not self._closing.wait(_TICK):
            with self._lock:
                if self._moved.is_set():  # however often; where it is now is shown
                    self._moved.clear()
                    self._set_playing(False)
                    self._show_frame()
                segment = self._segments.get(self._shown)
                if segment is None or not self._playing or segment.future.frames < 2:
                    continue
                future = segment.future
                frame = Playback(future.frames, future.dt).frame(
                    time.monotonic() - self._playing_since)
                if frame != self._frame():
                    self._slider.value = round(frame * future.dt, 6)
                    self._show_frame()


def _facts(segment: Segment, frame: int) -> str:
    future, trajectory, plan = segment.future, segment.trajectory, segment.plan
    text = f'frame {frame} of {future.frames - 1}, {frame * future.dt:.1f} s ahead'
    if trajectory is not None and frame < len(trajectory.poses):
        text += (f'  \ntracked with confidence {trajectory.confidence[frame]:.2f}, '
                 f'fingers {1e3 * trajectory.opening[frame]:.0f} mm apart')
    if plan is not None:
        text += (f'  \nplan {plan.plan_id[:8]}: {plan.duration:.1f} s, follows the first '
                 f'{(segment.followed - 1) * future.dt:.1f} s, checks passed: {len(plan.checks)}')
    return text
