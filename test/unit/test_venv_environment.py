# SPDX-License-Identifier: Apache-2.0
"""The environment that every Python of `.venv` starts with."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from fourdgen_ros.core.paths import share_directory

GUARD = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment and a sys.path of which the test may change anything."""
    environ = {GUARD: '1'}
    monkeypatch.setattr(os, 'environ', environ)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    return environ


def activate(root: Path) -> None:
    script = share_directory() / 'scripts' / 'venv_environment.py'
    runpy.run_path(str(script))['activate'](str(root))


def test_a_sourced_ros_is_kept_out(environ: dict[str, str], tmp_path: Path) -> None:
    root, ros, overlay = (tmp_path / name for name in ('root', 'ros', 'overlay'))
    (root / 'install').mkdir(parents=True)
    (ros / 'share' / 'rclpy').mkdir(parents=True)
    overlay.mkdir()
    environ |= {
        'AMENT_PREFIX_PATH': f'{overlay}:{ros}',
        'PYTHONPATH': f'{ros}/lib/python3.12/site-packages:/mine',
        'LD_LIBRARY_PATH': f'{ros}/lib:/lib/mine',
    }
    sys.path.insert(1, f'{ros}/lib/python3.12/site-packages')
    activate(root)
    assert environ['AMENT_PREFIX_PATH'] == f'{root}/install:{sys.prefix}:{overlay}'
    assert environ['PYTHONPATH'] == '/mine'
    assert environ['LD_LIBRARY_PATH'] == f'{root}/install/lib:/lib/mine'
    assert not any(path.startswith(str(ros)) for path in sys.path)
    assert GUARD not in environ, 'Python must start again with the new library path'


def test_what_the_user_set_stays(environ: dict[str, str], tmp_path: Path) -> None:
    environ |= {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'MUJOCO_GL': 'glfw'}
    activate(tmp_path)
    assert environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'SUBNET'
    assert environ['MUJOCO_GL'] == 'glfw'
    assert environ['RMW_IMPLEMENTATION'] == 'rmw_fastrtps_cpp'


def test_a_child_process_does_not_start_twice(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / 'install').mkdir()
    activate(tmp_path)
    environ[GUARD] = '1'
    before = dict(environ)
    activate(tmp_path)
    assert environ == before
