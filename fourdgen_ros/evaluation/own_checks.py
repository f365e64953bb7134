# SPDX-License-Identifier: Apache-2.0
"""What the future of a user's generator must have in common with the observation it is of."""

from __future__ import annotations

import numpy as np

from fourdgen_ros.core.camera import resize_view
from fourdgen_ros.core.errors import GenerationError
from fourdgen_ros.core.types import Future, Observation

MAX_SCALE = 2.0  # between generated and measured depth; other units differ by 10 and more


def require_of(future: object, observation: Observation, title: str) -> None:
    """Raise GenerationError unless `future` is a `Future` of the first views of the observation, in
    their order, with its frame_id and stamp, principal points inside its images and, where it has
    points, the measured depth in frame 0 of the reference view. `title` names the generator."""
    if not isinstance(future, Future):
        raise GenerationError(f'what generate() of {title} returned',
                              expected='a fourdgen_ros.core.types.Future',
                              got=type(future).__name__,
                              hint='Is a return missing? See docs/tutorials/generator.md.')
    names = tuple(view.camera for view in observation.views)
    _require(tuple(future.cameras) == names[:len(future.cameras)], f'cameras of {title}',
             f'{names} or the first of them, in that order', tuple(future.cameras),
             'Return cameras=tuple(view.camera for view in observation.views).')
    _require(future.frame_id == observation.reference.frame_id, f'frame_id of {title}',
             repr(observation.reference.frame_id), repr(future.frame_id),
             'Return frame_id=observation.reference.frame_id: points lie in that frame.')
    _require(future.stamp == observation.stamp, f'stamp of {title}', observation.stamp,
             future.stamp, 'Return stamp=observation.stamp.')
    _require_centres(future, title)
    _require_depth(future, observation, title)


def _require(condition: bool, what: str, expected: object, got: object, hint: str) -> None:
    if not condition:
        raise GenerationError(what, expected=str(expected), got=str(got), hint=hint)


def _require_centres(future: Future, title: str) -> None:
    height, width = future.rgb.shape[2:4]
    for name, K in zip(future.cameras, future.K, strict=True):
        cx, cy = float(K[0, 2]), float(K[1, 2])
        _require(0 <= cx < width and 0 <= cy < height, f'K of {title}, camera {name!r}',
                 f'a principal point inside the generated images of {width}x{height}',
                 f'cx = {cx:g}, cy = {cy:g}',
                 'Scale K with the images: core.camera.resize_view and resize_intrinsics do.')


def _require_depth(future: Future, observation: Observation, title: str) -> None:
    """Compares medians over the pixels of the reference view that both know."""
    view, size = observation.reference, future.rgb.shape[2:4]
    if size[0] > view.size[0] or size[1] > view.size[1]:
        return  # larger than what was measured: no pixels to compare
    measured = resize_view(view, *size).depth
    z = future.points[0, 0, ..., 2]
    both = future.valid[0, 0] & np.isfinite(measured)
    if not both.any():  # futures of RGB alone
        return
    ours, true = float(np.median(z[both])), float(np.median(measured[both]))
    _require(true / MAX_SCALE <= ours <= true * MAX_SCALE,
             f'points of {title} in frame 0 of the reference view',
             f'a median depth near the measured {true:.3g} m', f'{ours:.3g}',
             'Points are in metres, in the optical frame of the reference camera, z forward.')
