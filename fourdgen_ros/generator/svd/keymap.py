# SPDX-License-Identifier: Apache-2.0
"""Names of weights: diffusers' and transformers' classes <-> the `sgm` layout of released files.

`sgm` is the code base of Stability AI's generative-models, which 4DGen builds on: its `VideoUNet`,
`Encoder`, `VideoDecoder` and open_clip's vision tower. Every function takes the names (and where
needed the shapes) of our networks' weights and says where each is found there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fourdgen_ros.core.errors import InputError

# How the two shapes of a weight differ: not at all; a linear layer that is a 1x1 convolution there;
# a matrix that is transposed there; several matrices that are one there, stacked by rows.
Form = Literal['same', 'pointwise', 'transposed', 'stacked']


@dataclass(frozen=True)
class Link:
    """One tensor `theirs` of a released file and the tensor or tensors `ours` that it holds."""

    theirs: str
    ours: tuple[str, ...]
    form: Form = 'same'


def to_ours(links: Iterable[Link], released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict; takes what it reads out of `released`. Raises InputError when one lacks."""
    links = list(links)
    missing = [link.theirs for link in links if link.theirs not in released]
    if missing:
        raise InputError('released checkpoint', expected=f'{len(links)} tensors by their sgm names',
                         got=f'{len(missing)} missing, the first {missing[0]!r}',
                         hint='It is no 4DGen checkpoint, or one of another architecture.')
    found: dict[str, Tensor] = {}
    for link in links:
        tensor = released.pop(link.theirs)
        if link.form == 'stacked':
            found.update(zip(link.ours, tensor.chunk(len(link.ours)), strict=True))
        elif link.form == 'pointwise':
            found[link.ours[0]] = tensor.flatten(1)
        elif link.form == 'transposed':
            found[link.ours[0]] = tensor.T
        else:
            found[link.ours[0]] = tensor
    return {name: tensor.contiguous() for name, tensor in found.items()}


