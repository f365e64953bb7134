# SPDX-License-Identifier: Apache-2.0
"""Training of a scaled-down svd-4dgen on a few synthetic episodes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('transformers', reason="pip install 'fourdgen_ros[svd]'")

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import GenerationError, InputError, TrackingError
from fourdgen_ros.core.types import Observation
from fourdgen_ros.evaluation.offline import RecordedLoop
from fourdgen_ros.generator.load import load_generator
from fourdgen_ros.generator.svd import pointmaps
from fourdgen_ros.sim.cell import Cell
from fourdgen_ros.training import svd, svd_losses
from fourdgen_ros.training.binding import bind_config
from fourdgen_ros.training.dataset import ClipBatch, Demonstrations
from fourdgen_ros.training.loop import LoopConfig
from fourdgen_ros.training.resize import fit

from .svd_small import CONFIG, TASK, observation, random_condition, small

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts'))

import time_svd

T_REF_OTHER = se3.exp(np.array([0.2, 0.0, 0.1, 0.0, 0.3, 0.0]))
K = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
DT = 0.4  # s; 2 records at 5 Hz


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three episodes of a bright square (the gripper) that moves over a grey plane."""
    out = tmp_path_factory.mktemp('demonstrations')
    T, V, H, W = 12, 2, 48, 64
    for i in range(3):
        rgb = np.full((T, V, H, W, 3), 90, np.uint8)
        depth = np.full((T, V, H, W), 9000, np.uint16)
        depth[:, :, :4] = 0
        gripper = np.zeros((T, V, H, W), bool)
        for t in range(T):
            at = 4 + 3 * t + i
            region = np.s_[t, :, 10:26, at:at + 14]
            rgb[region], depth[region], gripper[region] = 230, 7000, True
        np.savez(out / f'episode_{i:06d}.npz', rgb=rgb, depth=depth, gripper=gripper,
                 tcp=np.tile(np.eye(4), (T, 1, 1)), opening=np.full(T, 0.08),
                 K=np.tile(K, (V, 1, 1)), T_base_camera=np.stack([np.eye(4), T_REF_OTHER]))
    (out / 'meta.json').write_text(json.dumps(
        {'format': 'fourdgen-episodes-1', 'task': TASK, 'rate_hz': 5.0,
         'cameras': ['a', 'b']}))
    return out


def clips(folder, **changes) -> svd.Clips:
    config = replace(CONFIG, dt=DT, **changes)
    data = Demonstrations([folder], (TASK,))
    return svd.Clips(data, config, data.stride(DT), torch.device('cpu'))


def test_targets_are_in_the_reference_frame_and_the_condition_in_its_own(folder) -> None:
    video = clips(folder).draw(np.random.default_rng(0), 2)
    assert video.images.shape == (2, 2, 3, 2, 3, 48, 64)
    assert not video.valid[:, :, :, :4].any() and video.valid[:, :, :, 4:].all()
    plane = ~(video.gripper[0, 1, 0] > 0.5)
    plane[:4] = False
    moved = se3.apply(se3.inverse(T_REF_OTHER), video.points[0, 1, 0][plane].numpy())
    np.testing.assert_allclose(moved[:, 2], 0.9, atol=1e-4)
    assert torch.isin((1e4 * video.points0[0, 1, 4:, :, 2]).round(),
                      torch.tensor([7000.0, 9000.0])).all()
    fill = pointmaps.decode(video.images[0, 1, 0, 1])[:4]
    torch.testing.assert_close(fill, torch.zeros_like(fill), atol=1e-6, rtol=0)


def test_clips_are_cut_and_resized_with_their_cameras(folder) -> None:
    data = Demonstrations([folder], (TASK,))
    raw = data.clip_batch(np.random.default_rng(0), 1, range(1), 2, 1)
    small_clips = fit(raw, 24, 24)
    assert small_clips.colour.shape == (1, 2, 3, 3, 24, 24)
    assert set(small_clips.depth[~small_clips.depth.isnan()].unique().tolist()) <= set(
        raw.depth[~raw.depth.isnan()].unique().tolist())
    np.testing.assert_allclose(small_clips.K[0, 0], [[30, 0, 11.5], [0, 30, 11.5], [0, 0, 1]])


