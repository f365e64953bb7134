# SPDX-License-Identifier: Apache-2.0
"""Training on a few synthetic episodes: losses fall, runs resume, data sets are checked."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError, TrainingError
from fourdgen_ros.generator.codec import PLANE, DecodedFrame, FrameCodec
from fourdgen_ros.generator.dynamics import LatentDynamics
from fourdgen_ros.generator.tiny import TinyGenerator
from fourdgen_ros.training import dataset, tiny
from fourdgen_ros.training.binding import bind, bind_config
from fourdgen_ros.training.dataset import Demonstrations, next_grips, split, task_names
from fourdgen_ros.training.loop import LoopConfig, read_checkpoint, train
from fourdgen_ros.training.losses import codec_loss

TASK = 'PlaceAppleFromBowlIntoBin'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three episodes of a bright square (the gripper) that moves over a grey plane."""
    out = tmp_path_factory.mktemp('demonstrations')
    T, V, H, W = 12, 2, 32, 48
    for i in range(3):
        rgb = np.full((T, V, H, W, 3), 90, np.uint8)
        depth = np.full((T, V, H, W), 9000, np.uint16)
        gripper = np.zeros((T, V, H, W), bool)
        tcp = np.tile(np.eye(4), (T, 1, 1))
        for t in range(T):
            at = 4 + 2 * t + i
            region = np.s_[t, :, 8:20, at:at + 10]
            rgb[region], depth[region], gripper[region] = 230, 7000, True
            tcp[t, :3, 3] = 0.7 * (at + 5 - 23.5) / 60.0, -0.1, 0.7
        cameras = np.stack([np.eye(4), se3.make(translation=np.array([0.05, 0.0, 0.0]))])
        K = np.tile(np.array([[60.0, 0, 23.5], [0, 60.0, 15.5], [0, 0, 1]]), (V, 1, 1))
        np.savez(out / f'episode_{i:06d}.npz', rgb=rgb, depth=depth, gripper=gripper, tcp=tcp,
                 opening=np.full(T, 0.08), K=K, T_base_camera=cameras)
    (out / 'meta.json').write_text(json.dumps(
        {'format': 'fourdgen-episodes-1', 'task': TASK, 'rate_hz': 5.0}))
    return out


def test_a_mask_that_pays_tells_the_chance_of_gripper(folder) -> None:
    """Gripper pixels weigh more than others, and yet no mask grows beyond the hand."""
    data = Demonstrations([folder], (TASK,))
    batch = data.codec_records(np.random.default_rng(0), 10, [0], 4).batch()
    batch = replace(batch, gripper=torch.zeros_like(batch.gripper))
    batch.gripper[:3] = 1.0  # three of ten
    empty = torch.zeros_like(batch.gripper)
    logit = torch.logit(torch.tensor(0.3)).requires_grad_()
    out = DecodedFrame(batch.rgb, batch.depth, empty, logit.expand_as(empty))
    codec_loss(out, batch.tcp, batch)[0].backward()
    torch.testing.assert_close(logit.grad, torch.tensor(0.0), atol=1e-4, rtol=0)


def test_what_did_not_change_must_be_generated_where_nothing_anchors_it(folder) -> None:
    data = Demonstrations([folder], (TASK,))
    batch = data.codec_records(np.random.default_rng(0), 10, [0], 4).batch()
    still = replace(batch, rgb=batch.frame0[:, :3], depth=batch.depth0,
                    gripper=torch.zeros_like(batch.gripper))
    low = torch.full_like(batch.depth, -20.0)
    out = DecodedFrame(still.rgb, still.depth + 0.1, low, low)
    assert codec_loss(out, batch.tcp, still)[1]['background'] == 0.0
    assert codec_loss(out, batch.tcp, still, anchored=False)[1]['background'] > 0.5


def test_pictures_of_another_size_are_named(folder, tmp_path: Path) -> None:
    text = rf'data set {folder}; expected images of 96x128; got 32x48'
    with pytest.raises(InputError, match=text):
        tiny.train_preset([folder], tmp_path / 'out', codec_minutes=0, dynamics_minutes=0)