def to_theirs(links: Iterable[Link], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_ours`; raises KeyError for a name that `ours` lacks."""
    released = {}
    for link in links:
        tensor = ours[link.ours[0]]
        if link.form == 'stacked':
            tensor = torch.cat([ours[name] for name in link.ours])
        elif link.form == 'pointwise':
            tensor = tensor[:, :, None, None]
        elif link.form == 'transposed':
            tensor = tensor.T.contiguous()
        released[link.theirs] = tensor
    return released


def unet_links(names: Iterable[str], layers: int) -> list[Link]:
    """Of SVD's U-Net with `layers` residual blocks a level; its embedding of SVD's ids is left out:
    4DGen's network has none."""
    names = [name for name in names if not name.startswith('add_embedding.')]
    with_attention = {name.split('.attentions.')[0] for name in names if '.attentions.' in name}
    return [Link(_unet_name(name, layers, with_attention), (name,)) for name in names]


def cross_view_links(names: Iterable[str]) -> list[Link]:
    """Of the attention between views."""
    return [Link(name.replace('layers.', 'attn_layers_decoder.', 1), (name,)) for name in names]


def vae_links(names: Iterable[str], levels: int) -> list[Link]:
    """Of a VAE with `levels` resolutions; `quant_conv` is left out: it is kept elsewhere there."""
    links = []
    for name in names:
        if not name.startswith('quant_conv.'):
            projection = re.search(r'mid_block\.attentions\.0\.to_\w+(\.0)?\.weight$', name)
            form: Form = 'pointwise' if projection else 'same'
            links.append(Link(_vae_name(name, levels), (name,), form))
    return links


def clip_links(names: Iterable[str]) -> list[Link]:
    """Of CLIP's vision tower with its projection."""
    links: dict[str, Link] = {}
    for name in names:
        link = _clip_link(name)
        links[link.theirs] = link
    return list(links.values())


_UNET_ENDS = {
    'time_embedding.linear_1': 'time_embed.0', 'time_embedding.linear_2': 'time_embed.2',
    'conv_in': 'input_blocks.0.0', 'conv_norm_out': 'out.0', 'conv_out': 'out.2',
    'mid_block.resnets.0': 'middle_block.0', 'mid_block.attentions.0': 'middle_block.1',
    'mid_block.resnets.1': 'middle_block.2'}
_RESNET = {'norm1': 'in_layers.0', 'conv1': 'in_layers.2', 'time_emb_proj': 'emb_layers.1',
           'norm2': 'out_layers.0', 'conv2': 'out_layers.3', 'conv_shortcut': 'skip_connection'}


def _unet_name(name: str, layers: int, with_attention: set[str]) -> str:
    for ours, theirs in _UNET_ENDS.items():
        if name.startswith(ours + '.'):
            return theirs + _inside_unet(name[len(ours):])
    match = re.match(r'(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(\..*)', name)
    side, block, kind, index, rest = match.groups()
    level, index = int(block), int(index)
    if side == 'down':
        first = 1 + level * (layers + 1)
        if kind == 'downsamplers':
            return f'input_blocks.{first + layers}.0.op' + rest.removeprefix('.conv')
        place = f'input_blocks.{first + index}'
    else:
        first = level * (layers + 1)
        if kind == 'upsamplers':
            after = 2 if f'up_blocks.{level}' in with_attention else 1
            return f'output_blocks.{first + layers}.{after}{rest}'
        place = f'output_blocks.{first + index}'
    return f'{place}.{1 if kind == "attentions" else 0}{_inside_unet(rest)}'


def _inside_unet(rest: str) -> str:
    """`rest`, from a dot on, of a residual block or a transformer."""
    match = re.match(r'\.(spatial|temporal)_res_block\.(\w+)(\..*)', rest)
    if match:
        stack = '.time_stack' if match[1] == 'temporal' else ''
        return f'{stack}.{_RESNET[match[2]]}{match[3]}'
    return (rest.replace('.temporal_transformer_blocks.', '.time_stack.')
            .replace('.time_pos_embed.linear_1.', '.time_pos_embed.0.')
            .replace('.time_pos_embed.linear_2.', '.time_pos_embed.2.'))


_VAE_MIDDLE = {
    'mid_block.resnets.0': 'mid.block_1', 'mid_block.resnets.1': 'mid.block_2',
    'mid_block.attentions.0.group_norm': 'mid.attn_1.norm',
    'mid_block.attentions.0.to_q': 'mid.attn_1.q', 'mid_block.attentions.0.to_k': 'mid.attn_1.k',
    'mid_block.attentions.0.to_v': 'mid.attn_1.v',
    'mid_block.attentions.0.to_out.0': 'mid.attn_1.proj_out',
    'conv_norm_out': 'norm_out', 'time_conv_out': 'conv_out.time_mix_conv'}


def _vae_name(name: str, levels: int) -> str:
    half, rest = name.split('.', 1)
    for ours, theirs in _VAE_MIDDLE.items():
        if rest.startswith(ours + '.'):
            return f'{half}.{theirs}{_inside_vae(rest[len(ours):])}'
    match = re.match(r'(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(\..*)', rest)
    if match is None:
        return name
    side, block, kind, index, rest = match.groups()
    level = int(block) if side == 'down' else levels - 1 - int(block)
    place = f'{half}.{side}.{level}'
    if kind == 'resnets':
        return f'{place}.block.{index}{_inside_vae(rest)}'
    return f'{place}.{side}sample{rest}'


def _inside_vae(rest: str) -> str:
    """`rest`, from a dot on, of a residual block; in time there are no embeddings and shortcuts."""
    match = re.match(r'\.temporal_res_block\.(\w+)(\..*)', rest)
    if match:
        return f'.time_stack.{_RESNET[match[1]]}{match[2]}'
    return (rest.replace('.spatial_res_block.', '.').replace('.conv_shortcut.', '.nin_shortcut.')
            .replace('.time_mixer.', '.'))


_CLIP_ENDS = {
    'vision_model.embeddings.class_embedding': 'class_embedding',
    'vision_model.embeddings.patch_embedding.weight': 'conv1.weight',
    'vision_model.embeddings.position_embedding.weight': 'positional_embedding'}
_CLIP_LAYER = {'layer_norm1': 'ln_1', 'layer_norm2': 'ln_2', 'mlp.fc1': 'mlp.c_fc',
               'mlp.fc2': 'mlp.c_proj', 'self_attn.out_proj': 'attn.out_proj'}


def _clip_link(name: str) -> Link:
    if name in _CLIP_ENDS:
        return Link(_CLIP_ENDS[name], (name,))
    if name == 'visual_projection.weight':
        return Link('proj', (name,), 'transposed')
    match = re.match(r'vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$', name)
    if match is None:
        return Link(name.replace('vision_model.pre_layrnorm.', 'ln_pre.')
                    .replace('vision_model.post_layernorm.', 'ln_post.'), (name,))
    layer, part, kind = match.groups()
    place = f'transformer.resblocks.{layer}'
    if part.startswith('self_attn.') and part != 'self_attn.out_proj':
        stem = f'vision_model.encoder.layers.{layer}.self_attn'
        ours = tuple(f'{stem}.{x}_proj.{kind}' for x in 'qkv')
        return Link(f'{place}.attn.in_proj_{kind}', ours, 'stacked')
    return Link(f'{place}.{_CLIP_LAYER[part]}.{kind}', (name,))
