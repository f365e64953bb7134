# SPDX-License-Identifier: Apache-2.0
"""One imagined future with all that belongs to it, as the page keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fourdgen_ros.core.types import Future, GripperTrajectory, MotionPlan

Picture = NDArray[np.uint8]
PICTURE = 180, 240  # px, height and width of one picture in the panel
_GAP = 4
_PAPER, _INK = (250, 250, 250), (110, 110, 110)
_AMBER, _GREEN = (255, 176, 0), (0, 200, 120)


@dataclass(eq=False)
class Segment:
    """A future, T_base_ref (4, 4) of its reference camera, and what came of it.

    `real` maps frames that have been executed to a picture (H, W, 3) by name of camera.
    """

    future: Future
    T_base_ref: NDArray[np.float64]
    trajectory: GripperTrajectory | None = None
    plan: MotionPlan | None = None
    real: dict[int, Mapping[str, Picture]] = field(default_factory=dict)

    @property
    def followed(self) -> int:
        """How many frames the plan follows, frame 0 included."""
        return self.plan.frames if self.plan is not None else 0


def side_by_side(segment: Segment, frame: int, now: Mapping[str, Picture] | None) -> Picture:
    """One picture: a row per view, imagined at `frame` on the left, real on the right.

    The real one was taken when the robot was where it is in this frame; until then, the left
    picture stands beside what the camera sees `now`, and says so. The page may know other cameras
    than the generator.
    """
    height, width = PICTURE
    cameras = segment.future.cameras
    page = Image.new('RGB', (2 * width + _GAP, len(cameras) * (height + _GAP) - _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    real = segment.real.get(frame)
    right = real if real is not None else now if now is not None else {}
    for v, camera in enumerate(cameras):
        y = v * (height + _GAP)
        page.paste(_picture(segment.future.rgb[v, frame]), (0, y))
        _label(draw, (8, y + 6), f'{camera}, imagined', _AMBER)
        if camera not in right:
            draw.text((width + _GAP + width / 2, y + height / 2), 'no camera image', fill=_INK,
                      font=ImageFont.load_default(size=15), anchor='mm')
            continue
        page.paste(_picture(right[camera]), (width + _GAP, y))
        _label(draw, (width + _GAP + 8, y + 6), 'real' if real is not None else
               'now (not executed yet)', _GREEN if real is not None else (235, 235, 235))
    return np.asarray(page)


def imagined(segment: Segment, frame: int) -> Picture:
    """One picture: the views at `frame` side by side, two a row."""
    height, width = PICTURE
    cameras = segment.future.cameras
    rows = (len(cameras) + 1) // 2
    page = Image.new('RGB', (2 * width + _GAP, rows * (height + _GAP) - _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for v, camera in enumerate(cameras):
        x, y = v % 2 * (width + _GAP), v // 2 * (height + _GAP)
        page.paste(_picture(segment.future.rgb[v, frame]), (x, y))
        _label(draw, (x + 8, y + 6), camera, _AMBER)
    return np.asarray(page)


def _picture(rgb: Picture) -> Image.Image:
    height, width = PICTURE
    return Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)


def _label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str,
           colour: tuple[int, int, int]) -> None:
    draw.text(at, text, fill=colour, font=ImageFont.load_default(size=14), stroke_width=2,
              stroke_fill=(20, 20, 24))
