# SPDX-License-Identifier: Apache-2.0
"""`fourdgen doctor` on this machine, which `make setup` has set up."""

from __future__ import annotations

import json
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
