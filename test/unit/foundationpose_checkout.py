# SPDX-License-Identifier: Apache-2.0
"""Checkouts of the stand-in of FoundationPose, and estimators on them in real processes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from fourdgen_ros.tracker.estimator import GripperObject
from fourdgen_ros.tracker.foundationpose.client import FoundationPose, FoundationPoseOptions
from fourdgen_ros.tracker.foundationpose.process import WEIGHT_FILES, WEIGHTS

STANDIN = Path(__file__).with_name('foundationpose_standin')


def make_checkout(folder: Path, faults: dict[str, dict[str, str]] | None = None) -> Path:
    """A folder as a user's checkout, with (empty) weights; `faults` as the stand-in reads them."""
    shutil.copytree(STANDIN, folder, ignore=shutil.ignore_patterns('__pycache__'))
    for run in WEIGHTS:
        (folder / 'weights' / run).mkdir(parents=True)
        for name in WEIGHT_FILES:
            (folder / 'weights' / run / name).touch()
    set_faults(folder, faults)
    return folder


def set_faults(checkout: Path, faults: dict[str, dict[str, str]] | None) -> None:
    """What the stand-in is to do from now on; its calls are counted from the start of a mesh."""
    (checkout / 'faults.json').write_text(json.dumps(faults or {}), encoding='utf-8')


def start(checkout: Path, tracked: GripperObject, **options: Any) -> FoundationPose:
    """An estimator whose worker runs in this Python."""
    values = {'timeout': 60.0, 'start_timeout': 120.0, **options}
    return FoundationPose(tracked, FoundationPoseOptions(
        path=str(checkout), python=sys.executable, **values))
