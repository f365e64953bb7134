# SPDX-License-Identifier: Apache-2.0
"""The tool as it is seen: alike after half a turn, and one for all views, so they have to agree."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdgen_ros.core import se3
from fourdgen_ros.generator.layers import rotation_from_6d

Array = NDArray[np.float64]


def nearest_turned(tool: Tensor, like: Tensor) -> Tensor:
    """Tools (..., 10), each turned by half about its approach axis where that is nearer to `like`.

    A parallel gripper looks the same then, so that no picture tells which of the two it is: a
    network that had to say so would answer in between.
    """
    along = (tool[..., 3:9] * like[..., 3:9]).sum(dim=-1, keepdim=True)
    sign = torch.where(along < 0.0, -1.0, 1.0)
    return torch.cat([tool[..., :3], sign * tool[..., 3:9], tool[..., 9:]], dim=-1)


def tool_poses(tool: Tensor) -> Array:
    """Poses (..., 4, 4) of tools (..., 10)."""
    tool = tool.double().cpu()
    return se3.make(rotation_from_6d(tool[..., 3:9]).numpy(), tool[..., :3].numpy())


def moved_tool(tool: Tensor, T: Array) -> Tensor:
    """Tools (..., 10) after motions T (..., 4, 4)."""
    pose = torch.from_numpy(T @ tool_poses(tool)).to(tool)
    return torch.cat([pose[..., :3, 3], pose[..., :3, 0], pose[..., :3, 1], tool[..., 9:]], dim=-1)


def agreed_tool(tool: Tensor, R: Tensor, p: Tensor) -> Tensor:
    """Tools (V, T, 10) in the views' own optical frames, as `FrameCodec.tcp` gives them, with the
    mean of what all views tell. R (V, 3, 3) and p (V, 3), m: poses of the views in the reference
    view's frame."""
    with torch.autocast(tool.device.type, enabled=False):  # bf16 rounds a metre to 8 mm
        return _agreed(tool.float(), R.float(), p.float())


def _agreed(tool: Tensor, R: Tensor, p: Tensor) -> Tensor:
    position = torch.einsum('vij,vtj->vti', R, tool[..., :3]) + p[:, None]
    columns = torch.einsum('vij,vtnj->vtni', R, tool[..., 3:9].unflatten(-1, (2, 3))).flatten(-2)
    seen = torch.cat([position, columns, tool[..., 9:]], dim=-1)
    mean = nearest_turned(seen, seen[:1]).mean(0)
    offset = mean[..., :3] - p[:, None]
    position = torch.einsum('vji,vtj->vti', R, offset)
    rotation = rotation_from_6d(mean[..., 3:9])[..., :2].mT
    columns = torch.einsum('vji,tnj->vtni', R, rotation).flatten(-2)
    opening = mean[..., 9:].expand(len(tool), -1, -1)
    return torch.cat([position, columns, opening], dim=-1)
