# SPDX-License-Identifier: Apache-2.0
"""The networks of the `svd-4dgen` preset, and how they are built, loaded and saved.

Folder: `unet/`, `vae/`, `image_encoder/` and `scheduler/` as diffusers' SVD has them,
`vae_pointmap/` (a VAE like `vae/`), `cross_view/`, `svd_4dgen.json` (`SvdConfig`) and, where one
was trained, `gripper/`. Weights are safetensors only.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    UNet2DModel,
    UNetSpatioTemporalConditionModel,
)

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install
from fourdgen_ros.generator.svd.cross_view import CrossViewAttention
from fourdgen_ros.generator.svd.sampling import svd_scheduler
from fourdgen_ros.generator.weights import SAFE, load_whole

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

CONFIG_FILE = 'svd_4dgen.json'
_WEIGHTS = ('unet', 'vae', 'vae_pointmap', 'image_encoder', 'cross_view')
_GRIPPER = 'gripper'
# Diffusers loads in float32; transformers would take the precision that was saved.
_CLIP: dict[str, Any] = {'use_safetensors': True, 'dtype': torch.float32}


@dataclass(frozen=True)
class SvdConfig:
    """What the networks were trained for.

    Images of height x width px; `frames` generated frames, `dt` s apart; the `tasks` it knows, of
    which it cannot be told one; default `steps` and `guidance` of `sample`; see `image_tokens` for
    `clip_by`, `LatentCodec` for `quantised_targets` and `Condition` for `ids`. `seen` is the
    (height, width) of the data's images before they were resized, where it is known.
    """

    tasks: tuple[str, ...]
    height: int = 256
    width: int = 320
    frames: int = 10
    dt: float = 0.5
    steps: int = 25
    guidance: tuple[float, float] = (1.0, 2.5)
    clip_by: str = 'view'
    quantised_targets: bool = True
    ids: tuple[float, float, float] = (6.0, 127.0, 0.0)
    seen: tuple[int, int] | None = None

    @classmethod
    def load(cls, file: Path) -> SvdConfig:
        """Read a JSON file; raises InputError when it is none of these."""
        try:
            values = json.loads(file.read_text(encoding='utf-8'))
            return cls(**{name: tuple(value) if isinstance(value, list) else value
                          for name, value in values.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(str(file), expected='the settings of an svd-4dgen preset',
                             got=f'{type(error).__name__}: {error}',
                             hint='The file is damaged or belongs to another version.') from error

    def save(self, file: Path) -> None:
        """Write the JSON file that `load` reads."""
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1) + '\n', encoding='utf-8')


@dataclass(frozen=True)
class Architecture:
    """Arguments of the networks' classes; the defaults are those of SVD."""

    unet: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=lambda: dict(
        down_block_types=('DownEncoderBlock2D',) * 4, block_out_channels=(128, 256, 512, 512),
        layers_per_block=2, latent_channels=4, sample_size=768))
    image_encoder: dict[str, Any] = field(default_factory=lambda: dict(  # CLIP ViT-H/14
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
        image_size=224, patch_size=14, projection_dim=1024, hidden_act='gelu'))
    cross_view: dict[str, Any] = field(default_factory=dict)
    gripper: dict[str, Any] = field(default_factory=lambda: dict(
        block_out_channels=(32, 64, 96, 128), norm_num_groups=16))


@dataclass
class Parts:
    """The networks. `gripper` finds the gripper in generated frames; released models have none."""

    unet: UNetSpatioTemporalConditionModel
    vae: AutoencoderKLTemporalDecoder
    vae_pointmap: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection
    cross_view: CrossViewAttention
    scheduler: EulerDiscreteScheduler
    gripper: UNet2DModel | None = None

    def save(self, folder: Path) -> None:
        """Write every part into its folder; that of a part that is none is removed."""
        for part in dataclasses.fields(self):
            network = getattr(self, part.name)
            if network is not None:
                network.save_pretrained(folder / part.name)
            else:
                shutil.rmtree(folder / part.name, ignore_errors=True)


