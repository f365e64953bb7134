# SPDX-License-Identifier: Apache-2.0
"""What `fourdgen doctor` checks. Each check uses the thing and says what it found."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fourdgen_ros.core.errors import how_to_install

SETUP = 'Run `make setup`.'
_HAS_SIMULATOR = importlib.util.find_spec('mujoco') is not None


@dataclass(frozen=True)
class Check:
    """One line of the table: `probe` returns what it found, or raises and `next` helps."""

    name: str
    probe: Callable[[], str]
    next: str = SETUP
    optional: bool = False


@dataclass(frozen=True)
class Finding:
    """Outcome of a check; `verdict` is ok, missing or, for what is not needed, optional."""

    name: str
    verdict: str
    found: str
    next: str


class NotThereError(Exception):
    """A probe did not find what it looked for; the message says what it did find."""


def examine(check: Check) -> Finding:
    """Run one check. Any exception is a finding: a broken library must not hide the others."""
    try:
        return Finding(check.name, 'ok', check.probe(), '')
    except Exception as error:
        text = str(error).strip().splitlines()
        reason = text[0] if text else type(error).__name__
        return Finding(check.name, 'optional' if check.optional else 'missing', reason, check.next)


def _python() -> str:
    version = platform.python_version()
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        raise NotThereError(f'Python {version}')
    return f'{version} ({sys.executable})'


def _package() -> str:
    import fourdgen_ros
    from fourdgen_ros.core.paths import share_directory

    return f'{fourdgen_ros.__version__} (files in {share_directory()})'


def _ros() -> str:
    import rclpy

    module = Path(rclpy.__file__)
    if module.is_relative_to(sys.prefix):
        return f'Jazzy from the wheels of PyPI, rclpy {metadata.version("ros-rclpy")}'
    distribution = os.environ.get('ROS_DISTRO', 'unknown distribution')
    if distribution != 'jazzy':
        raise NotThereError(f'{distribution} at {module.parent}; only Jazzy is supported')
    return f'Jazzy from apt ({module.parent})'


def _dds() -> str:
    """Send one message from one DDS participant to another."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from std_msgs.msg import String

    contexts = [rclpy.Context(), rclpy.Context()]
    for context in contexts:
        context.init(args=[])
    sender, receiver = (rclpy.create_node(f'doctor_{name}', context=context)
                        for name, context in zip(('sender', 'receiver'), contexts, strict=True))
    topic = f'doctor_{os.getpid()}'
    heard: list[str] = []
    publisher = sender.create_publisher(String, topic, 1)
    receiver.create_subscription(String, topic, lambda msg: heard.append(msg.data), 1)
    executor = SingleThreadedExecutor(context=contexts[1])
    executor.add_node(receiver)
    start = time.monotonic()
    try:
        while not heard and time.monotonic() - start < 10.0:
            publisher.publish(String(data='hello'))
            executor.spin_once(timeout_sec=0.05)
    finally:
        executor.shutdown()
        for node, context in zip((sender, receiver), contexts, strict=True):
            node.destroy_node()
            context.try_shutdown()
    name = rclpy.get_rmw_implementation_identifier()
    domain = os.environ.get('ROS_DOMAIN_ID', '0')
    reach = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    if not heard:
        raise NotThereError(f'{name}: no message arrived within 10 s (domain {domain}, {reach})')
    return f'{name}, domain {domain}, discovery {reach}; a message arrived'


def _interfaces() -> str:
    from control_msgs.action import (  # noqa: F401 - the generated code is loaded
        FollowJointTrajectory,
        GripperCommand,
        ParallelGripperCommand,
    )
    from rclpy.serialization import deserialize_message, serialize_message
    from tf2_msgs.msg import TFMessage  # noqa: F401

    from fourdgen_ros.action import RunTask  # noqa: F401
    from fourdgen_ros.msg import MotionPlan

    plan = deserialize_message(serialize_message(MotionPlan(plan_id='1')), MotionPlan)
    if plan.plan_id != '1':
        raise NotThereError('MotionPlan does not survive serialisation')
    return 'fourdgen_ros, control_msgs, tf2_msgs'


def _torch() -> str:
    import torch

    return f'{torch.__version__}, {torch.get_num_threads()} threads, bf16 in hardware: {_bf16()}'


def _bf16() -> str:
    import torch

    if torch.cuda.is_available():
        return 'yes (GPU)' if torch.cuda.is_bf16_supported(including_emulation=False) else 'no'
    try:
        flags = set(Path('/proc/cpuinfo').read_text(encoding='utf-8').split())
    except OSError:
        return 'unknown'
    found = [name for flag, name in (('amx_bf16', 'AMX'), ('avx512_bf16', 'AVX-512'))
             if flag in flags]
    return f'yes ({", ".join(found)})' if found else 'no'


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise NotThereError('no GPU that this torch can use')
    return ', '.join(
        f'{torch.cuda.get_device_name(index)} '
        f'({torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GiB)'
        for index in range(torch.cuda.device_count()))


