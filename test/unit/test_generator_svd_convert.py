# SPDX-License-Identifier: Apache-2.0
"""Released checkpoints: names go there and back, and what is strange is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip('transformers', reason="pip install 'fourdgen_ros[svd]'")

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.svd import convert, keymap
from fourdgen_ros.generator.svd.parts import Parts

from .svd_small import CONFIG, SMALL, TASK, observation, small_parts


def all_links(networks: Parts) -> dict[str, tuple[list[keymap.Link], dict]]:
    """By part: its links and state dict."""
    unet, vae = networks.unet.state_dict(), networks.vae.state_dict()
    cross, clip = networks.cross_view.state_dict(), networks.image_encoder.state_dict()
    return {'unet': (keymap.unet_links(unet, 1), unet),
            'cross_view': (keymap.cross_view_links(cross), cross),
            'vae': (keymap.vae_links(vae, 3), vae), 'clip': (keymap.clip_links(clip), clip)}


def released(networks: Parts) -> dict[str, torch.Tensor]:
    """What 4DGen's module would save of these networks."""
    links = all_links(networks)
    prefixes = {'unet': (convert.UNET, convert.UNET_COPY),
                'cross_view': (convert.UNET, convert.UNET_COPY), 'clip': (convert.CLIP,)}
    state = {prefix + name: tensor for part, places in prefixes.items() for prefix in places
             for name, tensor in keymap.to_theirs(*links[part]).items()}
    for part, (targets, condition) in convert.VAES.items():
        weights = getattr(networks, part).state_dict()
        for name, tensor in keymap.to_theirs(links['vae'][0], weights).items():
            state[targets + name] = tensor
            if name.startswith('encoder.'):
                state[condition + name] = tensor
        for name in ('quant_conv.weight', 'quant_conv.bias'):
            state[condition + name] = weights[name]
        state[condition + 'post_quant_conv.weight'] = torch.zeros(4, 4, 1, 1)
        state[condition + 'decoder.conv_in.weight'] = torch.zeros(1)
    state['conditioner.embedders.0.open_clip.model.logit_scale'] = torch.zeros(())
    return state


def file_of(state: dict[str, torch.Tensor], path) -> None:
    """As `safetensors` wants it: no tensor shares memory with another."""
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)


@pytest.mark.parametrize('part', ['unet', 'cross_view', 'vae', 'clip'])
def test_names_go_there_and_back_and_each_is_used_once(part: str) -> None:
    links, ours = all_links(small_parts(cross_view=0.5))[part]
    theirs = keymap.to_theirs(links, ours)
    assert len(theirs) == len(links)
    left_out = {name for name in ours if name.startswith(('add_embedding.', 'quant_conv.'))}
    used = [name for link in links for name in link.ours]
    assert sorted(used) == sorted(set(ours) - left_out)
    again = keymap.to_ours(links, dict(theirs))
    assert set(again) == set(used)
    assert all(torch.equal(again[name], ours[name]) for name in used)


@pytest.mark.parametrize(('part', 'name'), [
    ('unet', 'input_blocks.2.0.op.weight'), ('unet', 'output_blocks.1.1.conv.weight'),
    ('unet', 'output_blocks.3.1.time_stack.0.attn2.to_k.weight'),
    ('unet', 'middle_block.0.time_stack.emb_layers.1.bias'),
    ('unet', 'input_blocks.1.0.time_mixer.mix_factor'), ('unet', 'time_embed.2.weight'),
    ('cross_view', 'attn_layers_decoder.3.to_out.0.bias'),
    ('vae', 'decoder.up.2.upsample.conv.weight'), ('vae', 'encoder.down.0.downsample.conv.bias'),
    ('vae', 'decoder.mid.block_2.mix_factor'), ('vae', 'decoder.conv_out.time_mix_conv.weight'),
    ('vae', 'decoder.up.0.block.2.time_stack.in_layers.2.weight'),
    ('vae', 'encoder.mid.attn_1.proj_out.weight'),
    ('clip', 'transformer.resblocks.1.attn.in_proj_weight'), ('clip', 'ln_pre.bias'),
    ('clip', 'transformer.resblocks.0.mlp.c_fc.weight'), ('clip', 'proj')])
def test_names_are_those_of_sgm(part: str, name: str) -> None:
    links, _ = all_links(small_parts())[part]
    assert name in {link.theirs for link in links}


