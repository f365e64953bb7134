# SPDX-License-Identifier: Apache-2.0
"""RGB-D images in files -> Observation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Observation, RgbdView

MILLIMETRE = 0.001
_COLOUR = ('_rgb.png', '_rgb.jpg', '_rgb.jpeg')
_CAMERA = ('_camera.json', '_camera.yaml', '_camera.yml')


def load_folder(folder: Path, depth_unit: float = MILLIMETRE) -> Observation:
    """Views NAME_rgb.png|jpg, NAME_depth.png, NAME_camera.json|yaml of a folder, by name; the first
    is the reference. Raises InputError."""
    colour = sorted(p for p in folder.glob('*') if p.name.lower().endswith(_COLOUR))
    if not colour:
        got = ('no NAME_rgb.png' if folder.is_dir() else
               'a file' if folder.exists() else 'no such folder')
        raise InputError(f'folder {folder}', expected='NAME_rgb.png, NAME_depth.png and '
                         'NAME_camera.json for every view', got=got,
                         hint='Name the files so, or name them one by one with --images.')
    views = []
    for path in colour:
        name = path.name[:path.name.lower().rindex('_rgb.')]
        cameras = [folder / f'{name}{end}' for end in _CAMERA]
        camera = next((c for c in cameras if c.is_file()), cameras[0])
        views.append(load_view(name, path, folder / f'{name}_depth.png', camera, depth_unit))
    return Observation(tuple(views))


def load_view(name: str, rgb: Path, depth: Path, camera: Path,
              depth_unit: float = MILLIMETRE) -> RgbdView:
    """One view: colour image, 16 bit depth image (`depth_unit` m a count, 0 is invalid) that is
    aligned to it, and intrinsics (see `load_intrinsics`). Raises InputError."""
    colour = np.asarray(_open(rgb).convert('RGB'))
    raw = _open(depth)
    if raw.mode not in ('I;16', 'I;16L', 'I;16B', 'I'):
        raise InputError(f'depth image {depth}', expected='one channel of 16 bits',
                         got=f'mode {raw.mode}', hint='Save it as 16 bit PNG in mm.')
    counts = np.asarray(raw).astype(np.float32)
    if counts.shape != colour.shape[:2]:
        raise InputError(f'depth image {depth}', expected=_size(colour.shape), got=_size(
            counts.shape), hint='Use depth that is aligned to the colour image.')
    if not (counts > 0).any():
        raise InputError(f'depth image {depth}', expected='some valid depth', got='only zeros',
                         hint='Is the camera covered, or the file of another sensor?')
    metres = counts * np.float32(depth_unit)
    metres[counts <= 0] = np.nan
    K = load_intrinsics(camera, *colour.shape[:2])
    return RgbdView(colour, metres, K, 0, name, f'{name}_color_optical_frame')


def load_intrinsics(path: Path, height: int, width: int) -> NDArray[np.float64]:
    """K (3, 3) for images of (height, width).

    JSON or YAML with `K` or `k` (3x3 or 9 numbers), `fx fy cx cy`, or `camera_matrix` with `data`
    (camera_calibration). Raises InputError, also when the file names another image size.
    """
    if not path.is_file():
        raise InputError(f'camera file {path}', expected='intrinsics as JSON or camera_info YAML',
                         got='no such file', hint='The driver tells them: `ros2 topic echo --once '
                                                  '<camera>/color/camera_info > FILE`.')
    text = path.read_text(encoding='utf-8')
    try:
        data = json.loads(text) if path.suffix == '.json' else next(
            yaml.safe_load_all(text), None)
        if not isinstance(data, dict):
            raise TypeError(f'a {type(data).__name__}')
        K = _matrix(data)
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f'camera file {path}', expected='K, fx fy cx cy, or camera_matrix',
                         got=f'{type(error).__name__}: {error}',
                         hint='Smallest: {"fx": 600, "fy": 600, "cx": 320, "cy": 240}.') from error
    for keys, wanted in ((('width', 'image_width'), width), (('height', 'image_height'), height)):
        for key in keys:
            if key in data and int(data[key]) != wanted:
                raise InputError(f'{key} in {path}', expected=f'{wanted}, as the image',
                                 got=str(data[key]),
                                 hint='Use the calibration of this resolution.')
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise InputError(f'camera file {path}', expected='positive focal lengths',
                         got=str(K.tolist()))
    return K


def _matrix(data: dict) -> NDArray[np.float64]:
    if 'camera_matrix' in data:
        return np.array(data['camera_matrix']['data'], float).reshape(3, 3)
    for key in ('K', 'k'):
        if key in data:
            return np.array(data[key], float).reshape(3, 3)
    fx, fy, cx, cy = (float(data[key]) for key in ('fx', 'fy', 'cx', 'cy'))
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f'image {path}', expected='a PNG or JPEG file',
                         got=f'{type(error).__name__}: {error}',
                         hint='Is the name right, and the file whole?') from error
    return image


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[1]}x{shape[0]}'