def test_a_model_of_enlarged_pictures_sees_a_camera_as_its_training_did() -> None:
    cell = Cell(TASK)
    height, width, seen = 256, 320, []
    g = small(config=replace(CONFIG, height=height, width=width, seen=(96, 128)))

    def condition(colour, points, valid):
        seen.append((colour[0], points[0], valid[0]))
        raise GenerationError('enough')

    g.condition = condition
    recorded = [cell.render(camera, 96, 128) for camera in cell.cameras]
    for views in ([cell.render(camera, 480, 640) for camera in cell.cameras], recorded):
        with pytest.raises(GenerationError, match='enough'):
            g.generate(Observation(tuple(views)), task=TASK, seed=0)
    stacked = {name: torch.from_numpy(np.stack([getattr(view, name) for view in recorded]))
               for name in ('rgb', 'depth', 'K')}
    video = svd.video_of(fit(ClipBatch(
        colour=stacked['rgb'].movedim(-1, -3).float()[None, :, None] / 127.5 - 1.0,
        depth=stacked['depth'][None, :, None], gripper=torch.zeros(1, 2, 1, 96, 128),
        K=stacked['K'].float()[None], camera=torch.eye(3).flatten().expand(1, 2, 9)),
        height, width))
    for colour, points, valid in seen:
        off = (colour - video.colour0[0]).square().mean()
        assert 10.0 * torch.log10(4.0 / off) > 40.0  # dB
        assert (valid == video.valid0[0]).float().mean() > 0.999
        assert (points - video.points0[0]).abs().median() < 1e-5


def test_recordings_are_enlarged_for_the_model_that_learnt_on_them(folder) -> None:
    class Lost:
        def track(self, *_: object) -> None:
            raise TrackingError('the gripper')

    g = small(config=replace(CONFIG, dt=DT, height=96, width=128, seen=(48, 64)))
    row = RecordedLoop(folder, g, Lost()).run(0)[0]
    assert 'generation_error' not in row
    assert {'psnr_db', 'points_mm', 'mask_iou'} <= set(row)


def test_the_loss_is_that_of_v_and_weighs_the_gripper() -> None:
    clean, noise = torch.randn(2, 2, 2, 3, 4, 6, 8), torch.randn(2, 2, 2, 3, 4, 6, 8)
    sigma = torch.tensor([0.3, 20.0])
    level = sigma[:, None, None, None, None, None, None]
    given = (clean + level * noise) / (level**2 + 1).sqrt()
    true = (level * clean - noise) / -(level**2 + 1).sqrt()
    nothing = torch.zeros(2, 2, 3, 6, 8)
    off = true + 0.1
    assert svd_losses.diffusion_loss(true, given, clean, sigma, nothing)[0] < 1e-6
    value = svd_losses.diffusion_loss(off, given, clean, sigma, nothing)[0]
    assert float(value) == pytest.approx(4 * 0.01, rel=1e-3)
    assert svd_losses.diffusion_loss(off, given, clean, sigma, nothing + 1.0)[0] > value
    mask = torch.zeros(1, 48, 64)
    mask[0, 20, 20] = 1.0
    assert svd_losses.gripper_cells(mask, 8)[0].sum() == 9


