# SPDX-License-Identifier: Apache-2.0
"""Futures against recorded demonstrations: for tasks that no simulator has.

Of the episodes that training leaves out, every 1.2 s; the truth is what was recorded from there on.
Where an episode ends before the future does, its last record stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import pointmap, resize_intrinsics
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future, Observation, RgbdView
from fourdgen_ros.evaluation import metrics
from fourdgen_ros.evaluation.generators import RGB_ONLY, fingerprint, load_generator
from fourdgen_ros.evaluation.openloop import (
    EVERY,
    Truth,
    against_truth,
    imagine,
    measured,
    tracker_alone,
)
from fourdgen_ros.evaluation.seeds import Batch
from fourdgen_ros.evaluation.stack import limit_threads
from fourdgen_ros.generator.dynamics import pose_from_9d
from fourdgen_ros.generator.svd.sizes import fitted, fitted_colours
from fourdgen_ros.generator.tool import tool_poses
from fourdgen_ros.tracker.backends import load_tracker, tracker_values
from fourdgen_ros.tracker.embedded import EmbeddedTracker
from fourdgen_ros.tracker.gripper_model import load_gripper
from fourdgen_ros.training.dataset import (
    DEPTH_UNIT,
    Demonstrations,
    Episode,
    read_meta,
    split,
    task_names,
)

if TYPE_CHECKING:
    from fourdgen_ros.generator.base import Generator
    from fourdgen_ros.tracker.base import Tracker

Array = NDArray[np.float64]


class RecordedLoop:
    """Compares futures of `generator` with the recorded ones of data set `folder`; all poses are in
    the frame of the reference camera. Raises InputError where the data set is none."""

    def __init__(self, folder: Path, generator: Generator, tracker: Tracker,
                 steps: int | None = None) -> None:
        self._generator, self._tracker, self._steps = generator, tracker, steps
        self._folder, self._meta = folder, read_meta(folder)
        self._data = Demonstrations([folder], task_names([folder]))
        self._held, = split(self._data)[1]

    def run(self, number: int) -> list[dict[str, object]]:
        """One row of measures per start in one of the held-out episodes, the `number`-th, see
        `OpenLoop.run`. Raises InputError for futures of other views, smaller ones, or of another
        rate."""
        episode = self._data.episodes[self._held[number]]
        every = max(1, round(EVERY * self._data.rate))
        return [self._measure(number, episode, t) for t in range(0, len(episode) - 1, every)]

    def _measure(self, number: int, episode: Episode, t: int) -> dict[str, object]:
        cameras = tuple(self._meta['cameras'])
        row: dict[str, object] = {'episode': number, 'start_s': round(t / self._data.rate, 3)}
        observation = _observation(episode, t, cameras)
        future, told = imagine(self._generator, observation, self._meta['task'], number,
                               self._steps)
        row |= told
        if future is None:
            return row
        metrics.require_comparable(future, observation)
        size, (height, width) = episode.rgb.shape[2:4], future.rgb.shape[2:4]
        if height < size[0] or width < size[1]:
            raise InputError(f'data set {self._folder}', expected=f'images of {height}x{width}, as '
                             'the generator makes them', got=f'{size[0]}x{size[1]}',
                             hint=f'Make it so: fourdgen data cache --size {height} {width}.')
        stride = self._data.stride(future.dt)
        records = np.minimum(t + stride * np.arange(future.frames), len(episode) - 1)
        T_ref_cameras = _camera_poses(episode)
        if (height, width) != size:  # a model whose training enlarged them
            episode, records = _enlarged(episode, records, height, width), np.arange(future.frames)
        truth = _truth(episode, records, T_ref_cameras, future)
        here = np.eye(4)
        return (row | tracker_alone(truth, T_ref_cameras, self._tracker, here)
                | against_truth(future, truth, T_ref_cameras, self._tracker, here))


def _metres(depth: NDArray[np.uint16]) -> NDArray[np.float32]:
    return np.where(depth > 0, depth * np.float32(DEPTH_UNIT), np.float32(np.nan))


def _observation(episode: Episode, t: int, cameras: Sequence[str]) -> Observation:
    return Observation(tuple(
        RgbdView(episode.rgb[t, v].copy(), _metres(episode.depth[t, v]), episode.K[v], t, name,
                 f'{name}_color_optical_frame') for v, name in enumerate(cameras)))


def _camera_poses(episode: Episode) -> Array:
    """T_ref_camera (V, 4, 4)."""
    R, p = pose_from_9d(torch.from_numpy(episode.camera).double())
    return se3.make(R.numpy(), p.numpy())


def _enlarged(episode: Episode, records: NDArray[np.int64], height: int, width: int) -> Episode:
    """The `records` of an episode alone, at height x width px."""
    def nearest(images: NDArray) -> NDArray:
        values = torch.from_numpy(images[records].astype(np.float32))
        return fitted(values, height, width, smooth=False).numpy().astype(images.dtype)

    K = np.stack([resize_intrinsics(K, episode.rgb.shape[2:4], height, width) for K in episode.K])
    return replace(episode, rgb=fitted_colours(episode.rgb[records], height, width),
                   depth=nearest(episode.depth), gripper=nearest(episode.gripper), K=K,
                   tcp=episode.tcp[records])


def _truth(episode: Episode, records: NDArray[np.int64], T_ref_cameras: Array,
           like: Future) -> Truth:
    """What was recorded at `records`, with the cameras and times of the future `like`."""
    tool = torch.from_numpy(episode.tcp[records, 0].astype(np.float64))
    poses = tool_poses(tool)
    points = np.stack([[se3.apply(T, pointmap(_metres(episode.depth[t, v]), episode.K[v]))
                        for t in records] for v, T in enumerate(T_ref_cameras)])
    future = Future(
        rgb=episode.rgb[records].swapaxes(0, 1).copy(), points=points.astype(np.float32),
        valid=np.isfinite(points).all(axis=-1),
        gripper=episode.gripper[records].swapaxes(0, 1).astype(np.float32), dt=like.dt,
        K=episode.K, cameras=like.cameras, stamp=like.stamp, generator='recorded',
        frame_id=like.frame_id, frame_ids=like.frame_ids)
    return Truth(poses, 0.1 * tool[:, 9].numpy(), future)


def _build(folder: Path, generator: str, tracker: Path | None,
           steps: int | None) -> Callable[[int], dict]:
    limit_threads(generator)
    loaded = load_generator(generator)
    if loaded.name in RGB_ONLY:
        raise InputError(f'generator {generator!r}', expected='one that generates depth',
                         got='one of RGB alone', hint='Compare those in simulation.')
    follow = (EmbeddedTracker(load_gripper('panda_hand')) if tracker is None
              else load_tracker(tracker_values(tracker)))
    loop = RecordedLoop(folder, loaded, follow, steps)
    return lambda number: {'seed': number, 'starts': loop.run(number)}


def held_out(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Those of `numbers` that an episode has which training leaves out of data set `folder`.
    Raises InputError when there is none of them."""
    held, = split(Demonstrations([folder], task_names([folder])))[1]
    chosen = [number for number in numbers if number < len(held)]
    if not chosen:
        raise InputError('--seeds', expected=f'numbers below {len(held)}, the episodes of {folder} '
                         'that training leaves out', got=f'{numbers[0]} and more')
    return chosen


def evaluate_offline(folder: Path, generator: str, numbers: Sequence[int],
                     batch: Batch | None = None, *, tracker: Path | None = None,
                     steps: int | None = None,
                     on_result: Callable[[dict], None] = lambda row: None) -> dict:
    """As `openloop.evaluate`, on the held-out episodes of `folder` with these numbers, see
    `held_out`. Raises InputError for a generator that needs a simulator."""
    what = {'task': read_meta(folder)['task'], 'generator': generator,
            'weights': fingerprint(generator), 'offline': str(folder)}
    if tracker is not None:
        what['tracker'] = str(tracker)
    if steps is not None:
        what['steps'] = steps
    return measured(_build, (folder, generator, tracker, steps), numbers, what, batch, on_result)
