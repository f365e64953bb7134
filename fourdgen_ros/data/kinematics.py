# SPDX-License-Identifier: Apache-2.0
"""Where the TCP is when a bag has joint states but no TF of the arm: Pinocchio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install

Array = NDArray[np.float64]


def tcp_path(urdf: Path, base_frame: str, tcp_frame: str, names: Sequence[str],
             positions: Array) -> Array:
    """T_base_tcp (n, 4, 4) at joint positions (n, J) of the joints `names`; others are at zero.

    Raises InputError when the file is no URDF or lacks a frame or joint, and MissingDependencyError
    without Pinocchio.
    """
    try:
        import pinocchio as pin
    except ImportError as error:
        raise MissingDependencyError(
            'forward kinematics', expected='the package pin', got=str(error),
            hint=how_to_install('motion')) from error
    try:
        model = pin.buildModelFromXML(urdf.read_text(encoding='utf-8'))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f'urdf {urdf}', expected='a URDF file', got=str(error)) from error
    for frame in (base_frame, tcp_frame):
        if not model.existFrame(frame):
            raise InputError(f'urdf {urdf}', expected=f'a link {frame!r}', got='none')
    for name in names:
        if not model.existJointName(name) or model.nqs[model.getJointId(name)] != 1:
            raise InputError(f'urdf {urdf}', expected=f'a joint {name!r} with one position',
                             got='none')
    index = [model.idx_qs[model.getJointId(name)] for name in names]
    base, tcp = model.getFrameId(base_frame), model.getFrameId(tcp_frame)
    data, q, path = model.createData(), pin.neutral(model), []
    for row in positions:
        q[index] = row
        pin.framesForwardKinematics(model, data, q)
        path.append(data.oMf[base].actInv(data.oMf[tcp]).homogeneous.copy())
    return np.stack(path)