def test_both_stages_learn(folder, tmp_path) -> None:
    data = Demonstrations([folder], (TASK,))
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    measures = tiny.train_codec(codec, data, short(tmp_path / 'codec'), reach=4, batch=8)
    losses = logged_losses(tmp_path / 'codec')
    assert list((tmp_path / 'codec' / 'tensorboard').glob('events.*'))
    assert losses[-1] < 0.6 * losses[0]
    assert np.isfinite(list(measures.values())).all()
    dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4,
                              trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
    tiny.train_dynamics(dynamics, codec, data, short(tmp_path / 'dynamics', 180), batch=8)
    losses = logged_losses(tmp_path / 'dynamics')
    assert losses[-1] < 0.7 * losses[0]


def short(folder: Path, steps: int = 60) -> LoopConfig:
    return LoopConfig(folder, steps=steps, minutes=60, warmup=5, validate_every=steps,
                      log_every=20)


def logged_losses(folder: Path) -> list[float]:
    rows = [json.loads(r) for r in (folder / 'log.jsonl').read_text().splitlines()]
    return [r['loss'] for r in rows if 'loss' in r]


class Summing(torch.nn.Linear):
    """Learns to sum four numbers."""

    def __init__(self) -> None:
        super().__init__(4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        return (super().forward(x) - x.sum(1, keepdim=True)).square().mean(), {}

    def error(self) -> dict[str, float]:
        return {'error': float((self.weight.detach() - 1).abs().sum())}


@pytest.mark.parametrize(('save_minutes', 'goes_on_from'), [(9e9, 10), (0.0, 13)])
def test_a_run_that_was_cut_ends_like_one_that_was_not(tmp_path, save_minutes: float,
                                                       goes_on_from: int) -> None:
    """It goes on from the last validation, or from what was saved after that."""
    def run(folder: Path, cut_after: int | None = None) -> torch.Tensor:
        torch.manual_seed(0)
        model = Summing()
        count = 0

        def draw(rng):
            nonlocal count
            count += 1
            if cut_after is not None and count > cut_after:
                raise KeyboardInterrupt
            return (torch.from_numpy(rng.standard_normal((8, 4), dtype=np.float32)),)

        train(model, LoopConfig(folder, steps=20, minutes=9e9, warmup=1, validate_every=10,
                                log_every=10, learning_rate=0.05, save_minutes=save_minutes),
              draw, model.error, better='error')
        return model.weight.detach()

    whole = run(tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'cut', cut_after=13)
    assert read_checkpoint(tmp_path / 'cut' / 'last.pt')['step'] == goes_on_from
    torch.testing.assert_close(run(tmp_path / 'cut'), whole)


def test_the_losses_told_are_means_of_what_was_trained_since_the_run_went_on(tmp_path) -> None:
    class Ones(Summing):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
            return super().forward(x)[0] * 0.0 + 1.0, {'loss': 1.0}

    model = Ones()
    for steps in (34, 50):
        train(model, LoopConfig(tmp_path, steps=steps, minutes=9e9, log_every=50),
              lambda rng: (torch.ones(2, 4),), model.error, better='error')
    assert logged_losses(tmp_path) == [1.0]


def test_a_run_whose_time_is_over_before_its_first_validation_is_validated(tmp_path) -> None:
    """The weights that it leaves are those that were measured, whatever the last start did."""
    config = LoopConfig(tmp_path, steps=20, minutes=9e9, validate_every=100, save_minutes=0.0)
    count = 0

    def draw(rng):
        nonlocal count
        count += 1
        if count > 5:
            raise KeyboardInterrupt
        return (torch.ones(2, 4),)

    model = Summing()
    with pytest.raises(KeyboardInterrupt):
        train(model, config, draw, model.error, better='error')
    assert not (tmp_path / 'best.pt').exists()
    model = Summing()
    measures = train(model, replace(config, steps=3), draw, model.error, better='error')
    assert measures == {**model.error(), 'step': 5}


def test_batches_are_drawn_beside_the_work_and_do_not_disturb_it(tmp_path) -> None:
    """One ahead, in order, in another thread, each with the numbers of its own step."""
    drawn, placed = [], []

    def draw(rng):
        drawn.append((threading.current_thread(), rng.integers(1000)))
        return (len(drawn) - 1, torch.ones(2, 4))

    def place(index, ones):
        placed.append((index, torch.rand(1).item()))
        return (ones,)

    model = Summing()
    config = LoopConfig(tmp_path, steps=4, minutes=9e9, validate_every=2, log_every=2, seed=3)
    train(model, config, draw, model.error, better='error', place=place)
    assert [index for index, _ in placed] == [0, 1, 2, 3] and 4 <= len(drawn) <= 5
    assert {thread for thread, _ in drawn}.isdisjoint({threading.main_thread()})
    for step, (_, number) in enumerate(drawn):
        assert number == np.random.default_rng([3, step, 0]).integers(1000)
    for step, (_, number) in enumerate(placed):
        torch.manual_seed(3 * 1_000_003 + step)
        assert number == torch.rand(1).item()


def test_no_time_to_train_leaves_the_model_as_it_is(tmp_path) -> None:
    model = Summing()
    before = model.weight.detach().clone()
    measures = train(model, LoopConfig(tmp_path, steps=10, minutes=0), None, None, better='error')
    assert measures == {}
    torch.testing.assert_close(model.weight.detach(), before)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path) -> None:
    model = Summing()

    def draw(rng):
        return (torch.full((1, 4), float('nan')),)

    with pytest.raises(TrainingError, match='loss at step 0'):
        train(model, LoopConfig(tmp_path, steps=2, minutes=1), draw, dict, better='error')
    assert torch.isfinite(model.weight).all()


