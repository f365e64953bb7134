# SPDX-License-Identifier: Apache-2.0
"""The svd-4dgen preset on a scaled-down copy: real networks, random weights, seconds on a CPU."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip('transformers', reason="pip install 'fourdgen_ros[svd]'")

from safetensors.torch import load_file, save_file

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Observation
from fourdgen_ros.generator.load import kind_of, load_generator
from fourdgen_ros.generator.svd import parts, pointmaps
from fourdgen_ros.generator.svd.anchoring import anchor_reference, anchor_view
from fourdgen_ros.generator.svd.conditioning import Condition, image_tokens
from fourdgen_ros.generator.svd.generator import Svd4dgenGenerator
from fourdgen_ros.generator.svd.sampling import clean_of, noisy_input, sample, svd_scheduler

from .svd_small import CONFIG, TASK, observation, random_condition, small, small_parts


@pytest.mark.parametrize('views', [1, 2, 3])
def test_future_of_any_number_of_views(views: int) -> None:
    future = small().generate(observation(views), task=TASK, seed=1)
    assert future.frame_ids == ('optical',) * views
    assert future.rgb.shape == (views, 4, 48, 64, 3)
    assert future.gripper.min() >= 0.0 and future.gripper.max() > 0.0
    assert future.valid.mean() > 0.5
    assert future.stamp == 5 and future.steps == 2 and future.dt == 0.5
    assert set(future.timings) == {'prepare', 'denoise', 'decode', 'anchor', 'gripper'}


def test_frame_0_is_the_observation_and_the_reference_points_are_measured() -> None:
    o = observation()
    future = small().generate(o, task=TASK, seed=1)
    np.testing.assert_allclose(future.points[0, 0, :, :, 2].min(), o.views[0].depth.min(), atol=0.1)
    measured = pointmap(future.points[0, 0, :, :, 2], future.K[0])
    np.testing.assert_allclose(future.points[0, 0], measured, atol=1e-5)


def test_equal_seed_gives_equal_future_and_other_seed_another() -> None:
    g = small()
    a, b, c = (g.generate(observation(), task=TASK, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.points, b.points)
    assert not np.array_equal(a.points, c.points)


def test_a_seed_may_be_of_numpy_and_a_bad_one_is_refused_before_anything_runs() -> None:
    g, o = small(), observation()
    a, b = (g.generate(o, task=TASK, seed=s) for s in (3, np.int64(3)))
    np.testing.assert_array_equal(a.rgb, b.rgb)
    assert type(b.seed) is int
    g.parts = None  # no network runs
    for seed in (-1, 2**64, 1.5, None):
        with pytest.raises(InputError, match='^seed; expected a whole number'):
            g.generate(o, task=TASK, seed=seed)


@torch.no_grad()
def test_a_new_model_is_svd_on_every_view_and_modality() -> None:
    g = small()
    x, time, c = torch.randn(2, 2, 2, 3, 4, 12, 16), torch.tensor([0.3, -0.5]), \
        random_condition(2, 2)
    ours = g.denoiser(x, time, c)
    still = c.latents[:, :, :, None].expand(-1, -1, -1, 3, -1, -1, -1)
    theirs = g.parts.unet(torch.cat([x, still], dim=4).flatten(0, 2), time.repeat_interleave(4),
                          c.image.flatten(0, 2), c.ids.expand(8, -1)).sample
    torch.testing.assert_close(ours.flatten(0, 2), theirs, atol=1e-5, rtol=0)


@torch.no_grad()
def test_other_views_see_the_pointmap_of_the_reference_in_the_same_frame() -> None:
    g = small(cross_view=0.5)
    x, time, c = torch.randn(1, 3, 2, 3, 4, 12, 16), torch.zeros(1), random_condition(1, 3)
    before = g.denoiser(x, time, c)

    def changed(*index: int) -> torch.Tensor:
        """(V, 2): which outputs move when the input at (view, modality) does."""
        other = x.clone()
        other[0, index[0], index[1]] += 1.0
        return (g.denoiser(other, time, c) - before).abs().amax((0, 3, 4, 5, 6)) > 1e-6

    assert changed(0, 1).tolist() == [[False, True], [True, True], [True, True]]
    assert changed(0, 0).tolist() == [[True, False], [False, False], [False, False]]
    assert changed(2, 1).tolist() == [[False, False], [False, False], [False, True]]


def test_attention_between_views_does_not_mix_frames() -> None:
    layers = small_parts(cross_view=0.5).cross_view
    view, reference = torch.randn(3, 64, 2, 3), torch.randn(3, 64, 2, 3)
    other = reference.clone()
    other[1] += torch.randn(64, 2, 3)
    moved = (layers(0, view, other) - layers(0, view, reference)).abs().amax((1, 2, 3)) > 0
    assert moved.tolist() == [False, True, False]


def test_levels_that_are_not_even_are_drawn_at_the_size_they_came_in() -> None:
    g = small(config=replace(CONFIG, height=44, width=52))
    assert g.generate(observation(), task=TASK, seed=0).rgb.shape[2:4] == (44, 52)


def test_the_scheduler_is_the_noise_that_training_adds() -> None:
    """A network that knows the answer is led to it by diffusers' scheduler in one or more steps."""
    clean = torch.randn(1, 1, 2, 3, 4, 2, 2)
    sigmas = []

    def oracle(given, time, condition):
        sigma = (4.0 * time).exp()
        sigmas.append(float(sigma))
        root = (sigma**2 + 1.0).sqrt()
        return (given / root - clean) * root / sigma

    c = Condition(torch.zeros(1, 1, 2, 4, 2, 2), torch.zeros(1, 1, 2, 1, 8), torch.zeros(3))
    for steps in (1, 4):
        out = sample(oracle, svd_scheduler(), c, frames=3, steps=steps, guidance=(1.0, 1.0),
                     generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(out, clean, atol=1e-2, rtol=0)
    assert sigmas[1] == pytest.approx(700.0, rel=1e-3)
    assert sigmas[-1] == pytest.approx(0.002, rel=1e-3)
    noise, sigma = torch.randn_like(clean), torch.tensor(0.7)
    given = noisy_input(clean, noise, sigma)
    v = (given / 1.49**0.5 - clean) * 1.49**0.5 / 0.7
    torch.testing.assert_close(clean_of(v, given, sigma), clean, atol=1e-5, rtol=0)


def test_guidance_grows_over_the_frames() -> None:
    seen = []

    def network(given, time, condition):
        seen.append(condition)
        return torch.full_like(given, float(condition.image.abs().sum() > 0))

    c = Condition(torch.ones(1, 1, 2, 4, 2, 2), torch.ones(1, 1, 2, 1, 8), torch.zeros(3))
    outputs = {guidance: sample(network, svd_scheduler(), c, frames=4, steps=1, guidance=guidance,
                                generator=torch.Generator().manual_seed(0))
               for guidance in ((1.0, 1.0), (1.0, 2.5))}
    difference = (outputs[1.0, 2.5] - outputs[1.0, 1.0]).abs().mean((0, 1, 2, 4, 5, 6))
    torch.testing.assert_close(difference / difference[-1], torch.tensor([0, 1 / 3, 2 / 3, 1.0]),
                               atol=1e-3, rtol=0)
    assert len(seen) == 3
    assert float(seen[-1].latents.abs().sum()) == 0.0


def test_who_sees_which_image() -> None:
    embeddings = torch.arange(3.0)[None, :, None]
    assert image_tokens(embeddings, 'view')[0, :, :, 0, 0].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert image_tokens(embeddings, 'modality')[0, :, :, 0, 0].tolist() == [[1, 0]] * 3
    assert image_tokens(embeddings[:, :1], 'modality')[0, :, :, 0, 0].tolist() == [[0, 0]]


def test_pointmaps_survive_and_invalid_pixels_are_told() -> None:
    points = torch.tensor([[[0.1, -0.2, 0.8], [0.0, 0.0, 5.0], [0.3, 0.3, 1.0]]])
    valid = torch.tensor([[True, True, False]])
    decoded = pointmaps.decode(pointmaps.encode(points, valid))
    torch.testing.assert_close(decoded[0, 0], points[0, 0])
    assert pointmaps.solid(decoded, torch.zeros(1, 3)).tolist() == [[True, False, False]]
    assert pointmaps.outside(pointmaps.decode(torch.full((3, 1, 1), 2.0))).all()


def test_a_view_is_anchored_to_what_it_measured() -> None:
    """A fifth of the pixels moved, the generated scale is off by a tenth, and both are undone."""
    rng = np.random.default_rng(0)
    own = rng.uniform((-0.4, -0.4, 0.6), (0.4, 0.4, 1.2), (20, 30, 3))
    T = se3.exp(np.array([0.3, -0.1, 0.2, 0.2, 0.5, -0.1]))
    generated = 1.1 * se3.apply(T, own)
    generated[:4] += 0.2
    everything = np.ones((20, 30), bool)
    anchor = anchor_view(own, generated, everything)
    np.testing.assert_allclose(anchor.T_ref_view, T, atol=1e-6)
    assert anchor.scale == pytest.approx(1 / 1.1)
    assert anchor_reference(own, 1.1 * own, everything).scale == pytest.approx(1 / 1.1)
    assert anchor_view(own, generated, ~everything).scale == 1.0


def test_without_a_gripper_network_the_mask_is_empty() -> None:
    networks = small_parts()
    networks.gripper = None
    future = Svd4dgenGenerator(networks, CONFIG).generate(observation(), task=TASK, seed=0)
    assert not future.gripper.any()


def test_save_and_load_give_the_same_future(tmp_path) -> None:
    g = small(cross_view=0.5)
    g.save_pretrained(tmp_path)
    loaded = load_generator(tmp_path)
    assert loaded.config == g.config
    for a, b in zip(g._modules(), loaded._modules(), strict=True):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.equal(x, y.cpu())
    a, b = (x.generate(observation(), task=TASK, seed=1) for x in (g, loaded))
    np.testing.assert_allclose(a.points, b.points, atol=1e-3)


def test_weights_that_were_saved_in_half_precision_are_loaded_in_float32(tmp_path) -> None:
    g = small()
    for module in g._modules():
        module.half()
    g.save_pretrained(tmp_path)
    loaded = parts.load(tmp_path)
    for networks in (loaded, parts.load_svd(str(tmp_path))):
        for name in ('unet', 'vae', 'vae_pointmap', 'image_encoder', 'cross_view', 'gripper'):
            assert {p.dtype for p in getattr(networks, name).parameters()} == {torch.float32}, name
    assert Svd4dgenGenerator(loaded, CONFIG).generate(observation(), task=TASK, seed=0).frames == 4


def test_a_part_of_an_older_preset_does_not_stay(tmp_path) -> None:
    g = small()
    g.save_pretrained(tmp_path)
    g.parts.gripper = None
    g.save_pretrained(tmp_path)
    assert not (tmp_path / 'gripper').exists()
    assert load_generator(tmp_path).parts.gripper is None


def test_a_folder_of_two_presets_is_refused(tmp_path) -> None:
    small().save_pretrained(tmp_path)
    assert kind_of(tmp_path) == 'svd-4dgen'
    (tmp_path / 'dynamics').mkdir()
    with pytest.raises(InputError, match='the parts of one preset; got dynamics.*write the preset'):
        load_generator(tmp_path)


def test_damaged_weights_do_not_make_a_future() -> None:
    g = small()
    with torch.no_grad():
        g.parts.unet.conv_out.bias.fill_(float('nan'))
    with pytest.raises(GenerationError, match='damaged'):
        g.generate(observation(), task=TASK, seed=0)


def test_bad_input_names_what_is_wrong() -> None:
    g, o = small(), observation()
    with pytest.raises(InputError, match='PlaceAppleFromBowlIntoBin.*Juggle'):
        g.generate(o, task='Juggle', seed=0)
    with pytest.raises(InputError, match='steps'):
        g.generate(o, task=TASK, seed=0, steps=0)
    far = replace(o.views[1], depth=np.full((60, 80), 2.3, np.float32))
    with pytest.raises(InputError, match="depth of camera 'cam_1'.*0.0%"):
        g.generate(Observation((o.views[0], far)), task=TASK, seed=0)
    with pytest.raises(InputError, match='sides that 4 divides; got 64x47'):
        small(config=replace(CONFIG, height=47))


def test_checkpoints_that_do_not_fit_are_refused(tmp_path) -> None:
    good = tmp_path / 'good'
    small().save_pretrained(good)
    with pytest.raises(InputError, match='dynamics/ .tiny. or cross_view/ .svd-4dgen'):
        load_generator(tmp_path)
    pickled = tmp_path / 'pickled'
    shutil.copytree(good, pickled)
    (pickled / 'unet' / 'diffusion_pytorch_model.safetensors').rename(
        pickled / 'unet' / 'diffusion_pytorch_model.bin')
    with pytest.raises(InputError, match='unet/.*safetensors only'):
        load_generator(pickled)
    strange = tmp_path / 'strange'
    shutil.copytree(good, strange)
    config = strange / parts.CONFIG_FILE
    config.write_text(json.dumps({**json.loads(config.read_text()), 'colour': 'blue'}))
    with pytest.raises(InputError, match='settings of an svd-4dgen preset.*colour'):
        load_generator(strange)
    torn = tmp_path / 'torn'
    shutil.copytree(good, torn)
    weights = torn / 'vae' / 'diffusion_pytorch_model.safetensors'
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match='damaged'):
        load_generator(torn)
    holed = tmp_path / 'holed'
    shutil.copytree(good, holed)
    weights = holed / 'unet' / 'diffusion_pytorch_model.safetensors'
    tensors = load_file(weights)
    del tensors['conv_out.weight']  # it would stay random
    save_file(tensors, weights, metadata={'format': 'pt'})
    with pytest.raises(InputError, match='1 tensors of .* are missing, among them conv_out'):
        load_generator(holed)
    shutil.rmtree(holed / 'scheduler')
    with pytest.raises(InputError, match=r'scheduler/\*.json; got no such file'):
        load_generator(holed)
    with pytest.raises(InputError, match="SVD weights '.*good/cross_view'"):
        parts.load_svd(str(good / 'cross_view'))


def test_a_model_starts_from_svd(tmp_path) -> None:
    small().save_pretrained(tmp_path)
    start = parts.load_svd(str(tmp_path))
    for x, y in zip(start.vae.state_dict().values(), start.vae_pointmap.state_dict().values(),
                    strict=True):
        assert torch.equal(x, y)
    assert not any(layer.to_out[0].weight.any() for layer in start.cross_view.layers)