@pytest.mark.parametrize('suffix', ['.safetensors', '.ckpt'])
def test_a_released_file_becomes_the_model_it_was_made_of(tmp_path, suffix: str) -> None:
    networks = small_parts(cross_view=0.5)
    state, file = released(networks), tmp_path / f'model{suffix}'
    if suffix == '.ckpt':
        torch.save({'state_dict': state, 'epoch': 3}, file)
    else:
        file_of(state, file)
    g = convert.convert(file, CONFIG, SMALL)
    assert g.config.clip_by == 'modality' and g.config.guidance == (1.0, 1.0)
    assert g.config.tasks == (TASK,) and not g.config.quantised_targets
    for part in ('unet', 'cross_view', 'vae', 'vae_pointmap', 'image_encoder'):
        before = getattr(networks, part).state_dict()
        for name, tensor in getattr(g.parts, part).state_dict().items():
            if name.startswith('add_embedding.'):
                assert not tensor.any()
            else:
                assert torch.equal(tensor, before[name]), name
    g.save_pretrained(tmp_path / 'model')
    future = type(g).from_pretrained(tmp_path / 'model').generate(observation(), task=TASK, seed=0)
    np.testing.assert_array_equal(future.rgb.shape, (2, 4, 48, 64, 3))


def test_the_released_conditions_quantisation_is_not_the_targets() -> None:
    g_state = released(small_parts())
    networks = convert.networks_of(g_state, SMALL)
    assert not g_state
    from fourdgen_ros.generator.svd.latents import LatentCodec

    codec = LatentCodec(networks.vae, networks.vae_pointmap, quantised_targets=False)
    images = torch.randn(1, 2, 3, 16, 16)
    with torch.no_grad():
        targets = codec.targets(images) / networks.vae.config.scaling_factor
        assert not torch.allclose(targets, codec.condition(images))
        torch.testing.assert_close(targets[0, 0], networks.vae.encoder(images[:, 0])[0, :4])


def test_strange_checkpoints_are_refused(tmp_path) -> None:
    state = released(small_parts())
    name = convert.UNET + 'output_blocks.0.0.in_layers.2.weight'
    cases = {
        'missing.*output_blocks.0.0': {k: v for k, v in state.items() if k != name
                                       and k != name.replace('_model.', '_model_2.')},
        "1 more, the first 'model.diffusion_model.label_emb": {
            **state, convert.UNET + 'label_emb.0.0.weight': torch.zeros(1)},
        'different tensors': {**state, name: state[name] + 1.0},
        'size mismatch': {**state, convert.CLIP + 'proj': torch.zeros(3, 3)}}
    for match, case in cases.items():
        with pytest.raises(InputError, match=match):
            convert.networks_of(case, SMALL)


def test_files_that_are_no_checkpoint_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match='No such file'):
        convert.read(tmp_path / 'nothing.ckpt')
    (tmp_path / 'text.safetensors').write_text('hello')
    with pytest.raises(InputError, match='safetensors or .ckpt file'):
        convert.read(tmp_path / 'text.safetensors')
    torch.save({'state_dict': {}, 'hyper_parameters': CONFIG}, tmp_path / 'code.ckpt')
    with pytest.raises(InputError, match='Python objects.*safetensors'):
        convert.read(tmp_path / 'code.ckpt')


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123456\n'


@pytest.mark.parametrize(('name', 'content'), [
    ('a.ckpt', POINTER), ('a.safetensors', POINTER), ('a.ckpt', b'<!DOCTYPE html><html>login'),
    ('a.ckpt', b''), ('a.safetensors', b''), ('a.ckpt', b'PK\x03\x04, and then cut off')])
def test_what_is_not_the_download_itself_is_told_by_its_size(tmp_path, name: str,
                                                             content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match='safetensors or .ckpt file') as error:
        convert.read(tmp_path / name)
    assert f'{len(content)} bytes' in error.value.hint and 'git-lfs' in error.value.hint


@pytest.mark.parametrize('content', [
    [torch.zeros(2)], torch.zeros(2), {'state_dict': torch.zeros(2)},
    {'a': torch.zeros(2), 'b': 3}])
def test_tensors_without_names_are_refused(tmp_path, content: object) -> None:
    torch.save(content, tmp_path / 'a.ckpt')
    with pytest.raises(InputError, match='expected tensors by name'):
        convert.read(tmp_path / 'a.ckpt')


def test_a_file_of_an_old_torch_is_read(tmp_path) -> None:
    torch.save({'state_dict': {'a': torch.ones(2)}}, tmp_path / 'a.ckpt',
               _use_new_zipfile_serialization=False)
    assert convert.read(tmp_path / 'a.ckpt')['a'].tolist() == [1.0, 1.0]


def test_a_preset_of_tiny_is_not_written_over(tmp_path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'dynamics').mkdir()
    assert cli.main(['convert', 'none.ckpt', '--out', str(tmp_path)]) == 1
    assert 'got a preset of tiny' in ' '.join(capsys.readouterr().err.split())
