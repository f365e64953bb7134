# SPDX-License-Identifier: Apache-2.0
"""A released 4DGen checkpoint -> our folder.

The checkpoint is the state of 4DGen's Lightning module. Facts about it that are not in the paper,
read in github.com/lzylucy/4dgen: view 2 has a U-Net object of its own that shares every weight with
the first; the VAEs lie there twice, for the targets and for the condition; only the latter has a
`quant_conv`; passes see CLIP's embeddings as `image_tokens` says; the U-Net is not told SVD's ids;
and where its own evaluation samples, condition and no condition are the same, so that its guidance
does nothing.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.svd import keymap, parts
from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator
from fourdgen_ros.generator.svd.parts import Architecture, Parts, SvdConfig

UNET = 'model.diffusion_model.'
UNET_COPY = 'model.diffusion_model_2.'
CLIP = 'conditioner.embedders.0.open_clip.model.visual.'
# Of each VAE: as encoder and decoder of the targets, and as encoder of the condition.
VAES = {'vae': ('first_stage_color_model.', 'conditioner.embedders.2.encoder.'),
        'vae_pointmap': ('first_stage_pointmap_model.', 'conditioner.embedders.1.encoder.')}
# What the file holds besides and generation does not need: the text half of CLIP, the decoder of
# the condition's VAE, and the state of losses.
UNUSED = re.compile(
    r'conditioner\.embedders\.0\.open_clip\.(?!model\.visual\.)'
    r'|conditioner\.embedders\.[12]\.encoder\.(decoder|post_quant_conv|loss|regularization)\.'
    r'|first_stage_(color|pointmap)_model\.(loss|regularization)\.'
    r'|(denoiser|loss_fn)\.')


def convert(file: Path, config: SvdConfig, architecture: Architecture | None = None
            ) -> Svd4dgenGenerator:
    """The generator in `file` (.safetensors or .ckpt), of SVD's size unless `architecture` differs.

    `config` tells its tasks; what follows from the checkpoint is set here. Raises InputError when
    the file cannot be read or is of another layout.
    """
    released = read(file)
    networks = networks_of(released, architecture or Architecture())
    return Svd4dgenGenerator(networks, released_config(config))


def released_config(config: SvdConfig) -> SvdConfig:
    """`config` for networks that 4DGen's code trained."""
    return SvdConfig(tasks=config.tasks, height=config.height, width=config.width,
                     frames=config.frames, dt=config.dt, steps=config.steps, guidance=(1.0, 1.0),
                     clip_by='modality', quantised_targets=False)


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a released file; code in it is never run. Raises InputError for a file that
    cannot be read or holds something else."""
    try:
        content = load_file(file) if file.suffix == '.safetensors' else _unpickled(file)
    except pickle.UnpicklingError as error:
        raise InputError(f'checkpoint {file}', expected='tensors and nothing else',
                         got=str(error).splitlines()[0],
                         hint='It holds Python objects, which may run code when they are read. On '
                              'a machine where that does no harm, save its state_dict as '
                              '.safetensors, and convert that.') from error
    except (EOFError, OSError, RuntimeError, SafetensorError) as error:
        hint = '' if not file.is_file() else (
            f'It has {file.stat().st_size} bytes. A file of a few kB is a git-lfs pointer or a web '
            'page: download it again.')
        raise InputError(f'checkpoint {file}', expected='a .safetensors or .ckpt file',
                         got=f'{type(error).__name__}: {error}', hint=hint) from error
    tensors = content.get('state_dict', content) if isinstance(content, dict) else content
    if not (isinstance(tensors, dict)
            and all(isinstance(tensor, Tensor) for tensor in tensors.values())):
        raise InputError(f'checkpoint {file}', expected='tensors by name, or such a state_dict',
                         got=f'a {type(tensors).__name__}, not of tensors alone',
                         hint='Give the checkpoint of a whole model as its training saved it.')
    return tensors


def _unpickled(file: Path) -> object:
    """What torch saved; also as before its version 1.6, which wrote no archive to be mapped."""
    archive = zipfile.is_zipfile(file)
    if not archive:
        with file.open('rb') as stream:
            if stream.read(1) != pickle.PROTO:
                raise OSError('neither an archive nor a pickle, or cut off')
    return torch.load(file, map_location='cpu', weights_only=True, mmap=archive)


def networks_of(released: dict[str, Tensor], architecture: Architecture) -> Parts:
    """The networks in a state dict of 4DGen's module; empties `released`.

    Raises InputError for a tensor that is missing, of another shape, or of which nothing is known.
    """
    networks = parts.build(architecture, 'meta')
    networks.gripper = None
    positions = networks.image_encoder.vision_model.embeddings
    positions.position_ids = torch.arange(positions.num_positions)[None]  # in no file
    _take_copies(released)
    unet, cross_view = networks.unet, networks.cross_view
    weights = _taken(released, UNET, keymap.unet_links(unet.state_dict(),
                                                       unet.config.layers_per_block))
    silent = {name: torch.zeros(tensor.shape) for name, tensor in unet.state_dict().items()
              if name.startswith('add_embedding.')}
    _fill(unet, weights | silent)
    _fill(cross_view, _taken(released, UNET, keymap.cross_view_links(cross_view.state_dict())))
    _fill(networks.image_encoder,
          _taken(released, CLIP, keymap.clip_links(networks.image_encoder.state_dict())))
    for name, (targets, condition) in VAES.items():
        vae = getattr(networks, name)
        weights = _taken(released, targets,
                         keymap.vae_links(vae.state_dict(), len(vae.config.block_out_channels)))
        quant = {key: released.pop(condition + key) for key in ('quant_conv.weight',
                                                                'quant_conv.bias')
                 if condition + key in released}
        _fill(vae, weights | quant)
    strange = sorted(name for name in released if not UNUSED.match(name))
    if strange:
        raise InputError('released checkpoint', expected='the tensors of a 4DGen model',
                         got=f'{len(strange)} more, the first {strange[0]!r}',
                         hint='It is of another architecture than the released ones.')
    released.clear()
    return networks


def _take_copies(released: dict[str, Tensor]) -> None:
    """Remove what the file holds twice; raises InputError when the two are not the same."""
    pairs = {UNET_COPY: UNET}
    pairs.update({f'{condition}encoder.': f'{targets}encoder.'
                  for targets, condition in VAES.values()})
    for copy, original in pairs.items():
        for name in [name for name in released if name.startswith(copy)]:
            other = original + name[len(copy):]
            if other not in released or not torch.equal(released[other], released[name]):
                raise InputError('released checkpoint', expected=f'{name} as {other}',
                                 got='different tensors',
                                 hint='In the released files they are the same; no network '
                                      'here is for others.')
            del released[name]


def _taken(released: dict[str, Tensor], prefix: str, links: list[keymap.Link]) -> dict[str, Tensor]:
    """Our names of what `links` say lies under `prefix`; removes it from `released`."""
    return keymap.to_ours(
        [keymap.Link(prefix + link.theirs, link.ours, link.form) for link in links], released)


def _fill(network: nn.Module, weights: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()},
                                assign=True)
    except RuntimeError as error:
        raise InputError('released checkpoint', expected=f'weights of {type(network).__name__}',
                         got=str(error).splitlines()[1].strip(),
                         hint='It is of another architecture than the released ones.') from error
