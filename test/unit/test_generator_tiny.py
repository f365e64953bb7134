# SPDX-License-Identifier: Apache-2.0
"""The tiny preset on a scaled-down copy: real networks, random weights, seconds on a CPU."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.generator import tiny
from fourdgen_ros.generator.codec import DecodedFrame, FrameCodec
from fourdgen_ros.generator.dynamics import LatentDynamics, pose_from_9d
from fourdgen_ros.generator.layers import frame_tensor
from fourdgen_ros.generator.tiny import TinyGenerator
from fourdgen_ros.generator.tool import agreed_tool, moved_tool, nearest_turned, tool_poses

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts'))
from average_presets import average

TASK = 'PlaceAppleFromBowlIntoBin'
SIZE = {'height': 32, 'width': 48, 'latent_dim': 16}


def small(cross_view: bool = True, depth: bool = True, anchored: bool = True) -> TinyGenerator:
    torch.manual_seed(0)
    codec = FrameCodec(**SIZE, widths=(16, 16, 32), fine_width=16, depth=depth, anchored=anchored)
    dynamics = LatentDynamics(**SIZE, frames=4, trunk_widths=(16, 16, 32), keypoints=4, dim=32,
                              depth=2, heads=2, cross_view=cross_view)
    return TinyGenerator(codec, dynamics, FlowMatchEulerDiscreteScheduler())


def observation(views: int = 2, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    K = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
    return Observation(tuple(
        RgbdView(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
                 rng.uniform(0.6, 1.2, (48, 64)).astype(np.float32), K, 5, f'cam_{i}', 'optical')
        for i in range(views)))


@pytest.mark.parametrize('views', [1, 2, 3])
def test_future_of_any_number_of_views(views: int) -> None:
    future = small().generate(observation(views), task=TASK, seed=1, steps=2)
    assert future.rgb.shape == (views, 5, 32, 48, 3)
    assert future.valid.all()
    assert future.gripper.min() >= 0.0 and future.gripper.max() <= 1.0
    assert future.opening is not None and future.opening.shape == (5,)
    assert future.stamp == 5 and future.steps == 2 and future.frame_id == 'optical'
    assert future.frame_ids == ('optical',) * views


def test_frame_0_is_the_observation_and_the_reference_points_are_measured() -> None:
    o = observation()
    future = small().generate(o, task=TASK, seed=1)
    np.testing.assert_allclose(future.points[0, 0, :, :, 2].min(), o.views[0].depth.min(), atol=0.1)
    measured = pointmap(future.points[0, 0, :, :, 2], future.K[0])
    np.testing.assert_allclose(future.points[0, 0], measured, atol=1e-5)


def test_generated_points_of_the_reference_project_onto_their_own_pixels() -> None:
    future = small().generate(observation(), task=TASK, seed=1)
    again = pointmap(future.points[0, 3, :, :, 2], future.K[0])
    np.testing.assert_allclose(future.points[0, 3], again, atol=1e-4)


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
    g.codec.encode = None  # no network runs
    for seed in (-1, 2**64, 1.5, None):
        with pytest.raises(InputError, match='^seed; expected a whole number'):
            g.generate(o, task=TASK, seed=seed)


def test_views_see_each_other_only_with_cross_view_attention() -> None:
    o = observation()
    other = Observation((o.views[0], replace(o.views[1], rgb=255 - o.views[1].rgb)))
    for cross_view, equal in ((True, False), (False, True)):
        g = small(cross_view)
        a, b = (g.generate(x, task=TASK, seed=1).rgb[0, 1:] for x in (o, other))
        assert np.array_equal(a, b) is equal


def test_without_depth_nothing_of_it_is_seen_or_told(tmp_path) -> None:
    g = small(depth=False)
    g.save_pretrained(tmp_path)
    g = TinyGenerator.from_pretrained(tmp_path)
    o = observation()
    blind = Observation(tuple(replace(v, depth=np.full_like(v.depth, np.nan)) for v in o.views))
    a, b = (g.generate(x, task=TASK, seed=1) for x in (o, blind))
    assert g.name == a.generator == 'tiny-rgb'
    assert not a.valid.any() and np.isnan(a.points).all() and a.clamp_ratio == 0.0
    np.testing.assert_array_equal(a.rgb, b.rgb)
    np.testing.assert_array_equal(a.gripper, b.gripper)
    assert a.opening is not None
    other = Observation(tuple(replace(v, rgb=255 - v.rgb) for v in o.views))
    assert not np.array_equal(g.generate(other, task=TASK, seed=1).gripper, a.gripper)


def test_without_the_anchor_nothing_is_kept_of_frame_0(tmp_path) -> None:
    small(anchored=False).save_pretrained(tmp_path)
    o = observation()
    for g, kept in ((small(), True), (TinyGenerator.from_pretrained(tmp_path), False)):
        first, second = g.generate(o, task=TASK, seed=1).points[0, :2, ..., 2]
        assert np.isclose(first, second).mean() > 0.1 if kept else not (first == second).any()


def test_the_mean_of_two_presets_lies_between_them() -> None:
    first, second = small(), small()
    for weight in second.codec.parameters():
        weight += 0.5
    before = first.codec.tcp_head[0].weight.clone()
    mean = average(first, second)
    torch.testing.assert_close(mean.codec.tcp_head[0].weight.float(), before + 0.25,
                               atol=1e-3, rtol=0)
    with pytest.raises(InputError, match='others in cross_view'):
        average(small(cross_view=False), small())


def test_a_new_task_leaves_the_known_ones_as_they_are(tmp_path) -> None:
    g = small()
    before = g.generate(observation(), task=TASK, seed=1)
    g.dynamics.add_tasks([TASK, 'Juggle'])
    g.save_pretrained(tmp_path)
    again = TinyGenerator.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.generate(observation(), task=TASK, seed=1).rgb, before.rgb)
    new = again.generate(observation(), task='Juggle', seed=1)
    assert not np.array_equal(new.rgb, before.rgb)


def test_a_tool_that_points_to_what_is_seen_is_there() -> None:
    dynamics = small().dynamics
    with torch.no_grad():
        dynamics.tool_out.weight.zero_()
        dynamics.tool_out.bias.zero_()
        dynamics.point_share.weight.zero_()
        dynamics.point_share.bias.copy_(torch.tensor([-30.0, -30.0, -30.0, 30.0, -30.0]))
        frame0 = torch.randn(1, 2, 7, 32, 48)
        observed = dynamics.condition(frame0)
        tool = torch.randn(1, 2, 10)
        out = dynamics(torch.randn(1, 2, 4, 16), torch.ones(1), torch.randn(1, 2, 16), tool,
                       observed, torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(out.tool[..., :3], observed.points[:, :, 2:3].expand(-1, -1, 4, -1))
    torch.testing.assert_close(out.tool[..., 3:9], tool[:, :, None, 3:9].expand(-1, -1, 4, -1))


def test_a_moved_tool_is_its_pose_after_the_motion_with_the_same_opening() -> None:
    tool = torch.tensor([[0.1, 0.2, 0.7, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.4]])
    T = se3.exp(np.array([0.01, -0.02, 0.03, 0.2, -0.1, 0.3]))[None]
    moved = moved_tool(tool, T)
    np.testing.assert_allclose(tool_poses(moved), T @ tool_poses(tool), atol=1e-6)
    assert moved[0, 9] == tool[0, 9] and moved.dtype == tool.dtype


def test_where_the_hand_is_measured_moves_it_on_frame_0_and_nothing_later(monkeypatch) -> None:
    """The dynamics learnt to go on from where the latent tells it."""
    monkeypatch.setattr(tiny, 'HAND_REACH', np.inf)
    g = small()
    before = g.generate(observation(1), task=TASK, seed=1)
    aside = se3.make(translation=np.array([0.0, 0.05, 0.0]))[None]
    monkeypatch.setattr(tiny, '_laid', lambda drawn, K, measured: aside)
    after = g.generate(observation(1), task=TASK, seed=1)
    np.testing.assert_array_equal(after.gripper[:, 1:], before.gripper[:, 1:])
    np.testing.assert_array_equal(after.rgb, before.rgb)
    assert np.abs(after.gripper[:, 0] - before.gripper[:, 0]).max() > 1e-4


def test_views_that_agree_on_the_tool_are_left_alone_and_others_meet_halfway() -> None:
    torch.manual_seed(0)
    R, p = pose_from_9d(torch.randn(2, 9))
    R[0], p[0] = torch.eye(3), 0.0
    frame, position = pose_from_9d(torch.randn(3, 9))  # of the tool, in the reference view's frame

    def seen(shift: torch.Tensor) -> torch.Tensor:
        places = torch.einsum('vji,vtj->vti', R, position + shift - p[:, None])
        columns = torch.einsum('vji,tjn->vtni', R, frame[..., :2])
        return torch.cat([places, columns.flatten(-2), torch.full((2, 3, 1), 0.5)], dim=-1)

    told = seen(torch.zeros(2, 1, 3))
    torch.testing.assert_close(agreed_tool(told, R, p), told, atol=1e-5, rtol=0)
    apart = seen(torch.tensor([[[0.02, 0.0, 0.0]], [[-0.02, 0.0, 0.0]]]))
    torch.testing.assert_close(agreed_tool(apart, R, p), told, atol=1e-5, rtol=0)


def test_a_view_that_tells_the_tool_after_half_a_turn_agrees_all_the_same() -> None:
    """No picture of a parallel gripper tells which of the two it is."""
    torch.manual_seed(0)
    R, p = torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3)
    rotation, position = pose_from_9d(torch.randn(3, 9))
    tool = torch.cat([position, rotation[..., :2].mT.flatten(-2), torch.full((3, 1), 0.5)], dim=-1)
    half = rotation @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    turned = torch.cat([position, half[..., :2].mT.flatten(-2), torch.full((3, 1), 0.5)], dim=-1)
    torch.testing.assert_close(nearest_turned(turned, tool), tool)
    torch.testing.assert_close(nearest_turned(tool, tool), tool)
    torch.testing.assert_close(agreed_tool(torch.stack([tool, turned]), R, p),
                               tool.expand(2, -1, -1), atol=1e-5, rtol=0)


def test_places_are_told_in_millimetres_also_in_bf16() -> None:
    """At a metre, bf16 has steps of 8 mm."""
    torch.manual_seed(0)
    g = small()
    R, p = pose_from_9d(torch.randn(2, 9))
    R[0], p[0] = torch.eye(3), 0.0
    tool = 0.1 * torch.randn(2, 5, 10)
    tool[..., 2] += 1.0
    latent = torch.randn(8, 16)
    exact = agreed_tool(tool, R, p), g.codec.tcp(latent)
    with torch.autocast('cpu', torch.bfloat16):
        coarse = agreed_tool(tool, R, p), g.codec.tcp(latent)
    for a, b in zip(exact, coarse, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_hard_depth_choice_never_blends_two_surfaces() -> None:
    gate = torch.tensor([[[-0.1, 0.1]]])
    out = DecodedFrame(torch.zeros(1, 3, 1, 2), torch.full((1, 1, 2), 2.0), gate, gate)
    _, depth = out.compose(torch.zeros(1, 3, 1, 2), torch.ones(1, 1, 2))
    assert depth.flatten().tolist() == [1.0, 2.0]


def test_invalid_depth_is_flagged_to_the_network() -> None:
    depth = torch.tensor([[[float('nan'), 0.9], [50.0, 0.01]]])
    x = frame_tensor(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), depth, torch.eye(3)[None])
    assert x[0, 6].tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert torch.isfinite(x).all()


def test_pose_from_9d_is_a_rotation() -> None:
    R, t = pose_from_9d(torch.randn(5, 9, generator=torch.Generator().manual_seed(0)))
    eye = torch.eye(3).expand(5, 3, 3)
    torch.testing.assert_close(R @ R.transpose(1, 2), eye, atol=1e-5, rtol=0)
    assert (torch.linalg.det(R) > 0.99).all() and t.shape == (5, 3)


def test_save_and_load_give_the_same_future(tmp_path) -> None:
    g = small()
    g.save_pretrained(tmp_path)
    a, b = (x.generate(observation(), task=TASK, seed=1)
            for x in (g, TinyGenerator.from_pretrained(tmp_path)))
    np.testing.assert_array_equal(a.rgb, b.rgb)


def test_points_that_leave_the_range_are_counted_and_holes_and_far_backgrounds_are_not() -> None:
    g, o = small(), observation(1)

    def decode(latent: torch.Tensor, *_: object) -> DecodedFrame:
        maps = torch.full((3, len(latent), SIZE['height'], SIZE['width']), -9.0)
        maps[0], maps[1, :, 8:24] = 3.0, 9.0  # half of the rows are new and beyond the range
        return DecodedFrame(torch.zeros(len(latent), 3, *maps.shape[2:]), *maps)

    g.codec.decode = decode
    depth = o.views[0].depth.copy()
    depth[:12], depth[12:24] = np.nan, 2.45  # a quarter of the rows each
    future = g.generate(Observation((replace(o.views[0], depth=depth),)), task=TASK, seed=0)
    assert future.clamp_ratio == pytest.approx(0.25)
    assert future.valid[:, 1:].mean() == pytest.approx(0.25)


def test_no_gripper_is_marked_on_what_lies_behind_the_tool() -> None:
    g = small()
    with torch.no_grad():  # everything is gripper, and the tool is 0.6 m away
        g.codec.head[0].weight.zero_()
        g.codec.head[0].bias.fill_(0.0)
        g.codec.head[0].bias[20:] = 9.0  # the last of six channels, four subpixels each
        g.codec.tcp_head[-1].weight.zero_()
        g.codec.tcp_head[-1].bias.copy_(torch.tensor([0, 0, 0.6, 1, 0, 0, 0, 1, 0, 0.5]))
    view = observation(1).views[0]
    depth = np.full_like(view.depth, 0.7)
    depth[:24], depth[24:28] = 1.2, np.nan
    future = g.generate(Observation((replace(view, depth=depth),)), task=TASK, seed=0)
    assert future.gripper[0, 0, :15].max() == 0.0
    assert future.gripper[0, 0, 17:].min() > 0.9


def test_damaged_weights_do_not_make_a_future() -> None:
    g = small()
    with torch.no_grad():
        g.dynamics.latent_out.bias.fill_(float('nan'))
    with pytest.raises(GenerationError, match='damaged'):
        g.generate(observation(), task=TASK, seed=0)


def test_bad_input_names_what_is_wrong() -> None:
    g, o = small(), observation()
    with pytest.raises(InputError, match='PlaceAppleFromBowlIntoBin.*Juggle'):
        g.generate(o, task='Juggle', seed=0)
    with pytest.raises(InputError, match='steps'):
        g.generate(o, task=TASK, seed=0, steps=0)
    blind = replace(o.views[1], depth=np.full((48, 64), np.nan, np.float32))
    with pytest.raises(InputError, match="depth of camera 'cam_1'.*0.0%"):
        g.generate(Observation((o.views[0], blind)), task=TASK, seed=0)
    with pytest.raises(InputError, match='at most 4 views'):
        g.generate(observation(5), task=TASK, seed=0)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path) -> None:
    good = tmp_path / 'good'
    small().save_pretrained(good)
    with pytest.raises(InputError, match='safetensors'):
        TinyGenerator.from_pretrained(tmp_path / 'nowhere')
    pickled = tmp_path / 'pickled'
    shutil.copytree(good, pickled)
    (pickled / 'codec' / 'diffusion_pytorch_model.safetensors').rename(
        pickled / 'codec' / 'diffusion_pytorch_model.bin')
    with pytest.raises(InputError, match='safetensors'):
        TinyGenerator.from_pretrained(pickled)
    wrong = tmp_path / 'wrong'
    shutil.copytree(good, wrong)
    config = wrong / 'dynamics' / 'config.json'
    config.write_text(json.dumps({**json.loads(config.read_text()), 'dim': 64}))
    with pytest.raises(InputError, match='weights that fit config.json'):
        TinyGenerator.from_pretrained(wrong)
    torn = tmp_path / 'torn'
    shutil.copytree(good, torn)
    weights = torn / 'codec' / 'diffusion_pytorch_model.safetensors'
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match='damaged'):
        TinyGenerator.from_pretrained(torn)
    holed = tmp_path / 'holed'
    shutil.copytree(good, holed)
    weights = holed / 'dynamics' / 'diffusion_pytorch_model.safetensors'
    tensors = load_file(weights)
    del tensors['tool_out.weight']  # it would stay random
    save_file(tensors, weights, metadata={'format': 'pt'})
    with pytest.raises(InputError, match='1 tensors of LatentDynamics are missing.*tool_out'):
        TinyGenerator.from_pretrained(holed)
    (holed / 'scheduler' / 'scheduler_config.json').unlink()
    shutil.copy(good / weights.relative_to(holed), weights)
    with pytest.raises(InputError, match='scheduler/scheduler_config.json; got no such file'):
        TinyGenerator.from_pretrained(holed)
