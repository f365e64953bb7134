#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The process in which a checkout of NVlabs/FoundationPose runs, and the messages it speaks.

It runs in the environment of FoundationPose (Python 3.8 or newer), so this one file needs only
numpy and what FoundationPose itself imports; it may be copied to another machine and started there:

    python worker.py --foundationpose ~/FoundationPose --listen 127.0.0.1:5577

FoundationPose changes torch's default tensor type and seeds every random generator. Here that
harms nobody. Nothing of FoundationPose is contained in this file.

A message is a prefix (magic, protocol version, sizes), a JSON header `[kind, fields, arrays]` and
the raw bytes of the arrays; the prefix stays as it is in every version. Each question of the client
gets one answer:

    hello                                                  -> ready {python, foundationpose}
    mesh vertices (n, 3), faces (m, 3), symmetries (s, 4, 4) -> done
    register {iterations} rgb, depth, K, mask              -> pose {found} pose (4, 4) if found
    track {iterations} rgb, depth, K, start (4, 4)         -> pose {found} pose (4, 4)
    anything that fails                                    -> error {message, details}

rgb (H, W, 3) uint8 in the order RGB, depth (H, W) float32 m with 0 for unknown, K (3, 3) px, mask
(H, W) uint8; poses are T_camera_object in m, vertices in m in the frame of the object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import platform
import socket
import struct
import sys
import tempfile
import traceback
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
MAGIC = b'4DFP'
PREFIX = struct.Struct('!4sHIQ')  # magic, version, bytes of the header, bytes of the arrays
MAX_HEADER = 1 << 16
MAX_BODY = 1 << 28
DTYPES = ('|u1', '<i4', '<f4', '<f8')


class ProtocolError(Exception):
    """What came is not a message of this protocol."""


class Message(NamedTuple):
    """`kind`, JSON `fields` and named arrays."""

    kind: str
    fields: dict[str, Any] = {}  # noqa: RUF012 - nobody changes them
    arrays: dict[str, np.ndarray] = {}  # noqa: RUF012


def send(connection: socket.socket, message: Message, version: int = VERSION) -> None:
    """Send one message. Raises ProtocolError when it is too large or of a type without a name."""
    blocks, described = [], []
    for name, array in message.arrays.items():
        array = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
        if array.dtype.str not in DTYPES:
            raise ProtocolError(f'array {name} is {array.dtype}')
        blocks.append(array.tobytes())
        described.append([name, array.dtype.str, list(array.shape)])
    header = json.dumps([message.kind, message.fields, described]).encode()
    size = sum(len(block) for block in blocks)
    _check_size(len(header), size)
    connection.sendall(PREFIX.pack(MAGIC, version, len(header), size) + header)
    for block in blocks:
        connection.sendall(block)


def receive(connection: socket.socket) -> Message:
    """Read one message. Raises EOFError when the other end is gone, ProtocolError for rubbish."""
    magic, version, header_size, size = PREFIX.unpack(_exactly(connection, PREFIX.size))
    if magic != MAGIC:
        raise ProtocolError(f'the other end does not speak this protocol: it sent {magic!r}')
    if version != VERSION:
        raise ProtocolError(f'the other end speaks version {version} of the protocol, this one '
                            f'version {VERSION}')
    _check_size(header_size, size)
    header, body = _exactly(connection, header_size), _exactly(connection, size)
    try:
        kind, fields, described = json.loads(header.decode())
        arrays, start = {}, 0
        for name, dtype, shape in described:
            if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
                raise ProtocolError(f'array {name}: dtype {dtype!r}, shape {shape!r}')
            count = 1
            for n in shape:
                count *= n
            end = start + count * np.dtype(dtype).itemsize
            if end > size:
                raise ProtocolError(f'array {name} ends behind the message')
            # A copy: what is read from bytes cannot be written to, which torch does not like.
            arrays[name] = np.frombuffer(body[start:end], dtype).reshape(shape).copy()
            start = end
        if start != size or not (isinstance(kind, str) and isinstance(fields, dict)):
            raise ProtocolError('the header does not describe what follows')
    except (ValueError, TypeError) as error:
        raise ProtocolError(f'a header that cannot be read: {error}') from error
    return Message(kind, fields, arrays)