def test_half_a_turn_of_the_gripper_changes_no_loss(folder) -> None:
    """It changes no picture either: what cannot be seen is not asked for."""
    data = Demonstrations([folder], (TASK,))
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4,
                              trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
    frames = data.codec_records(np.random.default_rng(0), 6, [0, 1], 3).batch()
    future = data.dynamics_batch(np.random.default_rng(0), 6, [0, 1], 4, 1)
    given = future.frame0(), torch.zeros(6, 2, 4, 16), torch.zeros(6, 2, 16), torch.ones(6, 2, 10)

    def turned(tcp: torch.Tensor) -> torch.Tensor:
        return torch.cat([tcp[..., :3], -tcp[..., 3:9], tcp[..., 9:]], dim=-1)

    def loss(step: torch.nn.Module, *batch: object) -> float:
        torch.manual_seed(0)
        return float(step(*batch)[0].detach())

    step = tiny.CodecStep(codec)
    assert loss(step, frames) == pytest.approx(
        loss(step, replace(frames, tcp=turned(frames.tcp))), rel=1e-6)
    step = tiny.DynamicsStep(dynamics)
    assert loss(step, future, *given) == pytest.approx(
        loss(step, replace(future, tcp=turned(future.tcp)), *given), rel=1e-6)


def test_data_sets_are_checked(folder, tmp_path) -> None:
    with pytest.raises(InputError, match='fourdgen collect'):
        Demonstrations([tmp_path], (TASK,))
    with pytest.raises(InputError, match=TASK):
        Demonstrations([folder], ('OtherTask',))
    with pytest.raises(InputError, match='at least 2 episodes; got 1'):
        split(Demonstrations([folder], (TASK,), limit=1))
    meta = (folder / 'meta.json').read_text()
    (tmp_path / 'meta.json').write_text(meta)
    (tmp_path / 'episode_000000.npz').write_bytes((folder / 'episode_000000.npz').read_bytes()[:99])
    with pytest.raises(InputError, match=r'episode_000000.npz; .*collect it again'):
        Demonstrations([tmp_path], (TASK,))
    (tmp_path / 'meta.json').write_text(meta.replace('episodes-1', 'episodes-0'))
    with pytest.raises(InputError, match='episodes-1; got fourdgen-episodes-0'):
        Demonstrations([tmp_path], (TASK,))


