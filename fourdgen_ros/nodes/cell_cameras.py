# SPDX-License-Identifier: Apache-2.0
"""The cameras of the simulated cell, with the topics of realsense-ros."""

from __future__ import annotations

import threading
import time
import traceback
from concurrent.futures import Future
from dataclasses import dataclass

from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image

from fourdgen_ros.core.types import RgbdView
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.conversions import K_to_camera_info, depth_to_image, rgb_to_image
from fourdgen_ros.sim.cell import Cell, CellState


@dataclass(frozen=True)
class CameraStats:
    """Sets of images published, and left out because drawing took too long; s per set."""

    published: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class _Topics:
    color: Publisher
    depth: Publisher
    info: Publisher


class CellCameras:
    """Draws every camera of a cell at a fixed rate; a part of its loop.

    The loop's thread only takes a snapshot; a thread of its own draws it with a copy of the cell.
    So all images of a set show one instant and bear one stamp, and physics never waits for them.
    Raises what building the copy or drawing the first images raises.
    """

    def __init__(self, node: StageNode, cell: Cell, rate: float, height: int, width: int) -> None:
        self._node, self._height, self._width = node, height, width
        self._period_ns = round(1e9 / rate)
        self._due_ns = 0
        self._snapshot: tuple[int, CellState] | None = None
        self._busy = False
        self._changed = threading.Condition()
        self._stats = CameraStats(0, 0, 0.0)
        self._task = cell.task
        self._topics = {name: _Topics(
            node.create_publisher(Image, f'{name}/color/image_raw', qos.IMAGE),
            node.create_publisher(Image, f'{name}/aligned_depth_to_color/image_raw', qos.IMAGE),
            node.create_publisher(CameraInfo, f'{name}/color/camera_info', qos.IMAGE),
        ) for name in cell.cameras}
        self._stopping = False
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name='cameras',
                                        daemon=True)
        self._thread.start()
        ready.result(60.0)

    def update(self, stamp_ns: int, cell: Cell) -> None:
        """Take a snapshot when the next images are due; in the physics thread."""
        if stamp_ns < self._due_ns:
            return
        # On a grid, so that the rate is exact; a late start does not make a burst.
        self._due_ns = stamp_ns - stamp_ns % self._period_ns + self._period_ns
        with self._changed:
            if self._busy:
                s = self._stats
                self._stats = CameraStats(s.published, s.skipped + 1, s.seconds)
                return
            self._busy = True
            self._snapshot = (stamp_ns, cell.state())
            self._changed.notify()

    def stats(self) -> CameraStats:
        """Counters since the start."""
        return self._stats

    def close(self) -> None:
        """End the thread and the topics."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(5.0)
        for topics in self._topics.values():
            for publisher in (topics.color, topics.depth, topics.info):
                self._node.destroy_publisher(publisher)

    def _run(self, ready: Future[None]) -> None:
        # The first picture takes long and holds up other threads: drawn before physics starts.
        try:
            eyes = Cell(self._task)
            eyes.observe(self._height, self._width)
            ready.set_result(None)
        except Exception as error:
            ready.set_exception(error)
            return
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping or self._snapshot is not None)
                    if self._stopping:
                        return
                    stamp_ns, state = self._snapshot
                    self._snapshot = None
                start = time.monotonic()
                eyes.set_state(state)
                for camera in eyes.cameras:
                    # One after the other: images sent in a burst overrun socket buffers.
                    self._publish(eyes.render(camera, self._height, self._width), stamp_ns)
                with self._changed:
                    self._busy = False
                    self._stats = CameraStats(self._stats.published + 1, self._stats.skipped,
                                              time.monotonic() - start)
        except Exception:
            self._node.get_logger().fatal(f'cameras have stopped:\n{traceback.format_exc()}')
            raise

    def _publish(self, view: RgbdView, stamp_ns: int) -> None:
        topics = self._topics[view.camera]
        topics.color.publish(rgb_to_image(view.rgb, stamp_ns, view.frame_id))
        topics.depth.publish(depth_to_image(view.depth, stamp_ns, view.frame_id))
        topics.info.publish(K_to_camera_info(view.K, *view.size, stamp_ns, view.frame_id))
