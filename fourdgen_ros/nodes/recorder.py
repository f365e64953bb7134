# SPDX-License-Identifier: Apache-2.0
"""The recorder node: episodes as rosbag2 folders, started and stopped by services."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from std_msgs.msg import String

from fourdgen_ros.core.errors import FourdgenError, InputError
from fourdgen_ros.core.health import Level, Status
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.data.bag_writer import COMPRESSIONS, BagWriter
from fourdgen_ros.nodes import qos
from fourdgen_ros.nodes.base import StageNode, run_node
from fourdgen_ros.nodes.recorder_episodes import EpisodeFolders
from fourdgen_ros.nodes.recorder_labels import Episode, Label, summary
from fourdgen_ros.nodes.recorder_python import PythonRecording
from fourdgen_ros.nodes.recorder_recordings import Recording, RecordingError
from fourdgen_ros.nodes.recorder_ros2bag import Ros2BagRecording
from fourdgen_ros.nodes.recorder_topics import TopicNames, topic_names, wait_for
from fourdgen_ros.srv import DiscardEpisode, LabelEpisode, StartEpisode, StopEpisode

GB = 10**9
KINDS = {'colour': 'color_topic', 'depth': 'depth_topic', 'camera info': 'info_topic'}


class RecorderNode(StageNode):
    """Serves ~/start, ~/stop, ~/discard and ~/label; publishes the label on ~/episode."""

    def __init__(self, **options: Any) -> None:
        """`options` go to `rclpy.node.Node`."""
        super().__init__('recorder', **options)
        folder = self.parameter('output_folder', '~/episodes', 'Folder of the episodes.')
        cameras = self.parameter('cameras', ['cam_left', 'cam_right'], 'Names of the cameras.')
        patterns = {kind: self.parameter(name, default, f'{kind.capitalize()} of each camera; '
                                                        f'{{camera}} is replaced by its name.')
                    for (kind, name), default in zip(KINDS.items(), (
                        '{camera}/color/image_raw', '{camera}/aligned_depth_to_color/image_raw',
                        '{camera}/color/camera_info'), strict=True)}
        topics = self.parameter('topics', ['/joint_states', '/tf', '/tf_static'],
                                'Further topics, without which no episode begins.')
        optional = self.parameter('optional_topics', ['future', 'gripper_trajectory', 'plan'],
                                  'Topics that are recorded where somebody publishes them.')
        self._backend = self.parameter(
            'backend', 'python', 'python: this process writes; ros2bag: `ros2 bag record` does.',
            choices=('python', 'ros2bag'))
        self._compression = self.parameter(
            'compression', 'none', 'How chunks of messages are compressed.', choices=COMPRESSIONS)
        self._queue_bytes = 10**6 * self.parameter(
            'queue_size', 512, 'MB of messages that may wait for the disk; more are dropped and '
                               'counted.', low=1, high=65536)
        self._depth = self.parameter(
            'input_depth', 100, 'Images per topic that may wait in DDS; ten times as many of all '
                                'other messages.', low=1, high=10000)
        self._timeout = self.parameter('start_timeout', 5.0, 's for every topic to be heard before '
                                                             'a start is refused.',
                                       low=0.1, high=120.0)
        self.parameter('min_free_space', 5.0, 'GB on the disk below which no episode begins, and '
                                              'one that is being recorded ends.',
                       low=0.0, high=1e6, dynamic=True)
        self._folders = EpisodeFolders(Path(os.path.expanduser(folder)))
        self._names: TopicNames = topic_names(self, cameras, patterns, topics, optional)
        self._topic = self.resolve_topic_name('~/episode')
        self._label_publisher = self.create_publisher(String, '~/episode', qos.LATCHED)
        self._lock = threading.Lock()  # one service at a time
        self._episode: Episode | None = None
        self._last = ''  # name of the last episode that was kept
        for service, name, call in (
                (StartEpisode, 'start', self._start), (StopEpisode, 'stop', self._stop),
                (DiscardEpisode, 'discard', self._discard), (LabelEpisode, 'label', self._relabel)):
            self.create_service(service, f'~/{name}', self._answer(call), callback_group=self.group)
        self.report(self._statuses)

    def start(self) -> None:
        """Make the output folder, and tell what a recorder left that was killed."""
        self._folders.make()
        for path in self._folders.leftovers():
            if path.is_dir():
                self.get_logger().warning(f'{path} was not finished: fourdgen recover {path}')
        self.get_logger().info(f'episodes go to {self._folders.root}, {len(self._names.required)} '
                               f'topics each')

    def close(self) -> None:
        """Finish the episode that is being recorded."""
        super().close()
        with self._lock:
            if self._episode is not None and self._episode.path is None:
                self.get_logger().warning(f'keeping {self._episode.name}: the recorder ends')
                self._finish_alone(self._episode, 'the recorder was ended')

    # --- services -----------------------------------------------------------------------------

    def _answer(self, call: Callable[[Any, Any], str]) -> Callable[[Any, Any], Any]:
        """A service callback whose response tells what went wrong."""

        def callback(request: Any, response: Any) -> Any:
            try:
                with self._lock:
                    response.message = call(request, response)
                response.success = True
            except Exception as error:  # whatever it is, the operator is told
                expected = isinstance(error, (FourdgenError, OSError))
                self.get_logger().error(str(error) if expected else traceback.format_exc())
                response.success, response.message = False, f'{type(error).__name__}: {error}'
            return response

        return callback

    def _start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> str:
        if self._episode is not None:
            raise RecordingError(f'episode {self._episode.name!r} has not been stopped',
                                 hint='Call ~/stop or ~/discard first.')
        low = self._too_little_space()
        if low is not None:
            raise RecordingError(f'cannot record: {low}')
        self._require_time()
        now = datetime.now(UTC)
        name = self._folders.new_name(request.name, request.task, datetime.now())
        label = Label(request.task, request.text)
        data = {**label.data(), 'started': now.isoformat(timespec='milliseconds'),
                'backend': self._backend}
        recording = self._begin(self._folders.partial(name), data, label.note())
        self._episode = Episode(name, label, recording)
        response.path = str(self._folders.final(name))
        self.get_logger().info(f'recording {name}')
        return f'recording {name}'

    def _require_time(self) -> None:
        """Raise RecordingError where simulated time does not run: all log times would be 0."""
        if wait_for(lambda: ['/clock'] if self.get_clock().now().nanoseconds == 0 else [],
                    self._timeout):
            raise RecordingError('cannot record: use_sim_time is set and nobody publishes /clock',
                                 hint='Start what simulates or plays, or set use_sim_time: false.')

    def _begin(self, folder: Path, data: Mapping[str, str], note: str) -> Recording:
        if self._backend == 'ros2bag':
            recording = Ros2BagRecording(self, self._names, folder, self._topic,
                                         compression=self._compression, publish=self._publish)
            recording.begin(data, note, self._timeout, self._too_little_space, self._ended)
            return recording
        recording = PythonRecording(self, self._names, folder, self._topic,
                                    input_depth=self._depth, queue_bytes=self._queue_bytes)
        recording.begin(data, self._open_writer, note, self._timeout, self._too_little_space,
                        self._ended)
        self._publish(note)
        return recording

    def _open_writer(self, folder: Path, custom_data: Mapping[str, str]) -> BagWriter:
        return BagWriter(folder, custom_data, compression=self._compression,
                         distro=os.environ.get('ROS_DISTRO', 'jazzy'))

    def _stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> str:
        episode = self._require_episode()
        episode.label = episode.label.changed(outcome=request.outcome)
        problem = ''
        try:
            if episode.path is None:
                self._finish(episode, {})
            elif episode.recording.complete:
                bag_metadata.set_custom_data(episode.path, episode.label.data())
        except (FourdgenError, OSError) as error:
            problem = f'could not be finished: {error}'
        self._episode = None  # also where the disk fails, or none could follow
        counts, reason = episode.recording.counts(), episode.recording.reason
        if reason is not None and not problem:
            problem = f'ended by itself: {reason}'
        response.path, response.duration = str(episode.path), counts.duration
        response.topics = sorted(counts.recorded)
        for field in ('recorded', 'dropped', 'lost'):
            setattr(response, field, [getattr(counts, field).get(t, 0) for t in response.topics])
        text = summary(counts)
        kept = episode.path == self._folders.final(episode.name)
        if kept:
            self._last = episode.name
        if problem:
            state = 'kept' if kept else f'to recover it: fourdgen recover {episode.path}'
            raise RecordingError(f'{episode.name} {problem}; {state}; {text}')
        self.get_logger().info(f'kept {episode.name}: {text}')
        return text

    def _discard(self, request: DiscardEpisode.Request, _: DiscardEpisode.Response) -> str:
        episode = self._episode
        if episode is not None and request.name in ('', episode.name):
            if episode.path is None:
                with contextlib.suppress(FourdgenError, OSError):  # it is deleted all the same
                    episode.recording.finish({})
            self._episode = None
            folder = episode.path or episode.recording.folder
            self._folders.discard(folder)
            return f'deleted {folder}'
        folder = self._folders.find(self._named_or_last(request.name))
        self._folders.discard(folder)
        return f'deleted {folder}'

    def _relabel(self, request: LabelEpisode.Request, _: LabelEpisode.Response) -> str:
        changes = {key: getattr(request, key) for key in ('task', 'text', 'outcome')}
        episode = self._episode
        if episode is not None and request.name in ('', episode.name):
            episode.label = episode.label.changed(**changes)
            if episode.path is None:
                self._note(episode)
            return f'{episode.name}: {episode.label.data()}'
        name = self._named_or_last(request.name)
        folder = self._folders.find(name)
        data = bag_metadata.custom_data(folder)
        label = Label(*(data.get(key, '') for key in ('task', 'text', 'outcome')))
        bag_metadata.set_custom_data(folder, label.changed(**changes).data())
        return f'{name}: {label.changed(**changes).data()}'

    def _named_or_last(self, name: str) -> str:
        if not name and not self._last:
            raise InputError('name', expected='the folder of an episode',
                             got='none, and none was recorded since the start')
        return name if name else self._last

    def _require_episode(self) -> Episode:
        if self._episode is None:
            raise RecordingError('nothing is being recorded', hint='Call ~/start first.')
        return self._episode

    # --- an episode ---------------------------------------------------------------------------

    def _note(self, episode: Episode) -> None:
        episode.recording.note(episode.label.note())
        if self._backend == 'python':
            self._publish(episode.label.note())

    def _publish(self, text: str) -> None:
        self._label_publisher.publish(String(data=text))

    def _finish(self, episode: Episode, data: Mapping[str, str]) -> None:
        """End the recording and give its folder the final name."""
        recording = episode.recording
        self._note(episode)
        try:
            recording.finish({**episode.label.data(), **data})
            if recording.complete:
                counts = recording.counts()
                losses = {field: json.dumps({t: n for t, n in getattr(counts, field).items() if n})
                          for field in ('dropped', 'lost')}
                bag_metadata.set_custom_data(recording.folder, {
                    **losses, 'queue_high_water': str(counts.queue_high_water)})
                episode.path = self._folders.keep(episode.name)
        finally:
            if episode.path is None:
                episode.path = recording.folder

    def _finish_alone(self, episode: Episode, reason: str) -> None:
        """The same where nobody called who could be told."""
        try:
            self._finish(episode, {'ended_by': reason})
        except (FourdgenError, OSError) as error:
            self.get_logger().error(str(error))

    def _ended(self) -> None:
        """A recording ended by itself; called in a thread that it waits for."""
        threading.Thread(target=self._take_note_of_the_end, daemon=True).start()

    def _take_note_of_the_end(self) -> None:
        with self._lock:
            episode = self._episode
            if episode is None or episode.path is not None or episode.recording.reason is None:
                return
            self.get_logger().error(f'{episode.name} ended: {episode.recording.reason}')
            self._finish_alone(episode, episode.recording.reason)

    def _too_little_space(self) -> str | None:
        try:
            free, least = self._folders.free_bytes() / GB, self.value('min_free_space')
        except InputError as error:
            return str(error)
        if free < least:
            return f'{free:.1f} GB free in {self._folders.root}, expected at least {least:g} ' \
                   f'(parameter min_free_space)'
        return None

    # --- diagnostics --------------------------------------------------------------------------

    def _statuses(self) -> dict[str, Status]:
        episode, low = self._episode, self._too_little_space()
        return {'episode': episode.status() if episode is not None else Status(
                    Level.OK, 'not recording'),
                'disk': Status(Level.ERROR, low) if low is not None else Status(
                    Level.OK, f'{self._folders.free_bytes() / GB:.1f} GB free')}


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_node(RecorderNode, args)


if __name__ == '__main__':
    sys.exit(main())
