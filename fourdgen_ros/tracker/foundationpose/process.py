# SPDX-License-Identifier: Apache-2.0
"""Starts the process in which FoundationPose runs, and listens to its last words."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from pathlib import Path
from typing import IO

from fourdgen_ros.core.errors import MissingDependencyError

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name('worker.py')
# As the checkout names them itself: scorer and refiner.
WEIGHTS = ('2024-01-11-20-02-45', '2023-10-28-18-33-37')
WEIGHT_FILES = ('config.yml', 'model_best.pth')
GUIDE = 'docs/foundationpose.md says how to install it.'
LINES = 30
PATIENCE = 5.0  # s to end by itself


def check_checkout(folder: str, python: str) -> tuple[Path, str]:
    """Folder and interpreter, found. Raises MissingDependencyError that names what is not there."""
    root = Path(folder).expanduser()
    if not folder or not (root / 'estimater.py').is_file():
        raise MissingDependencyError(
            'FoundationPose', expected='foundationpose_path: a checkout of NVlabs/FoundationPose, '
            'with estimater.py', got=repr(folder),
            hint=f'git clone https://github.com/NVlabs/FoundationPose; {GUIDE}')
    missing = [f'weights/{run}/{name}' for run in WEIGHTS for name in WEIGHT_FILES
               if not (root / 'weights' / run / name).is_file()]
    if missing:
        raise MissingDependencyError(
            f'weights of FoundationPose in {root}', expected=', '.join(missing), got='no such file',
            hint='Download the folder that its readme links to ("Data prepare") and put it there.')
    found = shutil.which(os.path.expanduser(python)) if python else None
    if found is None:
        raise MissingDependencyError(
            'Python of FoundationPose', expected='foundationpose_python: the interpreter of its '
            'own environment, as ~/miniconda3/envs/foundationpose/bin/python', got=repr(python),
            hint=GUIDE)
    return root.resolve(), found


class WorkerProcess:
    """A worker of ours: `connection` is the socket to it."""

    def __init__(self, folder: str, python: str) -> None:
        """Start it; it answers when it has loaded. Raises MissingDependencyError."""
        root, interpreter = check_checkout(folder, python)
        self.connection, theirs = socket.socketpair()
        # In a session of its own: Ctrl-C ends us, and the closed socket ends the worker.
        self._process = subprocess.Popen(
            [interpreter, str(WORKER), '--foundationpose', str(root), '--fd', str(theirs.fileno())],
            pass_fds=[theirs.fileno()], start_new_session=True, env=_environment(interpreter),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        theirs.close()
        self._lines: deque[str] = deque(maxlen=LINES)
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,),
                                        daemon=True)
        self._reader.start()

    def ended(self) -> str:
        """How the worker ended, with its last words; call it when its socket is closed."""
        try:
            code = self._process.wait(timeout=PATIENCE)
            self._reader.join(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return 'one that closed its socket'
        how = f'exit code {code}' if code >= 0 else f'signal {signal.Signals(-code).name}'
        return f'one that ended with {how}; its last words: {self.last_words()}'

    def last_words(self) -> str:
        """What it wrote last."""
        return '\n'.join(self._lines) or 'none'

    def close(self, patience: float = PATIENCE) -> None:
        """End it, by force when it has not gone after `patience` s."""
        self.connection.close()
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=PATIENCE)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode(errors='replace').rstrip()
                self._lines.append(text)
                log.debug('FoundationPose: %s', text)


def _environment(interpreter: str) -> dict[str, str]:
    """Ours without what belongs to our Python, and with the tools beside that interpreter."""
    env = {name: value for name, value in os.environ.items()
           if name not in ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')}
    env['PATH'] = os.pathsep.join([str(Path(interpreter).parent), env.get('PATH', os.defpath)])
    env['PYTHONUNBUFFERED'] = '1'
    return env
