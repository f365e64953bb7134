# SPDX-License-Identifier: Apache-2.0
"""Pictures, films and clouds of futures, alone or beside what really happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fourdgen_ros.core.files import whole
from fourdgen_ros.core.types import Future
from fourdgen_ros.evaluation import drawing
from fourdgen_ros.evaluation.drawing import IMAGINED, REAL
from fourdgen_ros.evaluation.recording import SHOWN, Recording

_GAP = 4
_LEFT, _TOP = 92, 30
_COLUMNS = 7


@dataclass(frozen=True)
class _Moment:
    """Frame `frame` of the future of `recording`, `time` s of imagined time into the run."""

    recording: Recording
    segment: int
    frame: int
    time: float


def _moments(recordings: Sequence[Recording]) -> list[_Moment]:
    """Every executed frame once: the last frame of a segment is frame 0 of the next."""
    moments, start = [], 0.0
    for i, recording in enumerate(recordings):
        frames = recording.real.shape[1]
        first = 0 if i == 0 else 1
        moments += [_Moment(recording, i, k, start + k * recording.future.dt)
                    for k in range(first, frames)]
        start += (frames - 1) * recording.future.dt
    return moments


def _panel(moment: _Moment, view: int, real: bool) -> Image.Image:
    """One picture with the paths drawn in: tracked (amber), on real ones also executed (green)."""
    r, k = moment.recording, moment.frame
    rgb = r.real[view, k] if real else r.future.rgb[view, k]
    image = drawing.enlarged(rgb, *SHOWN)
    draw = ImageDraw.Draw(image)
    K = drawing.shown_intrinsics(r.future.K[view], r.future.rgb.shape[2:4], SHOWN)
    T = r.T_base_cameras[view]
    drawing.draw_gripper_path(draw, r.trajectory.poses, K, T, IMAGINED, width=2)
    if real:
        drawing.draw_gripper_path(draw, r.path, K, T, REAL, width=2)
    else:
        drawing.draw_gripper(draw, r.trajectory.poses[k], float(r.trajectory.opening[k]), K, T,
                             IMAGINED)
    return image


def film(recordings: Sequence[Recording]) -> Iterator[Image.Image]:
    """Pictures of a film: imagined on the left, real on the right, a row per view."""
    height, width = SHOWN
    for moment in _moments(recordings):
        cameras = moment.recording.future.cameras
        page = Image.new('RGB', (2 * width + _GAP, len(cameras) * (height + _GAP) - _GAP),
                         drawing.PAPER)
        for v in range(len(cameras)):
            for column, real in enumerate((False, True)):
                page.paste(_panel(moment, v, real), (column * (width + _GAP), v * (height + _GAP)))
        draw = ImageDraw.Draw(page)
        generator = moment.recording.future.generator
        drawing.label(draw, (8, 6), f'imagined ({generator})', colour=IMAGINED)
        drawing.label(draw, (width + _GAP + 8, 6), 'real', colour=REAL)
        drawing.label(draw, (page.width - 8, 6),
                      f'{moment.time:.1f} s   segment {moment.segment + 1}', anchor='ra')
        for v, camera in enumerate(cameras):
            drawing.label(draw, (8, (v + 1) * (height + _GAP) - _GAP - 8), camera, anchor='ld')
        yield page


def strip(recordings: Sequence[Recording]) -> Image.Image:
    """One picture of the run: columns are moments, rows are imagined and real for each view."""
    moments = _moments(recordings)
    chosen = [moments[i] for i in np.unique(np.linspace(0, len(moments) - 1, _COLUMNS).round()
                                            .astype(int))]
    cameras = recordings[0].future.cameras
    rows = [(v, real) for v in range(len(cameras)) for real in (False, True)]
    height, width = SHOWN[0] * 3 // 4, SHOWN[1] * 3 // 4
    page = Image.new('RGB', (_LEFT + len(chosen) * (width + _GAP),
                             _TOP + len(rows) * (height + _GAP)), drawing.PAPER)
    draw = ImageDraw.Draw(page)
    for column, moment in enumerate(chosen):
        x = _LEFT + column * (width + _GAP)
        draw.text((x + width / 2, _TOP / 2), f'{moment.time:.1f} s   segment {moment.segment + 1}',
                  fill=drawing.INK, font=drawing.font(16), anchor='mm')
        for row, (view, real) in enumerate(rows):
            image = _panel(moment, view, real).resize((width, height), Image.Resampling.LANCZOS)
            page.paste(image, (x, _TOP + row * (height + _GAP)))
    for row, (view, real) in enumerate(rows):
        y = _TOP + row * (height + _GAP) + height / 2
        draw.text((6, y - 10), 'real' if real else 'imagined', fill=drawing.INK,
                  font=drawing.font(18), anchor='lm')
        draw.text((6, y + 12), cameras[view], fill=(110, 110, 110), font=drawing.font(15),
                  anchor='lm')
    return page


def future_film(future: Future) -> Iterator[Image.Image]:
    """Pictures of one future: a row per view with colour, depth and the gripper mask."""
    height, width = SHOWN
    depth = future.points[..., 2]
    seen = depth[np.isfinite(depth) & (depth > 0)]
    near, far = np.percentile(seen, [1, 99]) if len(seen) else (0.5, 1.0)
    for t in range(future.frames):
        page = Image.new('RGB', (2 * width + _GAP, len(future.cameras) * (height + _GAP) - _GAP),
                         drawing.PAPER)
        for v in range(len(future.cameras)):
            y = v * (height + _GAP)
            rgb = outlined(future.rgb[v, t], future.gripper[v, t] > 0.5)
            page.paste(drawing.enlarged(rgb, *SHOWN), (0, y))
            colours = drawing.depth_colours(depth[v, t], near, far)
            page.paste(drawing.enlarged(colours, *SHOWN), (width + _GAP, y))
        draw = ImageDraw.Draw(page)
        drawing.label(draw, (page.width - 8, page.height - 8), f'{t * future.dt:.1f} s',
                      anchor='rd')
        drawing.label(draw, (width + _GAP + 8, 6),
                      f'z from {future.cameras[0]}: {near:.2f} m bright, {far:.2f} m dark')
        for v, camera in enumerate(future.cameras):
            drawing.label(draw, (8, (v + 1) * (height + _GAP) - _GAP - 8), camera, anchor='ld')
        yield page


def outlined(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Tint the gripper's pixels."""
    out = rgb.astype(np.float32)
    out[mask] = 0.6 * out[mask] + 0.4 * np.array(IMAGINED, np.float32)
    return out.round().astype(np.uint8)


