# SPDX-License-Identifier: Apache-2.0
"""The messages between the tracker and the process in which FoundationPose runs."""

from __future__ import annotations

import ast
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourdgen_ros.tracker.foundationpose import worker as wire

SOURCE = Path(wire.__file__).read_text(encoding='utf-8')
ARRAYS = st.dictionaries(
    st.text('abcdefgh', min_size=1, max_size=5), max_size=4,
    values=st.sampled_from(['<u1', '<i4', '<f4', '<f8', '>f4', '>f8']).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0,
                                                         max_side=5))))
FIELDS = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=20),
                                                        st.booleans()), max_size=4)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(5.0)
    with ours, theirs:
        yield ours, theirs


def test_the_worker_is_one_file_in_the_syntax_of_python_3_8() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or '').split('.')[0])
    assert names - set(sys.stdlib_module_names) == {'numpy'}
    assert not names & {'pickle', 'shelve', 'marshal'}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(kind=st.text('abc', min_size=1, max_size=9), fields=FIELDS, arrays=ARRAYS)
def test_what_is_sent_is_received(pair, kind, fields, arrays) -> None:
    wire.send(pair[0], wire.Message(kind, fields, arrays))
    message = wire.receive(pair[1])
    assert (message.kind, message.fields) == (kind, fields)
    assert list(message.arrays) == list(arrays)
    for name, array in arrays.items():
        received = message.arrays[name]
        assert received.dtype == array.dtype.newbyteorder('<')
        assert received.flags.writeable  # torch does not like arrays that are not
        np.testing.assert_array_equal(received, array)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cut=st.integers(0, 60), noise=st.binary(max_size=20))
def test_a_message_that_breaks_off_or_is_rubbish_is_never_taken_for_one(cut, noise) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, wire.Message('track', {'iterations': 2}, {'K': np.eye(3)}))
        whole = theirs.recv(1 << 16)
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(whole[:cut] + noise)
        with pytest.raises((EOFError, wire.ProtocolError)):
            wire.receive(theirs)


def test_another_version_is_refused_by_name(pair) -> None:
    wire.send(pair[0], wire.Message('hello'), version=wire.VERSION + 1)
    with pytest.raises(wire.ProtocolError, match=rf'version {wire.VERSION + 1}.*version '
                                                 rf'{wire.VERSION}'):
        wire.receive(pair[1])


def test_somebody_else_at_the_port_is_recognised(pair) -> None:
    pair[0].sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')
    with pytest.raises(wire.ProtocolError, match='does not speak this protocol'):
        wire.receive(pair[1])


def test_no_memory_is_taken_for_a_size_that_is_only_claimed(pair) -> None:
    pair[0].sendall(wire.PREFIX.pack(wire.MAGIC, wire.VERSION, 10, wire.MAX_BODY + 1))
    with pytest.raises(wire.ProtocolError, match='at most'):
        wire.receive(pair[1])
    with pytest.raises(wire.ProtocolError, match='at most'):
        wire.send(pair[0], wire.Message('x' * wire.MAX_HEADER))


@pytest.mark.parametrize('header', [
    b'[]', b'{"a": 1}', b'["a", {}, [["x", "|O", [1]]]]', b'["a", {}, [["x", "<f8", [-1]]]]',
    b'["a", {}, [["x", "<f8", [2]]]]', b'["a", {}, []]', b'[1, {}, [["x", "<f8", [1]]]]',
    b'["a", {}, [["x", "<f8", [1.0]]]]', b'not json', b'\xff\xfe'])
def test_headers_that_do_not_fit_the_body(pair, header) -> None:
    """The body holds one float64; objects are refused, as they would need pickle."""
    pair[0].sendall(wire.PREFIX.pack(wire.MAGIC, wire.VERSION, len(header), 8) + header + bytes(8))
    with pytest.raises(wire.ProtocolError):
        wire.receive(pair[1])


def test_arrays_of_objects_are_not_sent(pair) -> None:
    with pytest.raises(wire.ProtocolError, match='object'):
        wire.send(pair[0], wire.Message('a', arrays={'x': np.array([None])}))


class NoEstimator:
    """Fails as soon as it is asked for anything."""

    def forget(self) -> None:
        """The start of a client."""

    def mesh(self, **arrays: np.ndarray) -> None:
        raise RuntimeError('CUDA out of memory')


def test_a_failure_is_answered_and_does_not_end_the_worker(pair) -> None:
    thread = threading.Thread(target=wire.serve, args=(pair[1], NoEstimator(), '/checkout'))
    thread.start()
    wire.send(pair[0], wire.Message('mesh'))
    answer = wire.receive(pair[0])
    assert (answer.kind, answer.fields['message']) == ('error', 'RuntimeError: CUDA out of memory')
    assert 'Traceback' in answer.fields['details']
    wire.send(pair[0], wire.Message('dance'))
    assert "unknown message 'dance'" in wire.receive(pair[0]).fields['message']
    wire.send(pair[0], wire.Message('hello'))
    assert wire.receive(pair[0]).kind == 'ready'
    wire.send(pair[0], wire.Message('hello'), version=99)
    assert 'version 99' in wire.receive(pair[0]).fields['message']
    thread.join(timeout=5.0)
    assert not thread.is_alive()
