# SPDX-License-Identifier: Apache-2.0
"""The tool as seen by several views: there is one, so they have to agree."""

from __future__ import annotations

import torch
from torch import Tensor

from fourdgen_ros.generator.layers import rotation_from_6d


def agreed_tool(tool: Tensor, R: Tensor, p: Tensor) -> Tensor:
    """Tools (V, T, 10) in the views' own optical frames, as `FrameCodec.tcp` gives them, with the
    mean of what all views tell. R (V, 3, 3) and p (V, 3), m: poses of the views in the reference
    view's frame."""
    position = torch.einsum('vij,vtj->vti', R, tool[..., :3]) + p[:, None]
    columns = torch.einsum('vij,vtnj->vtni', R, tool[..., 3:9].unflatten(-1, (2, 3)))
    rotation = rotation_from_6d(columns.mean(0).flatten(-2))[..., :2].mT
    offset = position.mean(0) - p[:, None]
    position = torch.einsum('vji,vtj->vti', R, offset)
    columns = torch.einsum('vji,tnj->vtni', R, rotation)
    opening = tool[..., 9:].mean(0).expand(len(tool), -1, -1)
    return torch.cat([position, columns.flatten(-2), opening], dim=-1)
