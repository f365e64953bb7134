# SPDX-License-Identifier: Apache-2.0
"""The player node: a bag in place of cameras and robot, where there is no `ros2 bag play`."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from fourdgen_ros.core.errors import InputError, MissingDependencyError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.nodes.base import StageNode, run_node
from fourdgen_ros.nodes.conversions import ns_to_stamp
from fourdgen_ros.nodes.player_bag import PlayedBag
from fourdgen_ros.nodes.recorder_definitions import message_class
from fourdgen_ros.nodes.recorder_topics import IMAGES

CLOCK_PERIOD = 0.01  # s
LATE = 0.2  # s behind its time from which on a message is worth a warning


class PlayerNode(StageNode):
    """Publishes the messages of a bag, as they are, when they were received, at a rate.

    It goes by the steady clock; with `publish_clock` it is the clock of all others. After the end
    time goes on and latched topics stay.
    """

    def __init__(self, **options: Any) -> None:
        """`options` go to `rclpy.node.Node`. Raises what `PlayedBag` does."""
        super().__init__('player', **options)
        folder = self.parameter('bag', '', 'Folder of the bag.')
        self._rate = self.parameter('rate', 1.0, 'Seconds of the bag per second.',
                                    low=0.01, high=100.0)
        exclude = self.parameter(
            'exclude', ['future', 'gripper_trajectory', 'plan', '/clock', '/diagnostics'],
            'Topics that are not played: what nodes that run now publish themselves.')
        self._makes_time = self.parameter(
            'publish_clock', True, 'Publish the time of the bag on /clock; set use_sim_time for '
                                   'all other nodes. If false they see old stamps.')
        self._patience = self.parameter(
            'wait_for_subscribers', 0.0, 's to wait until somebody subscribes to every image '
                                         'before it begins; 0: do not wait.', low=0.0, high=600.0)
        if not folder:
            raise InputError('parameter bag', expected='the folder of a bag', got='nothing')
        self._bag = PlayedBag(Path(os.path.expanduser(folder)))
        excluded = {self.resolve_topic_name(topic) for topic in exclude}
        self._pubs: dict[str, Publisher] = {}
        self._images: list[Publisher] = []
        for topic in self._bag.topics:
            if topic.name not in excluded and topic.name not in self._pubs:
                self._add(topic)
        if not self._pubs:
            raise InputError(f'bag {folder}', expected='topics whose types are installed and that '
                                                       'are not excluded', got='none')
        self._clock_publisher = self.create_publisher(Clock, '/clock', 10)
        self._begun = threading.Event()
        self._began = 0.0  # s of the steady clock
        self.played, self._latest, self.ended = 0, 0.0, threading.Event()
        self._damage = ''  # why it ended before the end of the bag
        self._threads = [threading.Thread(target=target, daemon=True)
                         for target in (self._play, self._tick)]
        self.report(lambda: {'player': self._status()})

    def start(self) -> None:
        """Begin to play."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop playing."""
        super().close()
        self._begun.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._bag.__exit__()

    def _add(self, topic: Any) -> None:
        try:
            kind = message_class(topic.type)
        except MissingDependencyError as error:
            self.get_logger().error(f'{topic.name} is not played: {error}')
            return
        self._pubs[topic.name] = self.create_publisher(kind, topic.name, topic.qos)
        if topic.type in IMAGES:
            self._images.append(self._pubs[topic.name])

    def _play(self) -> None:
        self._wait_for_subscribers()
        self._began = time.monotonic()
        self._begun.set()
        try:
            for topic, log_ns, data in self._bag.messages(set(self._pubs)):
                due = self._began + (log_ns - self._bag.start_ns) * 1e-9 / self._rate
                if self.closing.wait(max(0.0, due - time.monotonic())):
                    return
                self._latest = max(self._latest, time.monotonic() - due)
                self._pubs[topic].publish(data)
                self.played += 1
        except InputError as error:
            self._damage = str(error)
            self.get_logger().error(f'ended after {self.played} messages: {error}')
            return
        self.get_logger().info(f'played {self.played} messages')
        self.ended.set()

    def _wait_for_subscribers(self) -> None:
        end = time.monotonic() + self._patience
        while any(p.get_subscription_count() == 0 for p in self._images):
            if time.monotonic() >= end:
                if self._patience > 0:
                    names = ', '.join(p.topic_name for p in self._images
                                      if p.get_subscription_count() == 0)
                    self.get_logger().warning(f'nobody subscribes to {names}; playing')
                return
            if self.closing.wait(0.05):
                return

    def _tick(self) -> None:
        self._begun.wait()
        while self._makes_time and not self.closing.wait(CLOCK_PERIOD):
            now = self._bag.start_ns + round(
                (time.monotonic() - self._began) * self._rate * 1e9)
            self._clock_publisher.publish(Clock(clock=ns_to_stamp(now)))

    def _status(self) -> Status:
        values = {'messages': self.played, 'greatest delay [s]': f'{self._latest:.3f}'}
        if self._damage:
            return Status(Level.ERROR, self._damage, values)
        if self.ended.is_set():
            return Status(Level.OK, 'ended', values)
        if not self._begun.is_set():
            return Status(Level.OK, 'waits for subscribers', values)
        if self._latest > LATE:
            return Status(Level.WARN, f'up to {self._latest:.1f} s late: play at a lower rate',
                          values)
        return Status(Level.OK, 'playing', values)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_node(PlayerNode, args)


if __name__ == '__main__':
    sys.exit(main())
