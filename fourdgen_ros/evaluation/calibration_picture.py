# SPDX-License-Identifier: Apache-2.0
"""Picture of a calibration check: the gripper where it should be, and where the camera sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import project
from fourdgen_ros.evaluation import drawing
from fourdgen_ros.evaluation.calibration import CameraCheck
from fourdgen_ros.evaluation.drawing import IMAGINED, REAL
from fourdgen_ros.tracker.contour import draw as coverage
from fourdgen_ros.tracker.gripper_model import COVER_SPACING, GripperModel

_HEIGHT = 480  # px of a row
_ZOOM = 0.28  # m around the gripper that the right half shows


def calibration_picture(checks: Sequence[CameraCheck], gripper: GripperModel) -> Image.Image:
    """A row for each camera: its image, and the surroundings of the gripper enlarged.

    Amber is the gripper where kinematics and hand-eye transform put it, green where it is seen.
    """
    rows = [_row(check, gripper) for check in checks]
    page = Image.new('RGB', (max(r.width for r in rows), sum(r.height + 4 for r in rows) - 4),
                     drawing.PAPER)
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + 4
    return page


def _row(check: CameraCheck, gripper: GripperModel) -> Image.Image:
    view = check.view
    height, width = view.size
    shown = Image.fromarray(_overlay(check, gripper))
    shape = (round(_HEIGHT * width / height), _HEIGHT)
    zoom = shown.crop(_box(check)).resize((_HEIGHT, _HEIGHT), Image.Resampling.BICUBIC)
    row = Image.new('RGB', (shape[0] + 4 + _HEIGHT, _HEIGHT), drawing.PAPER)
    row.paste(shown.resize(shape, Image.Resampling.BICUBIC), (0, 0))
    row.paste(zoom, (shape[0] + 4, 0))
    canvas = ImageDraw.Draw(row)
    drawing.label(canvas, (8, 6), f'{view.camera}: {check.verdict.value}', size=20)
    drawing.label(canvas, (8, 32), 'by kinematics and hand-eye', colour=IMAGINED)
    drawing.label(canvas, (8, 52), _measured(check), colour=REAL)
    return row


def _measured(check: CameraCheck) -> str:
    if check.found is None:
        return 'the gripper was not found there'
    return (f'as seen: {1e3 * check.distance:.1f} mm, {np.rad2deg(check.angle):.1f} deg, '
            f'{check.pixels:.1f} px off')


def _overlay(check: CameraCheck, gripper: GripperModel) -> NDArray[np.uint8]:
    rgb = check.view.rgb.astype(float)
    for pose, colour, fill in ((check.expected, IMAGINED, 0.45), (check.found, REAL, 0.0)):
        if pose is None:
            continue
        inside = _silhouette(check, gripper, pose)
        edge = inside & ~ndimage.binary_erosion(inside, iterations=1)
        for mask, share in ((inside, fill), (edge, 1.0)):
            rgb[mask] = (1.0 - share) * rgb[mask] + share * np.array(colour, float)
    return np.rint(rgb).astype(np.uint8)


def _silhouette(check: CameraCheck, gripper: GripperModel,
                pose: NDArray[np.float64]) -> NDArray[np.bool_]:
    points = se3.apply(se3.inverse(check.T_base_camera) @ pose, gripper.cover(check.opening))
    points = points[points[:, 2] > 0.05]
    if not len(points):
        return np.zeros(check.view.size, bool)
    u, v, z = project(points, check.view.K)
    spacing = COVER_SPACING * check.view.K[0, 0] / float(np.median(z))
    return coverage(np.stack([u, v], axis=-1)[None], check.view.size, 0.0, 0.0, 1.0,
                    spacing)[0] > 0.5


def _box(check: CameraCheck) -> tuple[int, int, int, int]:
    """Left, upper, right, lower px of a square around where the gripper should be, inside the
    image; its middle if it should be elsewhere."""
    height, width = check.view.size
    pose = check.expected if check.found is None else check.found
    centre = (se3.inverse(check.T_base_camera) @ pose)[:3, 3]
    u, v, side = width / 2, height / 2, min(height, width) / 2
    if centre[2] > 0.05:
        a, b, z = project(centre, check.view.K)
        if 0 <= a < width and 0 <= b < height:
            u, v, side = float(a), float(b), float(check.view.K[0, 0] * _ZOOM / z)
    side = round(min(max(side, 32), height, width))
    left = int(np.clip(round(u - side / 2), 0, width - side))
    top = int(np.clip(round(v - side / 2), 0, height - side))
    return left, top, left + side, top + side