def _check_size(header: int, body: int) -> None:
    if header > MAX_HEADER or body > MAX_BODY:
        raise ProtocolError(f'a message of {header} + {body} bytes; at most {MAX_HEADER} + '
                            f'{MAX_BODY} are allowed')


def _exactly(connection: socket.socket, count: int) -> bytes:
    blocks = []
    while count:
        block = connection.recv(min(count, 1 << 20))
        if not block:
            raise EOFError
        blocks.append(block)
        count -= len(block)
    return b''.join(blocks)


class Estimator:
    """FoundationPose behind the questions above; keeps the mesh, but no pose, between them."""

    def __init__(self, checkout: str, debug_dir: str) -> None:
        """Import the checkout and load the weights that lie in it."""
        self._debug_dir = debug_dir
        # The folder of this file would come first otherwise.
        sys.path[0] = checkout
        os.chdir(checkout)
        self._api = importlib.import_module('estimater')
        logging.getLogger().setLevel(logging.WARNING)  # it logs a dozen lines a frame
        # Their absence is swallowed at import and shows as an odd error much later.
        for name, hint in (('mycpp', 'run its build_all.sh'), ('wp', 'pip install warp-lang'),
                           ('kornia', 'pip install kornia')):
            if getattr(self._api, name, None) is None:
                raise RuntimeError(f'FoundationPose has not found {name}: {hint}')
        self._scorer = self._api.ScorePredictor()
        self._refiner = self._api.PoseRefinePredictor()
        self._glctx = self._api.dr.RasterizeCudaContext()
        self._object = None  # type: Any

    def forget(self) -> None:
        """Begin anew: what another client looked for is no business of the next."""
        self._object = None

    def mesh(self, vertices: np.ndarray, faces: np.ndarray, symmetries: np.ndarray) -> None:
        """Set what is looked for."""
        _check('vertices', vertices, np.float64, (None, 3))
        _check('faces', faces, np.int32, (None, 3))
        _check('symmetries', symmetries, np.float64, (None, 4, 4))
        mesh = self._api.trimesh.Trimesh(vertices, faces, process=False)
        self._object = self._api.FoundationPose(
            model_pts=mesh.vertices, model_normals=mesh.vertex_normals, symmetry_tfs=symmetries,
            mesh=mesh, scorer=self._scorer, refiner=self._refiner, glctx=self._glctx, debug=0,
            debug_dir=self._debug_dir)
        # It leaves a copy of each mesh in the folder for temporary files.
        path = getattr(self._object, 'mesh_path', None)
        if path and os.path.isfile(path):
            os.remove(path)

    def register(self, rgb: np.ndarray, depth: np.ndarray, K: np.ndarray, mask: np.ndarray,
                 iterations: int) -> Any:
        """Pose from the mask alone; None when too little of it has depth."""
        found = self._ready(rgb, depth, K, iterations)
        _check('mask', mask, np.uint8, depth.shape)
        # With fewer than four pixels left after its own erosion of the depth, it returns an
        # identity for a rotation and says nothing; but it does not set this.
        found.pose_last = None
        pose = found.register(K=K, rgb=rgb, depth=depth, ob_mask=mask > 0, iteration=iterations)
        return None if found.pose_last is None else _matrix(pose)

    def track(self, rgb: np.ndarray, depth: np.ndarray, K: np.ndarray, start: np.ndarray,
              iterations: int) -> Any:
        """Pose near `start`."""
        found = self._ready(rgb, depth, K, iterations)
        _check('start', start, np.float64, (4, 4))
        # pose_last is that of the mesh moved to its centre, a float32 tensor on the GPU.
        centred = found.get_tf_to_centered_mesh()
        found.pose_last = centred.new_tensor(start @ np.linalg.inv(_matrix(centred.cpu().numpy())))
        return _matrix(found.track_one(rgb=rgb, depth=depth, K=K, iteration=iterations))

    def _ready(self, rgb: np.ndarray, depth: np.ndarray, K: np.ndarray, iterations: int) -> Any:
        if self._object is None:
            raise ProtocolError('no mesh has been sent')
        _check('depth', depth, np.float32, (None, None))
        _check('rgb', rgb, np.uint8, (depth.shape[0], depth.shape[1], 3))
        _check('K', K, np.float64, (3, 3))
        if type(iterations) is not int or iterations < 1:
            raise ProtocolError(f'iterations: expected at least 1, got {iterations!r}')
        return self._object