def test_episodes_are_read_where_they_are(folder, tmp_path) -> None:
    """What is mapped equals what numpy reads; an archive that cannot be mapped is named."""
    file = folder / 'episode_000001.npz'
    episode = Demonstrations([folder], (TASK,)).episodes[1]
    with np.load(file) as stored:
        for name in ('rgb', 'depth', 'gripper', 'K'):
            np.testing.assert_array_equal(getattr(episode, name), stored[name])
        arrays = dict(stored)
    assert not episode.rgb.flags.writeable and not episode.rgb.flags.owndata
    np.savez_compressed(tmp_path / 'episode_000000.npz', **arrays)
    shutil.copy(folder / 'meta.json', tmp_path)
    with pytest.raises(InputError, match=r'episode_000000.npz; .*is compressed'):
        Demonstrations([tmp_path], (TASK,))


@pytest.fixture
def many(folder, tmp_path) -> Path:
    """80 episodes."""
    shutil.copy(folder / 'meta.json', tmp_path)
    for number in range(80):
        (tmp_path / f'episode_{number:06d}.npz').hardlink_to(folder / 'episode_000001.npz')
    return tmp_path


@pytest.fixture
def few_files() -> Iterator[int]:
    """The limit of this process, which leaves it 8 files to open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = len(os.listdir('/proc/self/fd')) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_episodes_are_mapped_than_files_may_be_open_at_first(many, few_files) -> None:
    assert len(Demonstrations([many], (TASK,)).episodes) == 80


def test_a_limit_of_open_files_is_named_and_no_sound_episode_blamed(many, few_files,
                                                                    monkeypatch) -> None:
    monkeypatch.setattr(dataset, '_allow_files', lambda count: None)
    with pytest.raises(InputError, match=rf'at most {few_files} .*; got .*ulimit -n') as error:
        Demonstrations([many], (TASK,))
    assert 'Delete' not in str(error.value)


@pytest.mark.parametrize('number', [errno.EACCES, errno.ENOMEM, errno.EIO])
def test_what_the_system_refuses_is_no_damage(folder, monkeypatch, number: int) -> None:
    def refuse(file: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dataset, '_mapped', refuse)
    with pytest.raises(InputError, match=os.strerror(number)) as error:
        Demonstrations([folder], (TASK,))
    assert 'Delete' not in str(error.value) and error.value.hint


def test_depth_beyond_the_range_of_int16_survives(folder, tmp_path) -> None:
    """0.1 mm in 16 bits reach 6.5 m; a signed number of 16 bits does not."""
    with np.load(folder / 'episode_000000.npz') as stored:
        arrays = dict(stored)
    arrays['depth'][:] = 65_000
    arrays['depth'][:, :, 0] = 0
    np.savez(tmp_path / 'episode_000000.npz', **arrays)
    shutil.copy(folder / 'meta.json', tmp_path)
    data = Demonstrations([tmp_path], (TASK,))
    depth = data.codec_records(np.random.default_rng(0), 2, [0], 3).batch().depth
    assert depth[:, 0].isnan().all()
    torch.testing.assert_close(depth[:, 1:], torch.full_like(depth[:, 1:], 6.5))


def test_no_scene_both_trains_and_validates_whatever_the_sets_and_limits(folder, tmp_path) -> None:
    small, large = tmp_path / 'small', tmp_path / 'large'
    for other, numbers in ((small, range(100005, 100028)), (large, range(100000, 100061))):
        other.mkdir()
        shutil.copy(folder / 'meta.json', other)
        for number in numbers:
            shutil.copy(folder / 'episode_000000.npz', other / f'episode_{number}.npz')
    trained, validated = set(), set()
    for folders, limit in (([small], 12), ([small], None), ([large, small], None)):
        data = Demonstrations(folders, (TASK,), limit=limit)
        training, held = split(data)
        assert sorted(sum(held, training)) == list(range(len(data.episodes)))
        trained |= {data.episodes[i].number for i in training}
        validated |= {data.episodes[i].number for side in held for i in side}
    assert validated == set(range(100000, 100061, 10)) and not trained & validated


def test_every_data_set_validates_on_episodes_of_its_own(folder, tmp_path) -> None:
    other = tmp_path / 'other'
    shutil.copytree(folder, other)
    meta = (other / 'meta.json').read_text()
    (other / 'meta.json').write_text(meta.replace(TASK, 'OtherTask'))
    assert task_names([folder, other, folder]) == (TASK, 'OtherTask')
    data = Demonstrations([folder, other], (TASK, 'OtherTask'))
    assert [e.task for e in data.episodes] == [0, 0, 0, 1, 1, 1]
    assert split(data) == ([1, 2, 4, 5], [[0], [3]])
    (other / 'meta.json').write_text(meta.replace('5.0', '10.0'))
    with pytest.raises(InputError, match='all of one rate'):
        Demonstrations([folder, other], (TASK,))


def test_demonstrations_without_depth_tell_nothing_of_it(folder) -> None:
    data = Demonstrations([folder], (TASK,), depth=False)
    b = data.dynamics_batch(np.random.default_rng(0), 4, [0, 1], 3, 1)
    assert (b.frame0()[:, :, 5] == 0.0).all() and (b.frame0()[:, :, 6] == 1.0).all()
    c = data.codec_records(np.random.default_rng(0), 4, [0, 1], 3).batch()
    torch.testing.assert_close(c.depth, torch.full_like(c.depth, PLANE))
    assert b.frame0()[:, :, :3].std() > 0.1


def test_frame_0_can_have_the_faults_of_real_cameras(folder, tmp_path) -> None:
    """Only frame 0: what follows it, and what is to be told, stays true."""
    data = Demonstrations([folder], (TASK,))
    clean, seen = (data.dynamics_batch(np.random.default_rng(0), 40, [0, 1], 3, 1, sensor_faults=f)
                   for f in (False, True))
    faulty, true = seen.frame0(), clean.frame0()
    assert (faulty[:, :, 6] < true[:, :, 6]).any()  # holes
    assert (faulty[:, :, :3] != true[:, :, :3]).any()
    valid = faulty[:, :, 6] == 1.0
    assert ((faulty - true)[:, :, 5][valid].abs() > 1e-3).any()
    np.testing.assert_array_equal(clean.index, seen.index)
    torch.testing.assert_close(clean.tcp, seen.tcp)
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4,
                              trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
    measures = tiny.train_dynamics(dynamics, codec, data, short(tmp_path, 5), batch=2,
                                   sensor_faults=True)
    assert np.isfinite(measures['tcp_mm'])


def test_finished_dynamics_keep_the_scale_of_latents_that_they_learnt_with(folder, tmp_path
                                                                           ) -> None:
    """Another data set has another mean; weights that are carried on would meet other numbers."""
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4,
                              trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
    data = Demonstrations([folder], (TASK,))
    tiny.train_dynamics(dynamics, codec, data, short(tmp_path / 'new', 2), batch=2)
    assert dynamics.measured and dynamics.latent_mean.abs().max() > 0.0
    with torch.no_grad():
        dynamics.latent_mean += 0.1
    before = dynamics.latent_mean.clone()
    tiny.train_dynamics(dynamics, codec, data, short(tmp_path / 'onward', 2), batch=2)
    torch.testing.assert_close(dynamics.latent_mean, before, rtol=0.0, atol=0.0)


def test_dynamics_go_on_with_their_scale_of_latents_when_the_data_set_has_grown(
        folder, tmp_path, monkeypatch) -> None:
    """Targets in the scale of the grown set would be read in that of the check-point."""
    scales = []
    standardise = LatentDynamics.standardise

    def watched(self, z):
        scales.append(self.latent_mean.clone())
        return standardise(self, z)

    monkeypatch.setattr(LatentDynamics, 'standardise', watched)
    grown, out = tmp_path / 'data', tmp_path / 'dynamics'
    shutil.copytree(folder, grown)
    torch.manual_seed(0)
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)

    def trained(steps: int) -> LatentDynamics:
        dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4,
                                  trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
        tiny.train_dynamics(dynamics, codec, Demonstrations([grown], (TASK,)),
                            short(out, steps), batch=2)
        return dynamics

    trained(2)
    with np.load(grown / 'episode_000001.npz') as stored:
        np.savez(grown / 'episode_000003.npz', **dict(stored) | {'rgb': 255 - stored['rgb']})
    onward = trained(4)
    assert len(scales) >= 2 and all(torch.equal(mean, onward.latent_mean) for mean in scales)


def test_dynamics_without_minutes_are_left_as_they_are_and_nothing_is_encoded(folder, tmp_path,
                                                                              monkeypatch) -> None:
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4,
                              trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
    with torch.no_grad():
        dynamics.latent_mean += 0.1
    monkeypatch.setattr(tiny, 'encode_all', None)
    config = replace(short(tmp_path), minutes=0.0)
    assert tiny.train_dynamics(dynamics, codec, Demonstrations([folder], (TASK,)), config) == {}


def test_a_codec_that_was_trained_on_makes_no_preset_with_dynamics_of_before(
        folder, tmp_path, monkeypatch, caplog) -> None:
    """Their latents mean something else; a second command trains the dynamics on it."""
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    dynamics = LatentDynamics(height=32, width=48, latent_dim=16, frames=4, tasks=(TASK,),
                              trunk_widths=(16, 16, 32), dim=32, depth=2, heads=2)
    with torch.no_grad():
        dynamics.latent_mean += 0.1
    init, out = tmp_path / 'init', tmp_path / 'out'
    TinyGenerator(codec, dynamics, FlowMatchEulerDiscreteScheduler()).save_pretrained(init)
    monkeypatch.setattr(tiny, 'LoopConfig', lambda folder, steps, minutes, **options: LoopConfig(
        folder, steps=1, minutes=9e9 * minutes, **options))

    def trained(dynamics_minutes: float) -> dict[str, dict[str, float]]:
        return tiny.train_preset([folder], out, codec_minutes=1.0, init=init, batch=2,
                                 learning_rate=1e-4, dynamics_minutes=dynamics_minutes)

    measures = trained(0.0)
    assert measures['codec'] and not measures['dynamics']
    assert (out / 'codec' / 'best.pt').is_file() and not (out / 'preset').exists()
    assert 'no preset' in caplog.text and '--dynamics-minutes' in caplog.text
    shutil.copytree(init, out / 'preset')
    with pytest.raises(InputError, match='preset; expected none .*Move it'):
        trained(0.0)
    shutil.rmtree(out / 'preset')
    shutil.rmtree(out / 'dynamics')  # as some do
    assert trained(1.0)['dynamics']
    TinyGenerator.from_pretrained(out / 'preset')
    trained(0.0)  # changes nothing: the dynamics are those of this codec


def test_the_codec_sees_faults_and_is_taught_the_truth(folder, tmp_path) -> None:
    """Depth is spoilt in what it sees only; exposure is of the camera, so that both frames and what
    is to be told have the same."""
    data = Demonstrations([folder], (TASK,))
    clean, seen = (data.codec_records(np.random.default_rng(0), 40, [0, 1], 3,
                                      sensor_faults=f).batch() for f in (False, True))
    assert (seen.frame[:, 6] < clean.frame[:, 6]).any()
    assert (seen.frame0[:, 6] < clean.frame0[:, 6]).any()
    for name in ('depth', 'depth0', 'gripper', 'tcp'):
        torch.testing.assert_close(getattr(seen, name), getattr(clean, name), equal_nan=True)
    torch.testing.assert_close(seen.rgb, seen.frame[:, :3])
    assert (seen.rgb != clean.rgb).any()
    corner = seen.rgb[:, :, 0, 0]  # of the background, which is grey in all frames
    torch.testing.assert_close(corner, seen.frame0[:, :3, 0, 0])
    assert len(corner.unique(dim=0)) > 2
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    measures = tiny.train_codec(codec, data, short(tmp_path, 5), reach=4, batch=2,
                                sensor_faults=True)
    assert np.isfinite(measures['loss'])


def test_views_but_the_reference_may_be_older(folder, monkeypatch) -> None:
    """By a record of 5 Hz: the strength of the skew to train on."""
    monkeypatch.setattr('fourdgen_ros.training.dataset.random_faults', lambda views, rng: views)
    data = Demonstrations([folder], (TASK,))
    b = data.dynamics_batch(np.random.default_rng(0), 40, [0], 3, 1, sensor_faults=True)
    true = data.episodes[0].rgb
    ages = set()
    for (_, t), (first, second) in zip(b.index[:, 0], b.rgb.numpy(), strict=True):
        np.testing.assert_array_equal(first, true[t, 0])
        ages |= {age for age in (0, 1) if t and np.array_equal(second, true[t - age, 1])}
    assert ages == {0, 1}


def test_a_model_of_rgb_has_no_faults_of_depth(folder, tmp_path) -> None:
    with pytest.raises(InputError, match='leave --sensor-faults out'):
        tiny.train_preset([folder], tmp_path, codec_minutes=0, dynamics_minutes=0, depth=False,
                          sensor_faults=True)


def test_next_grips_are_where_the_gripper_closes_and_opens() -> None:
    opening = np.array([80, 80, 50, 50, 50, 80, 80, 50]) * 1e-3
    tcp = np.zeros((8, 1, 10), np.float32)
    tcp[:, 0, 0] = np.arange(8)
    closes, opens = next_grips(tcp, opening, 5.0)[:, 0, :, 0].T
    np.testing.assert_array_equal(closes, [1, 1, 6, 6, 6, 6, 6, np.nan])
    np.testing.assert_array_equal(opens, [4, 4, 4, 4, 4, np.nan, np.nan, np.nan])


@pytest.mark.parametrize('rate', [5.0, 10.0, 30.0])
def test_next_grips_do_not_depend_on_how_often_is_recorded(rate: float) -> None:
    """The hand rests at 0.1, 0.2 and 0.3 m, where it closes, opens and closes at 0.2 m/s."""
    times = np.arange(6 * rate + 1) / rate
    opening = np.interp(times, [1.07, 1.22, 3.07, 3.22, 5.07, 5.22], [.08, .05, .05, .08, .08, .05])
    tcp = np.zeros((len(times), 1, 10), np.float32)
    tcp[:, 0, 0] = np.interp(times, [0, 0.6, 1.6, 2.6, 3.6, 4.6], [0, .1, .1, .2, .2, .3])
    closes, opens = next_grips(tcp, opening, rate)[:, 0, :, 0].T
    assert set(closes[~np.isnan(closes)]) == {np.float32(0.1), np.float32(0.3)}
    assert set(opens[~np.isnan(opens)]) == {np.float32(0.2)}


def test_dynamics_of_another_codec_are_not_carried_on(folder, tmp_path) -> None:
    codec = FrameCodec(height=32, width=48, latent_dim=16, widths=(16, 16, 32), fine_width=16)
    bind(tmp_path / 'dynamics', codec)
    with torch.no_grad():
        codec.head[0].bias += 1.0
    bind(tmp_path / 'dynamics', codec)  # the last start ended before there were any
    (tmp_path / 'dynamics' / 'last.pt').touch()
    bind(tmp_path / 'dynamics', codec)
    with torch.no_grad():
        codec.head[0].bias += 1.0
    with pytest.raises(InputError, match='remove that folder'):
        bind(tmp_path / 'dynamics', codec)


@pytest.mark.parametrize(('changed', 'text'), [
    ({'cross_view': False}, 'expected cross_view True, as they were .* got cross_view False'),
    ({'depth': False}, 'expected depth True, as they were trained with; got depth False')])
def test_a_run_does_not_go_on_as_another_model(folder, tmp_path, changed, text) -> None:
    minutes = {'codec_minutes': 0.0, 'dynamics_minutes': 0.0}
    bind_config(tmp_path / 'codec', FrameCodec().config)
    bind_config(tmp_path / 'dynamics', LatentDynamics(tasks=(TASK,)).config)
    for stage in ('codec', 'dynamics'):
        (tmp_path / stage / 'last.pt').touch()
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    with pytest.raises(InputError, match=text):
        tiny.train_preset([folder], tmp_path, **minutes, **changed)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert len(before) == 4
    bind_config(tmp_path / 'codec', FrameCodec().config)  # the same goes on