def _rendering() -> str:
    """Render one frame."""
    importlib.import_module('fourdgen_ros.sim')  # first: chooses how MuJoCo renders
    import mujoco

    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><light pos="0 0 2"/><geom type="sphere" size="0.2"/></worldbody>'
        '</mujoco>')
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 48, 64) as renderer:
        from OpenGL import GL  # after MuJoCo has chosen the platform

        renderer.update_scene(data)
        if not renderer.render().any():
            raise NotThereError('the rendered frame is black')
        device = GL.glGetString(GL.GL_RENDERER).decode()
    backend = os.environ.get('MUJOCO_GL', 'default')
    return f'MuJoCo {mujoco.__version__} renders with {backend} on {device}'


def _models() -> str:
    from fourdgen_ros.core.paths import share_directory

    folder = share_directory() / 'models'
    weights = sorted(folder.rglob('*.safetensors'))
    if not weights:
        raise NotThereError(f'no weights in {folder}')
    sizes: dict[str, int] = {}
    for path in weights:
        name = path.relative_to(folder).parts[0]
        sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return ', '.join(f'{name} ({size / 1e6:.1f} MB)' for name, size in sizes.items())


def _libraries(*names: str, distribution: dict[str, str] | None = None) -> Callable[[], str]:
    """Import `names`; `distribution` names the pip package where it differs from the module."""
    distributions = distribution or {}

    def probe() -> str:
        found = []
        for name in names:
            importlib.import_module(name)
            found.append(f'{name} {metadata.version(distributions.get(name, name))}')
        return ', '.join(found)

    return probe


def _module(name: str, found: str) -> Callable[[], str]:
    """Look for a module without importing it (moveit_py changes global state)."""

    def probe() -> str:
        if importlib.util.find_spec(name) is None:
            raise NotThereError('not installed')
        return found

    return probe


def _foundationpose() -> str:
    """Look for the checkout that the tracker's parameters name, without importing it."""
    from fourdgen_ros.tracker.backends import tracker_values
    from fourdgen_ros.tracker.foundationpose.process import check_checkout

    values = tracker_values()
    if values['foundationpose_address']:
        return f'a worker at {values["foundationpose_address"]} (not asked)'
    if not values['foundationpose_path']:
        raise NotThereError('no foundationpose_path in config/tracker.yaml')
    root, python = check_checkout(values['foundationpose_path'], values['foundationpose_python'])
    return f'{root} with its weights, {python} (not started)'


CHECKS = (
    Check('Python', _python, 'Install Python 3.11 or 3.12, remove .venv and run `make setup`.'),
    Check('fourdgen_ros', _package),
    Check('ROS 2', _ros),
    Check('DDS', _dds,
          'Unset RMW_IMPLEMENTATION; let the firewall pass UDP on the loopback device.'),
    Check('interfaces', _interfaces),
    Check('simulation', _rendering,
          'Run `make setup`, which names the Debian packages of the OpenGL libraries.'
          if _HAS_SIMULATOR else f'Only for the simulated cell. {how_to_install("sim")}',
          optional=not _HAS_SIMULATOR),
    Check('torch', _torch),
    Check('generator', _libraries('diffusers', 'safetensors', 'small_gicp', 'accelerate')),
    Check('tracker', _libraries('scipy', 'trimesh')),
    Check('planner', _libraries('roboplan.core', 'pinocchio', 'coal', distribution={
        'roboplan.core': 'roboplan-core', 'pinocchio': 'pin'})),
    Check('models', _models, 'Train one: `fourdgen collect`, then `fourdgen train`.'),
    Check('GPU', _gpu,
          'Not needed by the bundled model. With a GPU in place, install a CUDA build of torch.',
          optional=True),
    Check('svd-4dgen', _libraries('transformers'),
          f'Only for that preset. {how_to_install("svd")}', optional=True),
    Check('Open3D', _libraries('open3d'),
          'Not needed; `.venv/bin/pip install open3d` to view clouds.', optional=True),
    Check('MoveIt', _module('moveit', 'moveit_py'),
          'Only for planning with MoveIt on the robot: `sudo apt-get install ros-jazzy-moveit-py`.',
          optional=True),
    Check('FoundationPose', _foundationpose,
          'Not needed; the embedded tracker is used. See docs/foundationpose.md.',
          optional=True),
)
