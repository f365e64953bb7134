# SPDX-License-Identifier: Apache-2.0
"""SAM 2 as transformers has it, on random weights, and how its outlines enter a cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.cli.data_cache import gripper_masks
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data import cache, sam2
from fourdgen_ros.data.bag_job import BagJob
from fourdgen_ros.data.convert import convert
from fourdgen_ros.data.dataset import Dataset
from fourdgen_ros.data.masks import GripperMasks

from .data_bags import Recording, topic_map, write_bag

transformers = pytest.importorskip('transformers')
SIDE = 128


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAM 2 with few channels and small images, random."""
    torch.manual_seed(0)
    channels = [16, 32, 64, 128]
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=16, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=channels, num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4], global_attention_blocks=[3])
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=channels[::-1], fpn_hidden_size=32,
            backbone_feature_sizes=[[SIDE // k, SIDE // k] for k in (4, 8, 16)]),
        prompt_encoder_config=transformers.Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE),
        mask_decoder_config=transformers.Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32))
    folder = tmp_path_factory.mktemp('sam2')
    transformers.Sam2Model(config).save_pretrained(folder)
    return folder


def _picture() -> tuple[np.ndarray, np.ndarray]:
    mesh = np.zeros((48, 64), bool)
    mesh[10:30, 20:44] = True
    return np.where(mesh[..., None], 220, 60).astype(np.uint8).repeat(3, -1), mesh


def test_the_network_is_asked_as_upstream_means_it(weights: Path, monkeypatch) -> None:
    """Of three masks the one that agrees with the mesh, in the picture's own size."""
    outlines = sam2.Sam2Outlines(str(weights))
    seen, forward = {}, outlines._model.forward

    def record(**inputs):
        seen.update(inputs)
        out = forward(**inputs)
        assert out.pred_masks.shape[:3] == (1, 1, 3)
        out.pred_masks[:] = -1.0
        size = out.pred_masks.shape[-1]
        rows, cols = (slice(int(a * size / full), int(b * size / full))
                      for a, b, full in ((10, 30, 48), (22, 44, 64)))
        out.pred_masks[0, 0, 1, rows, cols] = 1.0
        return out

    monkeypatch.setattr(outlines._model, 'forward', record)
    rgb, mesh = _picture()
    found = outlines(rgb, mesh)
    assert found.shape == mesh.shape and found.dtype == bool
    assert (found & mesh).sum() / (found | mesh).sum() > 0.85 and not np.array_equal(found, mesh)
    assert seen['pixel_values'].shape == (1, 3, SIDE, SIDE)
    np.testing.assert_allclose(seen['input_boxes'].numpy(),
                               [[[20 * 2, 10 * SIDE / 48, 44 * 2, 30 * SIDE / 48]]], rtol=1e-6)


def test_what_does_not_agree_with_the_mesh_is_not_believed(weights: Path, monkeypatch) -> None:
    outlines = sam2.Sam2Outlines(str(weights))
    rgb, mesh = _picture()
    monkeypatch.setattr(sam2, '_AGREES', 1.0)  # random weights do not
    assert outlines(rgb, mesh) is None
    assert outlines(rgb, np.zeros_like(mesh)) is None


def test_weights_that_are_none_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f'SAM 2 weights {tmp_path}.*sam2.1-hiera-small'):
        sam2.Sam2Outlines(str(tmp_path))
    shutil.copy(weights / 'config.json', tmp_path)
    save_file({'mask_decoder.nothing': torch.zeros(1)}, tmp_path / 'model.safetensors',
              metadata={'format': 'pt'})
    with pytest.raises(InputError, match='they lack .* of its weights'):
        sam2.Sam2Outlines(str(tmp_path))


def test_outlines_take_the_place_of_the_mesh_where_they_are_found(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', Recording(seconds=0.6))
    convert([BagJob(bag, topic_map(tmp_path / 'map.yaml'))], tmp_path / 'set')
    shape, data = gripper_masks('panda_hand').shape, Dataset(tmp_path / 'set')
    asked = []

    def outline(rgb, mesh):
        asked.append((rgb.shape[:2], mesh.shape))
        return np.ones_like(mesh) if len(asked) == 1 else None

    plain, refined = (cache.episode_arrays(data, 0, cache.Shape(24, 32), GripperMasks(shape, o))
                      for o in (None, outline))
    assert asked[0] == ((48, 64), (48, 64)) and len(asked) == plain['gripper'][..., 0, 0].size
    assert refined['gripper'][0, 0].all() and not plain['gripper'][0, 0].all()
    np.testing.assert_array_equal(refined['gripper'][1:], plain['gripper'][1:])


def test_a_cache_with_outlines_is_another_one(weights: Path, tmp_path: Path, capsys) -> None:
    bag = write_bag(tmp_path / 'bag', Recording(seconds=0.6))
    convert([BagJob(bag, topic_map(tmp_path / 'map.yaml'))], tmp_path / 'set')
    command = ['data', 'cache', str(tmp_path / 'set'), '--out', str(tmp_path / 'cache'),
               '--size', '24', '32']
    assert cli.main([*command, '--sam2', str(weights)]) == 0
    assert 'SAM 2' in (tmp_path / 'cache' / 'meta.json').read_text()
    assert cli.main(command) == 1
    assert 'Write into another folder' in capsys.readouterr().err
    assert cli.main([*command[:3], '--out', str(tmp_path / 'other'), '--sam2', str(tmp_path)]) == 1
    assert not (tmp_path / 'other').exists()
