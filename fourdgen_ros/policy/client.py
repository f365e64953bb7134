# SPDX-License-Identifier: Apache-2.0
"""The Diffusion Policy baseline from this environment: a process in another one answers."""

from __future__ import annotations

import os
import subprocess
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.camera import resize_view
from fourdgen_ros.core.errors import GenerationError, InputError, MissingDependencyError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.core.types import GripperTrajectory, Observation
from fourdgen_ros.policy.wire import receive, send

MARK = 'policy.json'  # the file that makes a folder one of a policy
PYTHON = 'FOURDGEN_POLICY_PYTHON'  # names the other environment's Python


def policy_command(module: str) -> list[str]:
    """Command line, to which arguments are appended, of a module of this folder in the environment
    with lerobot. Raises MissingDependencyError when there is none."""
    python = os.environ.get(PYTHON, str(share_directory() / '.venv-dp' / 'bin' / 'python'))
    if not Path(python).is_file():
        raise MissingDependencyError(
            'Diffusion Policy', expected='an environment with the package lerobot',
            got=f'no {python}',
            hint=f'Make one: make baseline-env; or name its Python in {PYTHON}.')
    # behind that environment's own packages: beside this one others may lie that are not for it
    root = Path(__file__).resolve().parents[2]
    return [python, '-c', f'import runpy, sys; sys.path.append({str(root)!r}); '
                          f'runpy.run_module("fourdgen_ros.policy.{module}", '
                          'run_name="__main__", alter_sys=True)']


def policy_environment() -> dict[str, str]:
    """Environment variables of such a process: no paths of this environment, and no hub."""
    kept = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    return kept | {'HF_HUB_OFFLINE': '1'}


class PolicyClient:
    """A trained policy, whose process starts with this object and ends with it or with `close`.

    `folder` is what training wrote; `threads` are torch's in the process. Raises InputError for a
    folder that is none and MissingDependencyError without an environment.
    """

    name = 'diffusion-policy'

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        if not (folder / MARK).is_file():
            raise InputError(f'policy {folder}', expected=f'a folder with {MARK}',
                             got='no such file',
                             hint='Train one: fourdgen train --preset diffusion-policy.')
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [*policy_command('worker'), str(folder), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=policy_environment() | {'OMP_NUM_THREADS': str(threads)})
        self.close = weakref.finalize(self, _end, self._process)
        try:
            about = self._answer()
        except GenerationError as error:
            self.close()
            raise InputError(f'policy {folder}', expected='a policy that can be loaded',
                             got=str(error)) from error
        self._dt = float(about['dt'])
        self._size = int(about['height']), int(about['width'])

    def act(self, observation: Observation, pose: NDArray[np.float64], opening: float, *,
            task: str, seed: int, dt: float) -> GripperTrajectory:
        """The path that the policy wants, frame 0 being now, `dt` s apart, in the frame of the
        reference camera. pose (4, 4) T_ref_tcp and opening m are the tool's now.

        Raises GenerationError when the policy cannot answer.
        """
        stride = round(dt / self._dt)
        if stride < 1 or abs(stride * self._dt - dt) > 1e-6:
            raise InputError('time between frames', expected=f'a multiple of {self._dt:g} s',
                             got=f'{dt:g} s')
        rgb = np.stack([resize_view(v, *self._size).rgb for v in observation.views])
        tool = np.r_[pose[:3, 3], pose[:3, 0], pose[:3, 1], 10.0 * opening].astype(np.float32)
        try:
            send(self._process.stdin, rgb=rgb, tool=tool, task=task, seed=seed)
        except OSError as error:
            raise self._died() from error
        answer = self._answer()
        poses = np.concatenate([pose[None], answer['poses'][stride - 1::stride]])
        openings = np.concatenate([[opening], answer['opening'][stride - 1::stride]])
        return GripperTrajectory(poses, np.maximum(openings, 0.0), np.ones(len(poses)),
                                 dt * np.arange(len(poses)), observation.reference.frame_id,
                                 observation.stamp)

    def _answer(self) -> dict[str, NDArray]:
        try:
            answer = receive(self._process.stdout)
        except ValueError as error:
            raise GenerationError('the answer of the policy', got=str(error)) from error
        if answer is None:
            raise self._died()
        if 'error' in answer:
            raise GenerationError('the policy', got=str(answer['error']))
        return answer

    def _died(self) -> GenerationError:
        self._errors.seek(0)
        said = self._errors.read().decode(errors='replace').strip().splitlines()
        return GenerationError('the process of the policy', expected='to answer',
                               got=f'it died: {said[-1] if said else "it said nothing"}')


def _end(process: subprocess.Popen) -> None:
    process.stdin.close()  # its input ends, and so does it
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