@pytest.fixture
def processes(tmp_path):
    """A group of one process."""
    torch.distributed.init_process_group('gloo', f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('quantised', [True, False])
@pytest.mark.parametrize('views', [1, 2])
def test_processes_share_the_gradients_of_every_model(processes, views: int,
                                                      quantised: bool) -> None:
    """They find in the second pass what got no gradient in the first."""
    g = small(config=replace(CONFIG, quantised_targets=quantised))
    video = svd.Video(
        colour0=torch.rand(1, views, 3, 24, 32), points0=torch.rand(1, views, 24, 32, 3),
        valid0=torch.ones(1, views, 24, 32, dtype=torch.bool),
        colour=torch.rand(1, views, 2, 3, 24, 32), points=torch.rand(1, views, 2, 24, 32, 3),
        valid=torch.ones(1, views, 2, 24, 32, dtype=torch.bool),
        gripper=torch.ones(1, views, 2, 24, 32))
    clean = torch.randn(1, views, 2, 2, 4, 12, 16)
    cells = torch.ones(1, views, 2, 12, 16)
    for step, batch in (
            (svd.PointmapVaeStep(g), (video,)),
            (svd.DenoiserStep(g.denoiser, views), (clean, random_condition(1, views), cells)),
            (svd.GripperStep(g.parts.gripper).requires_grad_(True), (video,))):
        shared = torch.nn.parallel.DistributedDataParallel(step)
        for _ in range(2):
            shared(*batch)[0].backward()
    assert g.parts.vae_pointmap.quant_conv.weight.requires_grad is quantised


def test_every_stage_learns(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(svd, 'VALIDATION_CLIPS', 1)
    monkeypatch.setattr(svd, 'VALIDATION_STEPS', 1)
    size = dict(height=24, width=32, frames=2)
    g, source = small(config=replace(CONFIG, dt=DT, **size)), clips(folder, **size)

    def losses(name: str, stage, steps: int, rate: float) -> tuple[float, float]:
        """Of the same held-back clips, after the first step and after the last."""
        for count in (1, steps):
            measures = stage(g, source, LoopConfig(tmp_path / name, steps=count, minutes=60,
                                                   learning_rate=rate, warmup=1))
            assert np.isfinite(list(measures.values())).all()
        rows = [json.loads(r) for r in (tmp_path / name / 'log.jsonl').read_text().splitlines()]
        values = [row['validation']['loss'] for row in rows if 'validation' in row]
        return values[0], values[-1]

    for name, stage, steps, rate, share in (
            ('vae', svd.train_pointmap_vae, 5, 5e-3, 0.95),
            ('denoiser', svd.train_denoiser, 10, 5e-3, 0.95),
            ('gripper', svd.train_gripper, 5, 1e-2, 0.95)):
        first, last = losses(name, stage, steps, rate)
        assert last < share * first, name
    assert any(layer.to_out[0].weight.any() for layer in g.parts.cross_view.layers)
    assert g.generate(observation(), task=TASK, seed=0).dt == DT


def test_a_preset_knows_the_size_of_what_it_was_trained_on(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(svd, 'VALIDATION_CLIPS', 1)
    monkeypatch.setattr(svd, 'VALIDATION_STEPS', 1)
    small(config=replace(CONFIG, dt=DT)).save_pretrained(tmp_path / 'start')
    svd.train_preset([folder], tmp_path / 'out', init=tmp_path / 'start', size=(24, 32),
                     vae_minutes=0.0, denoiser_minutes=1e-3, gripper_minutes=0.0)
    assert load_generator(tmp_path / 'out' / 'preset').config.seen == (48, 64)


def test_a_preset_is_trained_from_svd_and_carried_on(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(svd, 'VALIDATION_CLIPS', 1)
    small(config=replace(CONFIG, dt=DT)).save_pretrained(tmp_path / 'start')
    nothing = dict(vae_minutes=0.0, denoiser_minutes=0.0, gripper_minutes=0.0)
    with pytest.raises(InputError, match='--svd.*--init'):
        svd.train_preset([folder], tmp_path / 'out', **nothing)
    with pytest.raises(InputError):
        svd.train_preset([folder], tmp_path / 'out', init=tmp_path / 'start', size=(33, 48),
                         **nothing)
    bind_config(tmp_path / 'out', {'height': 40})  # as of a start that ended before its first step
    measures = svd.train_preset([folder], tmp_path / 'out', init=tmp_path / 'start', size=(32, 48),
                                checkpointing=True, **nothing)
    assert set(measures) == {'vae_pointmap', 'denoiser', 'gripper'}
    made = load_generator(tmp_path / 'out' / 'preset')
    assert (made.config.height, made.config.width) == (32, 48)
    assert made.config.seen is None  # its denoiser was not trained here
    (tmp_path / 'out' / 'gripper' / 'last.pt').touch()
    with pytest.raises(InputError, match='expected height 32, width 48, as they were trained with'):
        svd.train_preset([folder], tmp_path / 'out', init=tmp_path / 'start', **nothing)
    (tmp_path / 'out' / 'denoiser' / 'codec.sha256').write_text('0')
    (tmp_path / 'out' / 'denoiser' / 'last.pt').touch()
    with pytest.raises(InputError, match='another one, whose latents'):
        svd.train_preset([folder], tmp_path / 'out', init=tmp_path / 'start', size=(32, 48),
                         **nothing)
    fresh = dict(svd=str(tmp_path / 'start'), size=(48, 64))
    with pytest.raises(InputError, match='--gripper-minutes 0; expected weights to start from'):
        svd.train_preset([folder], tmp_path / 'other', **fresh, **nothing)
    svd.train_preset([folder], tmp_path / 'other', **fresh, **nothing | {'gripper_minutes': 1e-3})
    assert load_generator(tmp_path / 'other' / 'preset').config.dt == DT
    small().save_pretrained(tmp_path / 'half')
    with pytest.raises(InputError, match='multiple of 2 Hz; got 5 Hz'):
        svd.train_preset([folder], tmp_path / 'half_out', init=tmp_path / 'half',
                         **{**nothing, 'denoiser_minutes': 1.0})


def test_a_vae_that_was_trained_on_makes_no_preset_with_the_denoiser_of_before(
        folder, tmp_path, monkeypatch, caplog) -> None:
    """Its latents mean something else; a second command trains the denoiser on it."""
    monkeypatch.setattr(svd, 'VALIDATION_CLIPS', 1)
    monkeypatch.setattr(svd, 'VALIDATION_STEPS', 1)
    init, out = tmp_path / 'start', tmp_path / 'out'
    small(config=replace(CONFIG, dt=DT)).save_pretrained(init)

    def trained(denoiser_minutes: float) -> dict[str, dict[str, float]]:
        return svd.train_preset([folder], out, init=init, size=(32, 48), vae_minutes=1e-3,
                                denoiser_minutes=denoiser_minutes, gripper_minutes=0.0)

    assert trained(0.0)['vae_pointmap']
    assert (out / 'vae_pointmap' / 'best.pt').is_file() and not (out / 'preset').exists()
    assert 'no preset' in caplog.text and '--dynamics-minutes' in caplog.text
    trained(1e-3)
    load_generator(out / 'preset')


def test_checkpointing_gives_the_same_gradients() -> None:
    g = small(cross_view=0.5)
    g.denoiser.requires_grad_(True)
    torch.manual_seed(0)
    x, c = torch.randn(1, 2, 2, 3, 4, 12, 16), random_condition(1, 2)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            g.parts.unet.enable_gradient_checkpointing()
            g.denoiser.train()
        g.denoiser.zero_grad()
        g.denoiser(x, torch.zeros(1), c).square().mean().backward()
        gradients.append(g.parts.unet.conv_in.weight.grad.clone())
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_the_timer_times_every_stage_and_a_step_that_learns() -> None:
    """Here at 64x48 pixels on the CPU; on a GPU it is the whole model."""
    generator = small(config=replace(CONFIG, steps=1))
    before = {k: v.clone() for k, v in generator.parts.unet.state_dict().items()}
    times = time_svd.generation(generator, 1)
    assert set(times) == {'s', 'prepare_s', 'denoise_s', 'decode_s', 'anchor_s', 'gripper_s'}
    assert times['s'] >= times['denoise_s'] > 0.0
    assert time_svd.training_step(generator, 1)['s'] > 0.0
    assert any((v != before[k]).any() for k, v in generator.parts.unet.state_dict().items())
