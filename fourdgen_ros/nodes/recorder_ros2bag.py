# SPDX-License-Identifier: Apache-2.0
"""Records with `ros2 bag record`, the C++ recorder of ROS, as a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from fourdgen_ros.core.errors import InputError, MissingDependencyError
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.nodes.recorder_recordings import Counts, RecordingError
from fourdgen_ros.nodes.recorder_topics import TopicNames, find_source, wait_for

NODE = 'fourdgen_bag_recorder'  # name of its node, by which its subscriptions are known
PRESETS = {'none': 'none', 'zstd': 'zstd_fast'}  # by the recorder's parameter `compression`
START_TIMEOUT = 20.0  # s until it has subscribed; Python and DDS take their time
STOP_TIMEOUT = 60.0  # s until it has written its cache
WATCH_PERIOD = 0.5  # s
_TAIL = 5  # lines of its output that are told when it fails


class Ros2BagRecording:
    """See `Recording`. It drops and counts messages itself, and tells so in its own output."""

    def __init__(self, owner: StageNode, names: TopicNames, folder: Path, label: str, *,
                 compression: str, publish: Callable[[str], None]) -> None:
        """`publish` publishes a note on the topic `label`, which is recorded like all others.

        Raises MissingDependencyError where there is no `ros2`, InputError for a compression that it
        does not have.
        """
        if compression not in PRESETS:
            raise InputError('compression', expected=f'one of {", ".join(PRESETS)} with backend '
                                                     f'ros2bag', got=compression)
        program = shutil.which('ros2')
        if program is None:
            raise MissingDependencyError(
                'ros2 bag record', expected='the program ros2', got='none in PATH',
                hint='Source ROS (source /opt/ros/jazzy/setup.bash) and install '
                     'ros-jazzy-ros2bag and ros-jazzy-rosbag2-storage-mcap, or set backend: python')
        self.folder = folder
        self.reason: str | None = None
        self.complete = False
        self._owner, self._names, self._publish = owner, names, publish
        self._log = folder.with_name(f'{folder.name}.log')
        self._command = [
            program, 'bag', 'record', '--output', str(folder), '--storage', 'mcap',
            '--storage-preset-profile', PRESETS[compression], '--node-name', NODE,
            '--disable-keyboard-controls',
            *(['--use-sim-time'] if owner.value('use_sim_time') else []),
            '--topics', *names.all, label]
        self._counts = Counts({})
        self._custom_data: dict[str, str] = {}
        self._ending = threading.Event()
        self._process: subprocess.Popen | None = None

    def begin(self, custom_data: Mapping[str, str], note: str, timeout: float,
              guard: Callable[[], str | None], ended: Callable[[], None]) -> None:
        """Start it, and wait until it has subscribed to every required topic.

        Raises RecordingError with what is missing; then nothing is left of the attempt.
        """
        self._custom_data = dict(custom_data)
        absent = wait_for(lambda: [t for t in self._names.required
                                   if find_source(self._owner, t) is None], timeout)
        if absent:
            named = ', '.join(f'{t} ({self._names.required[t]})' for t in absent)
            raise RecordingError(f'cannot record: no publisher of {named}',
                                 hint='Compare `ros2 topic list` with config/recorder.yaml.')
        if wait_for(self._subscribed, START_TIMEOUT):
            raise RecordingError('cannot record: the `ros2 bag record` of a recorder that was '
                                 'killed still runs',
                                 hint=f'End it, and then recover its bag: pkill -INT -f {NODE}')
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True)  # Ctrl-C must reach us first
        silent = wait_for(self._not_subscribed, START_TIMEOUT)
        if silent or self._process.poll() is not None:
            tail = self._tail()
            self._stop()
            for path in (*(self.folder.iterdir() if self.folder.is_dir() else ()), self._log):
                path.unlink()
            with contextlib.suppress(FileNotFoundError):
                self.folder.rmdir()
            raise RecordingError(f'`ros2 bag record` did not begin: {tail}')
        self._publish(note)
        threading.Thread(target=self._watch, args=(guard, ended), daemon=True).start()

    def note(self, text: str) -> None:
        """See `Recording`."""
        self._publish(text)

    def counts(self) -> Counts:
        """See `Recording`; known when it has been finished."""
        return self._counts

    def finish(self, custom_data: Mapping[str, str]) -> None:
        """See `Recording`."""
        self._ending.set()
        self._stop()
        if self.complete:
            bag_metadata.set_custom_data(self.folder, {**self._custom_data, **custom_data})
            content = bag_metadata.read(self.folder)
            self._counts = Counts({t['topic_metadata']['name']: t['message_count']
                                   for t in content['topics_with_message_count']},
                                  duration=content['duration']['nanoseconds'] * 1e-9)
            self._log.unlink(missing_ok=True)

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.complete = (self.folder / bag_metadata.FILE).is_file()
        if not self.complete and self.reason is None:
            self.reason = f'`ros2 bag record` left no metadata.yaml (exit code {code}): ' \
                          f'{self._tail()}'

    def _not_subscribed(self) -> list[str]:
        if self._process.poll() is not None:
            return []
        subscribed = self._subscribed()
        return [topic for topic in self._names.required if topic not in subscribed]

    def _subscribed(self) -> list[str]:
        """The required topics that a `ros2 bag record` of ours listens to."""
        return [topic for topic in self._names.required
                if any(info.node_name == NODE
                       for info in self._owner.get_subscriptions_info_by_topic(topic))]

    def _watch(self, guard: Callable[[], str | None], ended: Callable[[], None]) -> None:
        while not self._ending.wait(WATCH_PERIOD):
            code = self._process.poll()
            reason = guard() if code is None else (
                f'`ros2 bag record` ended with exit code {code}: {self._tail()}')
            if reason is not None and not self._ending.is_set():
                self.reason = reason
                self._stop()
                ended()
                return

    def _tail(self) -> str:
        lines = self._log.read_text('utf-8', errors='replace').splitlines()
        return ' | '.join(lines[-_TAIL:]) or 'it printed nothing'