def _check(name: str, array: np.ndarray, dtype: Any, shape: Any) -> None:
    fits = array.ndim == len(shape) and all(
        shape[i] is None or shape[i] == array.shape[i] for i in range(len(shape)))
    if array.dtype != dtype or not fits:
        raise ProtocolError(f'{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} '
                            f'{array.shape}')


def _matrix(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(4, 4)


def answer(estimator: Estimator, question: Message, checkout: str) -> Message:
    """Do what one message asks."""
    kind, fields, arrays = question
    if kind == 'hello':
        estimator.forget()
        return Message('ready', {'python': platform.python_version(),
                                 'foundationpose': checkout})
    if kind == 'mesh':
        estimator.mesh(**arrays)
        return Message('done')
    if kind in ('register', 'track'):
        pose = getattr(estimator, kind)(iterations=fields.get('iterations'), **arrays)
        return Message('pose', {'found': pose is not None}, {} if pose is None else {'pose': pose})
    raise ProtocolError(f'unknown message {kind!r}')


def failure(error: BaseException) -> Message:
    """The answer to what has failed."""
    return Message('error', {'message': f'{type(error).__name__}: {error}',
                             'details': traceback.format_exc()[-4000:]})


def serve(connection: socket.socket, estimator: Estimator, checkout: str) -> None:
    """Answer one client until it goes."""
    try:
        while True:
            try:
                question = receive(connection)
            except ProtocolError as error:
                send(connection, failure(error))
                return  # where the next message would begin is not known any more
            try:
                reply = answer(estimator, question, checkout)
            except Exception as error:
                reply = failure(error)
            send(connection, reply)
    except (EOFError, OSError):
        return  # the client has gone


def main() -> int:
    """Serve the client at the other end of a socket, or one after another at an address."""
    parser = argparse.ArgumentParser(description='FoundationPose for fourdgen_ros.')
    parser.add_argument('--foundationpose', required=True, metavar='FOLDER',
                        help='checkout of NVlabs/FoundationPose with its weights')
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--fd', type=int, help='a connected socket that was inherited')
    where.add_argument('--listen', metavar='HOST:PORT',
                       help='address to wait at. There is no password: keep it on 127.0.0.1 and '
                            'reach it through an ssh tunnel')
    args = parser.parse_args()
    checkout = os.path.abspath(os.path.expanduser(args.foundationpose))
    connection = None if args.fd is None else socket.socket(fileno=args.fd)
    with tempfile.TemporaryDirectory(prefix='foundationpose_') as debug_dir:
        try:
            estimator = Estimator(checkout, debug_dir)
        except Exception as error:
            traceback.print_exc()
            if connection is not None:
                send(connection, failure(error))
            return 1
        if connection is not None:
            serve(connection, estimator, checkout)
            return 0
        host, _, port = args.listen.rpartition(':')
        with socket.create_server((host, int(port))) as server:
            host, port = server.getsockname()[:2]
            sys.stderr.write(f'ready at {host}:{port}\n')
            sys.stderr.flush()
            while True:
                connection, _ = server.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                with connection:
                    serve(connection, estimator, checkout)


if __name__ == '__main__':
    sys.exit(main())
