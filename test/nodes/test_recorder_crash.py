# SPDX-License-Identifier: Apache-2.0
"""Recorders that are killed or whose disk is full, in processes of their own."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from recorder_cell import CAMERAS, Sources
from ros_graph import Graph, eventually
from rosbags.highlevel import AnyReader

from fourdgen_ros.cli.__main__ import main as fourdgen
from fourdgen_ros.data import bag_metadata
from fourdgen_ros.srv import StartEpisode, StopEpisode

Start = Callable[..., tuple[subprocess.Popen, Path]]


@pytest.fixture
def start(graph: Graph, tmp_path: Path) -> Iterator[Start]:
    """Starts a recorder process and an episode; returns it and the partial folder."""
    processes = []

    def begin(**options) -> tuple[subprocess.Popen, Path]:
        process = subprocess.Popen(
            [sys.executable, '-m', 'fourdgen_ros.nodes.recorder', '--ros-args',
             '-p', f'output_folder:={tmp_path}', '-p', 'min_free_space:=0.0',
             '-p', 'start_timeout:=30.0'], **options)
        processes.append(process)
        response = graph.call(StartEpisode, '/recorder/start',
                              StartEpisode.Request(task='x', name='episode'), timeout=90.0)
        assert response.success, response.message
        return process, tmp_path / '.partial' / 'episode'

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def flushes(bag: Path) -> Callable[[], bool]:
    """Whether the file has grown three times since."""
    file, = bag.glob('*.mcap')
    sizes = {file.stat().st_size}

    def grown() -> bool:
        sizes.add(file.stat().st_size)
        return len(sizes) > 3

    return grown


def recovered(bag: Path) -> dict[str, list[bytes]]:
    """Messages of a bag by topic, as rosbags reads them."""
    found: dict[str, list[bytes]] = {}
    with AnyReader([bag]) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(bytes(data))
    return found


def runs_of(bag: Path, sources: Sources) -> dict[str, tuple[int, int]]:
    """First and last index of each camera topic's messages among those sent; they are contiguous.
    """
    found = {}
    for topic, data in recovered(bag).items():
        if topic in sources.sent and topic != '/tf_static':
            # Between processes DDS fills payloads up to a multiple of 4 bytes.
            sent = [m + bytes(-len(m) % 4) for m in list(sources.sent[topic])]
            first = sent.index(data[0])
            assert data == sent[first:first + len(data)], topic
            found[topic] = first, first + len(data)
    assert set(found) >= {f'/{camera}/color/image_raw' for camera in CAMERAS}
    return found


def test_a_killed_recorder_leaves_all_but_the_last_moment(graph, start, tmp_path):
    sources = graph.add(Sources())
    process, bag = start()
    assert eventually(flushes(bag))
    process.send_signal(signal.SIGKILL)
    process.wait()
    sources.stop()
    before = {p.name: p.read_bytes() for p in bag.iterdir()}
    assert fourdgen(['recover', str(bag)]) == 0
    out = tmp_path / 'episode'
    runs = runs_of(out, sources)
    # Flushed twice a second: at 25 Hz less than two seconds are missing, on a busy machine too.
    for topic, (first, last) in runs.items():
        assert last - first > 10, topic
        assert len(sources.sent[topic]) - last < 50, topic
    assert recovered(out)['/tf_static'] == sources.sent['/tf_static']
    custom = bag_metadata.custom_data(out)
    assert (custom['task'], custom['outcome'], custom['recovered']) == ('x', 'unknown', 'true')
    assert {p.name: p.read_bytes() for p in bag.iterdir()} == before
    assert fourdgen(['recover', str(bag)]) == 1  # nothing is written over


def test_a_full_disk_ends_the_episode_and_keeps_what_was_written(graph, start, tmp_path):
    limit = 3_000_000
    statuses = graph.listen(DiagnosticArray, '/diagnostics')
    sources = graph.add(Sources())

    def no_more() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    _, bag = start(preexec_fn=no_more)
    assert eventually(lambda: any('ended by itself: cannot write' in status.message
                                  for array in list(statuses) for status in array.status), 60.0)
    sources.stop()
    response = graph.call(StopEpisode, '/recorder/stop')
    assert not response.success
    assert 'cannot write: [Errno 27]' in response.message
    assert f'fourdgen recover {bag}' in response.message
    assert fourdgen(['recover', str(bag), '--out', str(tmp_path / 'saved')]) == 0
    assert all(last > first for first, last in runs_of(tmp_path / 'saved', sources).values())
    # The recorder goes on: its name is taken, others are not.
    again = graph.call(StartEpisode, '/recorder/start', StartEpisode.Request(name='episode'))
    assert 'fourdgen recover' in again.message
