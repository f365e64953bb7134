# SPDX-License-Identifier: Apache-2.0
"""Every test process has a ROS domain of its own: runs side by side never hear each other."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from fourdgen_ros.cli.processes import claim_domain
from fourdgen_ros.core.errors import ExecutionError, MissingDependencyError
from fourdgen_ros.policy import client

# Read when message classes are imported: assigning a field of the wrong type then raises.
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('MUJOCO_GL', 'egl')
# Small networks gain nothing from threads, and on a busy machine spinning threads wait for each
# other for minutes.
os.environ.setdefault('OMP_NUM_THREADS', '1')

# How long an example takes says nothing on a busy machine.
settings.register_profile('fourdgen_ros', deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('fourdgen_ros')


# Held until the process ends; children inherit the domain by the environment.
try:
    _DOMAIN, _DOMAIN_LOCK = claim_domain()
except ExecutionError as error:
    pytest.exit(str(error), returncode=4)
os.environ['ROS_DOMAIN_ID'] = str(_DOMAIN)


def pytest_unconfigure() -> None:
    """A process that cannot end says where it hangs, and fails."""
    faulthandler.dump_traceback_later(120.0, exit=True, file=sys.__stderr__)


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """`alive(pid)`: whether there is such a process."""
    def there(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return there


@pytest.fixture
def ros() -> Iterator[None]:
    """rclpy initialised for one test."""
    import rclpy

    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def spin(ros: None) -> Iterator[Callable]:
    """`spin(node, ...)`: spin nodes in one background thread; they are destroyed after the test."""
    from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

    executor = MultiThreadedExecutor(num_threads=4)
    nodes = []

    def run() -> None:
        with contextlib.suppress(ExternalShutdownException):  # the test shut rclpy down itself
            executor.spin()

    thread = threading.Thread(target=run, daemon=True)

    def add(*new) -> None:
        for node in new:
            nodes.append(node)
            executor.add_node(node)
        if not thread.is_alive():
            thread.start()

    yield add
    executor.shutdown(timeout_sec=5.0)
    if thread.ident is not None:
        thread.join(timeout=5.0)
    for node in nodes:
        node.destroy_node()


# What training makes, less the training.
_MAKE_POLICY = """
import sys, numpy as np, torch
from pathlib import Path
from fourdgen_ros.policy.model import About, create, statistics
torch.manual_seed(0)
about = About(('PlaceAppleFromBowlIntoBin',), ('cam_left', 'cam_right'), 96, 128, 0.2)
rng = np.random.default_rng(0)
tools = rng.uniform(-1, 1, (50, 10)).astype(np.float32)
pictures = rng.integers(0, 255, (4, 96, 128, 3), dtype=np.uint8)
create(about, statistics(tools, pictures, about), 'cpu').save(Path(sys.argv[1]))
"""


@pytest.fixture(scope='session')
def untrained_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Diffusion Policy with random weights; skips where lerobot is not installed."""
    try:
        python = client.policy_command('worker')[0]
    except MissingDependencyError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp('policy')
    root = Path(client.__file__).resolve().parents[2]
    subprocess.run([python, '-c', f'import sys; sys.path.append({str(root)!r})\n{_MAKE_POLICY}',
                    folder], check=True, env=client.policy_environment())
    return folder
