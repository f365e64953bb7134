# SPDX-License-Identifier: Apache-2.0
"""Outlines of the gripper by SAM 2 (Ravi et al. 2024), told by the mesh where to look.

The mesh at the recorded pose is off by the error of calibration, and its outline with it; SAM 2
finds the edge in the picture. It runs in Hugging Face's transformers, picture by picture, so that
nothing drifts; weights come from a local folder or the hub, e.g. facebook/sam2.1-hiera-small.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install

_SURE = 8.0  # logit of the mask that is shown to SAM 2
_AGREES = 0.5  # IoU with the mesh from which an outline is believed
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of its colours
_MIN_PIXELS = 30  # of the mesh in the picture


class Sam2Outlines:
    """Finds outlines; raises InputError for weights that cannot be loaded."""

    def __init__(self, weights: str, *, device: str = 'cpu') -> None:
        try:
            from transformers import Sam2Model
        except ImportError as error:
            raise MissingDependencyError(
                'SAM 2', expected='transformers 4.56 or newer', got=str(error),
                hint=how_to_install('svd')) from error
        try:
            model, info = Sam2Model.from_pretrained(
                weights, use_safetensors=True, local_files_only=Path(weights).is_dir(),
                output_loading_info=True)
            if info['missing_keys']:
                raise ValueError(f'they lack {len(info["missing_keys"])} of its weights')
        except Exception as error:  # transformers and safetensors raise many kinds
            raise InputError(f'SAM 2 weights {weights}',
                             expected='a folder or a repository of the hub with SAM 2 in '
                                      'transformers\' layout',
                             got=f'{type(error).__name__}: {str(error).splitlines()[0]}',
                             hint='E.g. facebook/sam2.1-hiera-small.') from error
        self._model = model.to(device).eval()

    def __call__(self, rgb: NDArray[np.uint8],
                 mesh: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Pixels (H, W) of the gripper in a picture (H, W, 3), near those of the mesh (H, W).

        Of the three masks that SAM 2 proposes for the mesh's box and mask, the one that agrees with
        it most. None when none does, or hardly any of the mesh is in the picture.
        """
        import torch
        from torch.nn.functional import interpolate

        rows, cols = np.nonzero(mesh)
        if len(rows) < _MIN_PIXELS:
            return None
        height, width = mesh.shape
        side = self._model.config.prompt_encoder_config.image_size  # images are made square
        device = self._model.device
        box = np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
        prompt = np.where(mesh, _SURE, -_SURE).astype(np.float32)
        image = torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None] / 255.0
        image = interpolate(image, (side, side), mode='bilinear', antialias=True)
        mean, std = (torch.tensor(c, device=device)[:, None, None] for c in _IMAGENET)
        with torch.inference_mode():
            out = self._model(
                pixel_values=(image - mean) / std, multimask_output=True,
                input_boxes=torch.tensor(box * side / np.array([width, height] * 2),
                                         dtype=torch.float32, device=device)[None, None],
                input_masks=torch.from_numpy(prompt).to(device)[None, None])
            masks = interpolate(out.pred_masks[0].float(), (height, width), mode='bilinear')[0] > 0
        proposed = masks.cpu().numpy()
        agreement = (proposed & mesh).sum((1, 2)) / (proposed | mesh).sum((1, 2))
        best = int(agreement.argmax())
        return proposed[best] if agreement[best] >= _AGREES else None