def save_picture(image: Image.Image, path: Path, **options: object) -> None:
    """A still picture in the format that its name ends with; `options` are those of the format."""
    kind = Image.registered_extensions()[path.suffix]
    with whole(path) as stream:
        image.save(stream, kind, **options)


def save_gif(pages: Iterator[Image.Image], path: Path, frame_seconds: float) -> None:
    """Endless film; its last picture stays for a second longer."""
    images = [_with_palette(page) for page in pages]
    durations = [round(1000 * frame_seconds)] * len(images)
    durations[-1] += 1000
    with whole(path) as stream:
        images[0].save(stream, 'GIF', save_all=True, append_images=images[1:], duration=durations,
                       loop=0)


def _with_palette(page: Image.Image) -> Image.Image:
    """Reduce a page to 256 colours, those of the drawn paths among them: they have few pixels.

    The others come from an octree: a median cut has none left for a small object.
    """
    own = (drawing.IMAGINED, drawing.REAL, drawing.INK, drawing.PAPER)
    count = 256 - len(own)
    reduced = page.quantize(count, Image.Quantize.FASTOCTREE)
    colours = (reduced.getpalette() + [0] * 3 * count)[:3 * count]
    palette = Image.new('P', (1, 1))
    palette.putpalette(colours + [value for colour in own for value in colour])
    return page.quantize(palette=palette, dither=Image.Dither.NONE)


def fused_cloud(future: Future, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points (n, 3) m of all views in the reference camera's optical frame, and their colours."""
    valid = future.valid[:, frame]
    return future.points[:, frame][valid], future.rgb[:, frame][valid]


def save_ply(future: Future, frame: int, path: Path) -> None:
    """Binary PLY of the fused cloud of one frame."""
    points, colours = fused_cloud(future, frame)
    with whole(path) as stream:
        trimesh.PointCloud(points, colours).export(stream, 'ply')
