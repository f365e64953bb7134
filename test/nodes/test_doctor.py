# SPDX-License-Identifier: Apache-2.0
"""`fourdgen doctor` on this machine, which `make setup` has set up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_doctor_finds_what_setup_installed(tmp_path: Path) -> None:
    report = tmp_path / 'report.json'
    subprocess.run([sys.executable, '-m', 'fourdgen_ros.cli', 'doctor', '--json', str(report)],
                   check=False, capture_output=True, timeout=120)
    checks = {check['name']: check for check in json.loads(report.read_text())['checks']}
    needed = ('Python', 'fourdgen_ros', 'ROS 2', 'DDS', 'interfaces', 'simulation', 'torch',
              'generator', 'tracker', 'planner')
    assert {name: checks[name]['verdict'] for name in needed} == dict.fromkeys(needed, 'ok'), checks
    assert all(check['next'] for check in checks.values() if check['verdict'] != 'ok')


def simulation(before: str) -> tuple[str, str]:
    """Verdict and next step of the check `simulation`, without a display, after some Python."""
    code = (f'import os, sys; {before}\nfrom fourdgen_ros.cli.checks import CHECKS, examine\n'
            'found = examine(next(c for c in CHECKS if c.name == "simulation"))\n'
            'print(found.verdict, found.next, sep="|")')
    environment = {name: value for name, value in os.environ.items() if name != 'DISPLAY'}
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True,
                          timeout=120, env=environment)
    return tuple(done.stdout.strip().split('|'))


def test_the_simulation_needs_no_display() -> None:
    """An environment that is not `.venv` sets nothing for MuJoCo."""
    assert simulation('del os.environ["MUJOCO_GL"]') == ('ok', '')


def test_a_robot_needs_no_simulation() -> None:
    verdict, step = simulation('sys.modules["mujoco"] = None')
    assert verdict == 'optional'
    assert "pip install '.[sim]'" in step
