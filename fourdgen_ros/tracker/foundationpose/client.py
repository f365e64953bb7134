# SPDX-License-Identifier: Apache-2.0
"""The estimator that asks a worker (worker.py), started here or already running elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, MissingDependencyError, TrackingError
from fourdgen_ros.tracker.estimator import MIN_VALID, GripperObject, ObjectImage
from fourdgen_ros.tracker.foundationpose import worker as wire
from fourdgen_ros.tracker.foundationpose.process import GUIDE, WORKER, WorkerProcess

Array = NDArray[np.float64]

AGAIN = 'Clean the tracker up and configure it again: that starts a new one.'


@dataclass(frozen=True, kw_only=True)
class FoundationPoseOptions:
    """How to reach FoundationPose and how thoroughly it works.

    Either `path` (checkout) with `python` (interpreter of its environment), or `address`
    ('host:port') of a worker that runs already. start_timeout, timeout: s until it has loaded, and
    for each answer; register_iterations, track_iterations: refinements per call, as in its demo.
    """

    path: str = ''
    python: str = ''
    address: str = ''
    start_timeout: float = 120.0
    timeout: float = 10.0
    register_iterations: int = 5
    track_iterations: int = 2


class FoundationPose:
    """`PoseEstimator` by FoundationPose. One question at a time; thread safe."""

    def __init__(self, gripper: GripperObject, options: FoundationPoseOptions) -> None:
        """Start the worker or connect to it, and tell it what to look for.

        Raises MissingDependencyError when FoundationPose cannot be loaded, and TrackingError when
        it does not answer. Nothing is left running then.
        """
        self._options = options
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None
        if options.address:
            self._connection = _connect(options.address, options.start_timeout)
        else:
            self._process = WorkerProcess(options.path, options.python)
            self._connection = self._process.connection
        try:
            # A checkout that cannot be loaded answers with an error, too.
            self._ask('the start', wire.Message('hello'), options.start_timeout,
                      MissingDependencyError, GUIDE)
            mesh: dict[str, NDArray] = {
                'vertices': np.asarray(gripper.mesh.vertices, np.float64),
                'faces': np.asarray(gripper.mesh.faces, np.int32),
                'symmetries': gripper.symmetries}
            self._ask('the mesh', wire.Message('mesh', arrays=mesh), options.start_timeout,
                      MissingDependencyError, GUIDE)
        except Exception:
            self.close()
            raise

    def register(self, image: ObjectImage) -> Array | None:
        """See `PoseEstimator`."""
        image = image.large_enough()
        if image.valid < MIN_VALID:  # it would answer with an identity for a rotation
            return None
        return self._pose('register', self._options.register_iterations, image,
                          {'mask': image.mask.astype(np.uint8)})

    def track(self, image: ObjectImage, start: Array) -> Array | None:
        """See `PoseEstimator`."""
        return self._pose('track', self._options.track_iterations, image.large_enough(),
                          {'start': np.asarray(start, np.float64)})

    def close(self) -> None:
        """End the worker if it is ours, else leave it to the next client."""
        _hang_up(self._connection)
        if self._process is not None:
            self._process.close()

    def _pose(self, kind: str, iterations: int, image: ObjectImage,
              others: dict[str, NDArray]) -> Array | None:
        arrays: dict[str, NDArray] = {'rgb': image.rgb, 'depth': image.depth, 'K': image.K,
                                      **others}
        question = wire.Message(kind, {'iterations': iterations}, arrays)
        answer = self._ask(f'{kind} in {image.camera}', question, self._options.timeout,
                           TrackingError, '')
        pose = answer.arrays.get('pose')
        if pose is None or pose.shape != (4, 4) or not np.isfinite(pose).all():
            return None
        # Products of float32 rotations are not quite rotations.
        U, _, Vt = np.linalg.svd(pose[:3, :3].astype(float))
        return se3.make(U @ Vt, pose[:3, 3]) if np.linalg.det(U @ Vt) > 0.0 else None

    def _ask(self, what: str, question: wire.Message, timeout: float, failure: type,
             hint: str) -> wire.Message:
        """Put one question. `failure` is the error to raise when the worker answers with one."""
        what = f'FoundationPose: {what}'
        with self._lock:
            try:
                self._connection.settimeout(timeout)
                wire.send(self._connection, question)
                answer = wire.receive(self._connection)
            except TimeoutError as error:
                # A late answer would be taken for that to the next question.
                self._abandon()
                raise TrackingError(what, expected=f'an answer in {timeout:g} s', got='none',
                                    hint=f'Raise the time-out, or see why it is slow. {AGAIN}'
                                    ) from error
            except (EOFError, OSError) as error:
                raise TrackingError(what, expected='a running worker', got=self._ended(),
                                    hint=AGAIN) from error
            except wire.ProtocolError as error:
                self._abandon()
                raise _foreign(what, error) from error
        if answer.kind == 'error':
            text = str(answer.fields.get('message'))
            raise failure(what, got=_shortened(text), hint=hint)
        return answer

    def _ended(self) -> str:
        self._connection.close()
        if self._process is None:
            return f'no connection to {self._options.address} any more'
        return self._process.ended()

    def _abandon(self) -> None:
        self._connection.close()
        if self._process is not None:
            self._process.close(patience=0.0)


def _hang_up(connection: socket.socket) -> None:
    """Close, also for a thread that waits for an answer."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _connect(address: str, timeout: float) -> socket.socket:
    host, _, port = address.rpartition(':')
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError('foundationpose_address', expected='host:port', got=repr(address))
    try:
        connection = socket.create_connection((host, int(port)), timeout=timeout)
    except OSError as error:
        raise TrackingError(
            f'FoundationPose at {address}', expected='a worker that listens', got=str(error),
            hint=f'Start it there: python {WORKER.name} --foundationpose FOLDER --listen '
                 f'127.0.0.1:{port}, and reach another machine by ssh -L {port}:127.0.0.1:{port}.'
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _foreign(what: str, error: wire.ProtocolError) -> TrackingError:
    return TrackingError(what, expected=f'version {wire.VERSION} of the protocol of {WORKER.name}',
                         got=str(error), hint=f'Copy {WORKER.name} of this package to the machine '
                         'where it runs, and start it again.')


def _shortened(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else f'{text[:limit]} ...'
