# SPDX-License-Identifier: Apache-2.0
"""A small picture of every run that failed: what was imagined beside what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Future
from fourdgen_ros.evaluation import drawing, picture
from fourdgen_ros.evaluation.metrics import MASK
from fourdgen_ros.evaluation.road import RoadResult

WIDTH = 1200  # px; about 100 kB as JPEG
_QUALITY = 80
_HEIGHT, _GAP, _TITLE = 120, 4, 26


def folder_of(file: Path) -> Path:
    """Where the strips of the report `file` lie: beside it."""
    return file.with_name(f'{file.stem}_strips')


def save_strip(result: RoadResult, seed: int, folder: Path) -> str:
    """Write the strip of a run that was recorded; its path relative to the report, '' where the run
    came to no future at all. Raises InputError where it cannot be written."""
    recordings = [s.recording for s in result.segments if s.recording is not None]
    pages = [picture.strip(recordings)] if recordings else []
    last = result.segments[-1] if result.segments else None
    if last is not None and last.recording is None and last.future is not None:
        pages.append(_not_executed(last.future))
    if not pages:
        return ''
    file = folder / f'seed_{seed:04d}.jpg'
    try:
        picture.save_picture(_stacked(pages), file, quality=_QUALITY)
    except OSError as error:
        raise InputError(f'picture {file}', expected='a folder that can be written to',
                         got=error.strerror or str(error),
                         hint='Make room there, or name another file by --json.') from error
    return f'{folder.name}/{file.name}'


def _not_executed(future: Future) -> Image.Image:
    """A row per view with every frame of a future, its gripper mask tinted."""
    width = round(_HEIGHT * future.rgb.shape[3] / future.rgb.shape[2])
    page = Image.new('RGB', (future.frames * (width + _GAP) - _GAP,
                             _TITLE + len(future.cameras) * (_HEIGHT + _GAP) - _GAP), drawing.PAPER)
    ImageDraw.Draw(page).text((6, _TITLE / 2), 'the last future, which was not executed',
                              fill=drawing.INK, font=drawing.font(16), anchor='lm')
    for v in range(len(future.cameras)):
        for t in range(future.frames):
            rgb = picture.outlined(future.rgb[v, t], future.gripper[v, t] > MASK)
            page.paste(drawing.enlarged(rgb, _HEIGHT, width),
                       (t * (width + _GAP), _TITLE + v * (_HEIGHT + _GAP)))
    return page


def _stacked(pages: list[Image.Image]) -> Image.Image:
    """Pages below each other, all `WIDTH` wide."""
    scaled = [page.resize((WIDTH, round(page.height * WIDTH / page.width)),
                          Image.Resampling.LANCZOS) for page in pages]
    tops = np.cumsum([0, *(page.height + _GAP for page in scaled)])
    whole = Image.new('RGB', (WIDTH, int(tops[-1]) - _GAP), drawing.PAPER)
    for page, top in zip(scaled, tops, strict=False):
        whole.paste(page, (0, int(top)))
    return whole