def build(architecture: Architecture, device: str = 'cpu') -> Parts:
    """Networks with random weights on `device`, which may be torch's meta, and SVD's scheduler."""
    clip = _transformers()
    with torch.device(device):
        unet = UNetSpatioTemporalConditionModel(**architecture.unet)
        vaes = [AutoencoderKLTemporalDecoder(**architecture.vae) for _ in range(2)]
        encoder = clip.CLIPVisionModelWithProjection(
            clip.CLIPVisionConfig(**architecture.image_encoder))
        cross_view = new_cross_view(unet, **architecture.cross_view)
        gripper = new_gripper(**architecture.gripper)
    for module in (unet, *vaes):
        module.to(device)  # diffusers makes some of their weights on the CPU all the same
    return Parts(unet, *vaes, encoder, cross_view, svd_scheduler(), gripper)


def new_cross_view(unet: UNetSpatioTemporalConditionModel, **options: Any) -> CrossViewAttention:
    """Untrained layers that fit the decoder of `unet`, which they leave as it is."""
    widths = [width for width, block in zip(reversed(unet.config.block_out_channels),
                                            unet.up_blocks, strict=True) for _ in block.resnets]
    return CrossViewAttention(tuple(widths), **options)


def new_gripper(**options: Any) -> UNet2DModel:
    """An untrained network from colour, pointmap and valid (7 channels) to the gripper's logit."""
    options = {'block_out_channels': (32, 64, 96, 128), 'norm_num_groups': 16, **options}
    levels = len(options['block_out_channels'])
    return UNet2DModel(in_channels=7, out_channels=1, layers_per_block=1,
                       down_block_types=('DownBlock2D',) * levels, mid_block_type=None,
                       up_block_types=('UpBlock2D',) * levels, **options)


def load(folder: Path) -> Parts:
    """Read the folder that `Parts.save` writes; raises InputError when it is damaged."""
    for part in (*(f'{name}/*.safetensors' for name in _WEIGHTS), 'scheduler/*.json'):
        if not list(folder.glob(part)):
            raise InputError(f'checkpoint {folder}', expected=part,
                             got='no such file',
                             hint='Weights are loaded from safetensors only: make the folder with '
                                  '`fourdgen train --preset svd-4dgen` or `fourdgen convert`.')
    clip = _transformers().CLIPVisionModelWithProjection
    gripper = folder / _GRIPPER
    return _guarded(f'checkpoint {folder}', lambda: Parts(
        unet=load_whole(UNetSpatioTemporalConditionModel, folder / 'unet', **SAFE),
        vae=load_whole(AutoencoderKLTemporalDecoder, folder / 'vae', **SAFE),
        vae_pointmap=load_whole(AutoencoderKLTemporalDecoder, folder / 'vae_pointmap', **SAFE),
        image_encoder=load_whole(clip, folder / 'image_encoder', **_CLIP),
        cross_view=load_whole(CrossViewAttention, folder / 'cross_view', **SAFE),
        scheduler=EulerDiscreteScheduler.from_pretrained(folder / 'scheduler'),
        gripper=load_whole(UNet2DModel, gripper, **SAFE) if gripper.is_dir() else None))


def load_svd(source: str) -> Parts:
    """Start from SVD in diffusers' layout, a folder or the name of a repository on the Hugging Face
    hub: the pointmap VAE starts as the colour VAE, and what SVD lacks is untrained.

    Raises InputError when it is not there or not SVD.
    """
    clip = _transformers().CLIPVisionModelWithProjection

    def read() -> Parts:
        unet = load_whole(UNetSpatioTemporalConditionModel, source, subfolder='unet', **SAFE)
        vaes = [load_whole(AutoencoderKLTemporalDecoder, source, subfolder='vae', **SAFE)
                for _ in range(2)]
        encoder = load_whole(clip, source, subfolder='image_encoder', **_CLIP)
        return Parts(unet, *vaes, encoder, new_cross_view(unet), svd_scheduler(), new_gripper())

    return _guarded(f'SVD weights {source!r}', read)


def _guarded(what: str, read: Callable[[], Parts]) -> Parts:
    try:
        return read()
    except Exception as error:  # diffusers, transformers and safetensors raise many kinds
        raise InputError(what, expected='weights of an SVD model in diffusers\' layout',
                         got=f'{type(error).__name__}: {str(error).splitlines()[0]}',
                         hint='Something is missing, damaged, not licensed to you on the hub, or '
                              'belongs to another version.') from error


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            'transformers', expected='the package that holds the image encoder of svd-4dgen',
            got='not installed', hint=how_to_install('svd')) from error
    return transformers
