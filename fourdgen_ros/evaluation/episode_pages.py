# SPDX-License-Identifier: Apache-2.0
"""Pages that show a recorded episode: colour with the TCP's path, depth, and the fused cloud."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import (
    pointmap,
    project,
    resize_color,
    resize_intrinsics,
    resize_nearest,
)
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.files import write_whole
from fourdgen_ros.core.images import metres
from fourdgen_ros.data.dataset import Dataset
from fourdgen_ros.data.episode import COLOUR, DEPTH, Episode
from fourdgen_ros.evaluation import drawing
from fourdgen_ros.evaluation.drawing import REAL
from fourdgen_ros.evaluation.picture import save_gif, save_picture

KINDS = '.gif', '.png', '.html'
SHOWN = 240, 320  # pixels of a panel
_GAP = 4
_WORKSPACE = 0.75  # m around the middle of the TCP's path that the cloud shows
_ELEVATION = np.deg2rad(35.0)
_TURN = np.deg2rad(50.0)  # that the view of the cloud goes around in an episode


@dataclass(frozen=True, eq=False)
class Frame:
    """What all cameras see at one record: rgb (h, w, 3), depth (h, w) m and K (3, 3) of each, with
    images no larger than a panel."""

    record: int
    rgb: list[NDArray[np.uint8]]
    depth: list[NDArray[np.float32]]
    K: list[NDArray[np.float64]]


def load_frames(data: Dataset, index: int, every: int) -> list[Frame]:
    """Every so-manieth record of an episode, reduced to panels."""
    frames: dict[int, Frame] = {}
    K = data.episode(index).K
    for picture in data.pictures(index, every):
        frame = frames.setdefault(picture.record, Frame(picture.record, [], [], []))
        size = picture.values.shape[:2]
        h, w = SHOWN if min(np.subtract(size, SHOWN)) >= 0 else size
        if picture.kind == COLOUR:
            frame.rgb.append(resize_color(picture.values, h, w))
            frame.K.append(resize_intrinsics(K[picture.camera], size, h, w))
        elif picture.kind == DEPTH:
            frame.depth.append(resize_nearest(metres(picture.values), h, w))
    return [frames[k] for k in sorted(frames)]


def pages(episode: Episode, frames: Sequence[Frame]) -> Iterator[Image.Image]:
    """A row per camera with colour and depth; on the right the cloud of all, in the base frame."""
    height, width = SHOWN
    rows = len(episode.cameras)
    seen = np.concatenate([d[np.isfinite(d)] for d in frames[0].depth])
    if not len(seen):
        raise InputError(f'depth of {episode.source}', expected='valid pixels', got='none')
    near, far = np.percentile(seen, [1, 99])
    side = max(rows * (height + _GAP) - _GAP, width)
    for number, frame in enumerate(frames):
        page = Image.new('RGB', (2 * (width + _GAP) + side, side), drawing.PAPER)
        for v, camera in enumerate(episode.cameras):
            y = v * (height + _GAP)
            page.paste(_colour_panel(episode, frame, v), (0, y))
            page.paste(drawing.enlarged(drawing.depth_colours(frame.depth[v], near, far), *SHOWN),
                       (width + _GAP, y))
            draw = ImageDraw.Draw(page)
            drawing.label(draw, (8, y + height - 6), camera.name, anchor='ld')
        turn = _TURN * (number / max(len(frames) - 1, 1) - 0.5)
        page.paste(_cloud_panel(episode, frame, side, turn), (2 * (width + _GAP), 0))
        draw = ImageDraw.Draw(page)
        seconds = (episode.stamps[frame.record, 0] - episode.stamps[0, 0]) * 1e-9
        drawing.label(draw, (page.width - 8, 6),
                      f'{seconds:.1f} s   opening {1e3 * episode.opening[frame.record]:.0f} mm',
                      anchor='ra')
        drawing.label(draw, (width + _GAP + 8, 6), f'depth {near:.2f} .. {far:.2f} m')
        drawing.label(draw, (8, 6), episode.text[:60])
        yield page


def save(episode: Episode, frames: Sequence[Frame], path: Path, seconds: float) -> None:
    """Write one of `KINDS`: a film, up to six moments below each other, or a page with a slider."""
    if path.suffix == '.gif':
        save_gif(pages(episode, frames), path, seconds)
    elif path.suffix == '.png':
        picks = np.unique(np.linspace(0, len(frames) - 1, 6).round().astype(int))
        shown = list(pages(episode, [frames[k] for k in picks]))
        sheet = Image.new('RGB', (shown[0].width, len(shown) * (shown[0].height + 2 * _GAP)),
                          drawing.PAPER)
        for k, page in enumerate(shown):
            sheet.paste(page, (0, k * (page.height + 2 * _GAP)))
        save_picture(sheet, path)
    else:
        write_whole(path, _html(episode, list(pages(episode, frames)), seconds))


def _colour_panel(episode: Episode, frame: Frame, v: int) -> Image.Image:
    image = drawing.enlarged(frame.rgb[v], *SHOWN)
    draw = ImageDraw.Draw(image)
    K = drawing.shown_intrinsics(frame.K[v], frame.rgb[v].shape[:2], SHOWN)
    T = episode.T_base_camera[frame.record, v]
    drawing.draw_gripper_path(draw, episode.tcp, K, T, REAL, width=2)
    drawing.draw_gripper(draw, episode.tcp[frame.record], float(episode.opening[frame.record]), K,
                         T, REAL)
    return image


def _cloud_panel(episode: Episode, frame: Frame, side: int, turn: float) -> Image.Image:
    """Points near the path, far ones first, and the path, from a place beside the robot."""
    path = episode.tcp[:, :3, 3]
    middle = 0.5 * (path.min(0) + path.max(0))
    points, colours = [], []
    for v in range(len(episode.cameras)):
        p = pointmap(frame.depth[v], frame.K[v])
        valid = np.isfinite(p).all(-1)
        points.append(se3.apply(episode.T_base_camera[frame.record, v],
                                p[valid].astype(np.float64)))
        colours.append(frame.rgb[v][valid])
    cloud, rgb = np.concatenate(points), np.concatenate(colours)
    close = np.linalg.norm(cloud - middle, axis=1) < _WORKSPACE
    cloud, rgb = cloud[close], rgb[close]
    T, K = _viewpoint(middle, side, turn)
    u, v, z = project(se3.apply(se3.inverse(T), cloud), K)
    image = np.full((side, side, 3), 32, np.uint8)
    order = np.argsort(-z)
    u, v, rgb, z = (np.asarray(a)[order] for a in (u, v, rgb, z))
    for du in range(2):  # each point covers 2 x 2 pixels
        for dv in range(2):
            x, y = np.rint(u).astype(int) + du, np.rint(v).astype(int) + dv
            inside = (z > 0) & (x >= 0) & (x < side) & (y >= 0) & (y < side)
            image[y[inside], x[inside]] = rgb[inside]
    out = Image.fromarray(image)
    draw = ImageDraw.Draw(out)
    drawing.draw_gripper_path(draw, episode.tcp, K, T, REAL, width=2)
    drawing.draw_gripper(draw, episode.tcp[frame.record], float(episode.opening[frame.record]), K,
                         T, REAL)
    return out


def _viewpoint(middle: NDArray[np.float64], side: int,
               turn: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """T_base_camera and K of an eye that looks at `middle` from in front, above, and aside."""
    away = np.array([np.cos(_ELEVATION) * np.cos(turn), np.cos(_ELEVATION) * np.sin(turn),
                     np.sin(_ELEVATION)])
    z = -away
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z], axis=1)
    distance = 2.2 * _WORKSPACE
    f = 0.5 * side / np.tan(np.deg2rad(21.0))
    K = np.array([[f, 0.0, side / 2 - 0.5], [0.0, f, side / 2 - 0.5], [0.0, 0.0, 1.0]])
    return se3.make(rotation, middle + distance * away), K


def _html(episode: Episode, shown: list[Image.Image], seconds: float) -> str:
    """One file: the pages, a slider, and a button that plays."""
    images = []
    for page in shown:
        data = io.BytesIO()
        page.save(data, 'JPEG', quality=85)
        images.append('data:image/jpeg;base64,' + base64.b64encode(data.getvalue()).decode())
    title = (episode.text.replace('&', '&amp;').replace('<', '&lt;'))
    return f'''<!doctype html><meta charset="utf-8"><title>{title}</title>
<body style="font-family:sans-serif;margin:1em"><h3>{title}</h3>
<img id="page" style="max-width:100%"><br>
<button id="play">play</button>
<input id="at" type="range" min="0" max="{len(images) - 1}" value="0" style="width:60%">
<script>
const pages = {json.dumps(images)}, at = document.getElementById('at');
const show = () => {{ document.getElementById('page').src = pages[at.value]; }};
let timer = null;
document.getElementById('play').onclick = () => {{
  if (timer) {{ clearInterval(timer); timer = null; return; }}
  timer = setInterval(() => {{ at.value = (+at.value + 1) % pages.length; show(); }},
                      {1000 * seconds:.0f});
}};
at.oninput = show; show();
</script></body>
'''
