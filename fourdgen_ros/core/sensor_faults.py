# SPDX-License-Identifier: Apache-2.0
"""What real RGB-D cameras do and renderers do not, each with one strength in physical units.

Faults of a picture are functions of a view; the others concern when a view was taken or where the
camera is thought to be, so that whoever observes must apply them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import RgbdView

# The stereo pair of a RealSense D435 at its best resolution, 848 x 480: px, m. The depth image is
# then aligned to the colour camera, whatever that one's focal length is.
STEREO_FOCAL, STEREO_BASELINE = 424.0, 0.05
EDGE = 0.03  # relative step of depth between neighbours from which it is an edge
HOLE_WIDTH = 640  # px of an image in whose pixels holes are told
GAMMA = 2.2  # of the display values of colour images

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """A fault by name, see `UNITS`, and its strength in that unit; 0 changes nothing.

    Raises InputError for an unknown name and for a strength that is negative or not finite.
    """

    name: str
    strength: float

    def __post_init__(self) -> None:
        if self.name not in UNITS:
            raise InputError('sensor fault', expected=f'one of {list(UNITS)}', got=repr(self.name))
        if not (np.isfinite(self.strength) and self.strength >= 0):
            raise InputError(f'strength of sensor fault {self.name}',
                             expected=f'at least 0 {UNITS[self.name]}', got=str(self.strength))

    @staticmethod
    def parse(text: str) -> Fault:
        """`NAME=STRENGTH`. Raises InputError, also as the constructor does."""
        name, _, strength = text.partition('=')
        try:
            value = float(strength)
        except ValueError:
            raise InputError('sensor fault', expected='NAME=STRENGTH, the name one of '
                             f'{list(UNITS)}', got=repr(text)) from None
        return Fault(name, value)

    def __str__(self) -> str:
        return f'{self.name}={self.strength:g}'


def depth_noise(view: RgbdView, subpixel: float, rng: np.random.Generator) -> RgbdView:
    """Stereo noise of `subpixel` px RMS in disparity, independent in every pixel.

    sigma_z = z^2 subpixel / (f B), as in Intel's "Tuning depth cameras for best performance": 3.8
    mm at 1 m for 0.08 px. The noise of a real matcher is also correlated over its window.
    """
    disparity = STEREO_FOCAL * STEREO_BASELINE / view.depth.astype(np.float64)
    noisy = disparity + subpixel * rng.standard_normal(view.depth.shape)
    with np.errstate(divide='ignore'):
        depth = STEREO_FOCAL * STEREO_BASELINE / noisy
    return _with_depth(view, np.where(noisy > 0, depth, np.nan))


def depth_holes(view: RgbdView, width: float, rng: np.random.Generator) -> RgbdView:
    """No depth up to `width` px (of an image 640 px wide) from where depth jumps, on both sides.

    An active stereo pair loses there what only one camera sees and what its window mixes; holes
    that are there grow as well. Squares stand for discs.
    """
    radius = round(width * view.size[1] / HOLE_WIDTH)
    if radius == 0:
        return view
    edge = np.zeros(view.size, bool)
    known = np.isfinite(view.depth)
    for axis in (0, 1):
        here, there = (_shifted(view.depth, axis, k) for k in (slice(None, -1), slice(1, None)))
        with np.errstate(invalid='ignore'):
            jump = np.abs(here - there) > EDGE * np.minimum(here, there)
        ends = [_shifted(known, axis, k) for k in (slice(None, -1), slice(1, None))]
        jump |= ends[0] != ends[1]
        for side in (slice(None, -1), slice(1, None)):
            _shifted(edge, axis, side)[...] |= jump
    for axis in (0, 1):
        edge = _dilated(edge, axis, radius - 1)
    return _with_depth(view, np.where(edge, np.nan, view.depth))


def depth_step(view: RgbdView, millimetres: float, rng: np.random.Generator) -> RgbdView:
    """Depth in whole steps of so many mm; 16UC1 images have steps of 1 mm. What rounds to 0 is
    invalid."""
    if millimetres < 1e-6:  # finer than float32 tells
        return view
    step = 1e-3 * millimetres
    depth = step * np.rint(view.depth / step)
    return _with_depth(view, np.where(depth > 0, depth, np.nan))


def exposure(view: RgbdView, stops: float, rng: np.random.Generator) -> RgbdView:
    """Each view brighter or darker by so many stops, by lot: every camera exposes by itself.

    See `exposed`.
    """
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return replace(view, rgb=exposed(view.rgb, sign * stops))


def exposed(rgb: NDArray[np.uint8], stops: float) -> NDArray[np.uint8]:
    """Display values with the light multiplied by 2^stops; what is too bright is cut off."""
    return np.clip(np.rint(rgb * 2.0 ** (stops / GAMMA)), 0, 255).astype(np.uint8)


ViewFault = Callable[[RgbdView, float, np.random.Generator], RgbdView]
VIEW_FAULTS: dict[str, ViewFault] = {
    'depth_noise': depth_noise, 'depth_holes': depth_holes, 'depth_step': depth_step,
    'exposure': exposure}
HAND_EYE = ('hand_eye_shift', 'hand_eye_turn')
UNITS = {'depth_noise': 'px of disparity', 'depth_holes': 'px', 'depth_step': 'mm',
         'exposure': 'stops', 'skew': 'ms', 'hand_eye_shift': 'mm', 'hand_eye_turn': 'deg'}


# Up to which strength pictures to train on have each fault: what a camera in use may do.
TRAINED = {'depth_noise': 0.3, 'depth_holes': 12.0, 'depth_step': 5.0, 'exposure': 2.0,
           'skew': 200.0}


def random_faults(views: Sequence[RgbdView], rng: np.random.Generator) -> list[RgbdView]:
    """Pictures of one camera to train on: each fault by lot in one of two, of a strength drawn
    evenly up to `TRAINED`; all have one exposure, and the faults of depth each its own."""
    stops = rng.uniform(-1.0, 1.0) * TRAINED['exposure'] if rng.random() < 0.5 else 0.0
    seen = []
    for view in views:
        for name in ('depth_noise', 'depth_holes', 'depth_step'):
            if rng.random() < 0.5:
                view = VIEW_FAULTS[name](view, rng.uniform(0.0, TRAINED[name]), rng)
        seen.append(replace(view, rgb=exposed(view.rgb, stops)))
    return seen


def hand_eye_error(fault: Fault, rng: np.random.Generator) -> NDArray[np.float64]:
    """(4, 4) by which the measured pose of a camera is wrong, T_base_measured = T_base_camera @ it:
    a shift of the fault's strength or a turn about the camera's own centre, in a direction drawn
    evenly; the identity for the other faults."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    if fault.name == 'hand_eye_shift':
        return se3.make(None, 1e-3 * fault.strength * direction)
    if fault.name == 'hand_eye_turn':
        return se3.make(se3.exp_so3(np.radians(fault.strength) * direction))
    return np.eye(4)


def _with_depth(view: RgbdView, depth: NDArray) -> RgbdView:
    return replace(view, depth=depth.astype(np.float32))


def _shifted(image: NDArray, axis: int, part: slice) -> NDArray:
    return image[part] if axis == 0 else image[:, part]


def _dilated(mask: NDArray[np.bool_], axis: int, radius: int) -> NDArray[np.bool_]:
    """True within `radius` px along an axis of what is true."""
    out = mask.copy()
    for shift in range(1, radius + 1):
        _shifted(out, axis, slice(shift, None))[...] |= _shifted(mask, axis, slice(None, -shift))
        _shifted(out, axis, slice(None, -shift))[...] |= _shifted(mask, axis, slice(shift, None))
    return out
