# SPDX-License-Identifier: Apache-2.0
"""Whether the calibration in a scanned bag is that of the images: its K, and the camera's pose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import images, se3
from fourdgen_ros.core.camera import project
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.data.episode import STILL, CameraModel
from fourdgen_ros.data.findings import BAD, WARNING, Finding, judged
from fourdgen_ros.data.mapping import CameraTopics, TopicMap
from fourdgen_ros.data.scan import Scan

_NOT_BINNED = {0, 1}  # sensor_msgs/CameraInfo: 0 is the same as 1
_SEEN = 0.5  # of the records in which a well placed camera has the TCP in its image


def intrinsics(scan: Scan, topics: TopicMap, camera: CameraTopics,
               found: list[Finding]) -> NDArray[np.float64] | None:
    """K (3, 3) of a camera's images, P of those that are rectified; None when a bad line says
    why."""
    infos, colour = scan.infos[camera.info], scan.images[camera.color]
    if len(infos) != 1:
        found.append(Finding(camera.info, BAD, f'{len(infos)} different calibrations',
                             'Exactly one is needed: record camera_info, do not change it.'))
        return None
    info = infos[0]
    if other := _other_pixels(info):
        found.append(Finding(camera.info, BAD, f'{other}: of which pixels its K is, is unknown',
                             'Record whole images at the resolution of the calibration, or '
                             'publish a camera_info of the images as they are.'))
        return None
    try:
        K = images.camera_info_to_K(info, *colour.size, camera.info, rectified=camera.rectified)
    except InputError as error:
        found.append(Finding(camera.info, BAD, error.problem, error.hint))
        return None
    distorted = bool(np.any(info.d)) and not camera.rectified
    found.append(judged(
        camera.info, f'fx {K[0, 0]:.1f}, fy {K[1, 1]:.1f}'
        + (', distortion is not 0' if distorted else ''), warning=distorted,
        next='If images are not rectified: K is used, distortion is not.'))
    P = np.array(info.p, float).reshape(3, 4)[:, :3]
    if not camera.rectified and P[0, 0] > 0 and not np.allclose(P, K):
        found.append(Finding(
            camera.info, WARNING, f'fx {K[0, 0]:.1f} of K, {P[0, 0]:.1f} of P: K is used',
            f'Are the images rectified (image_rect)? Then `rectified: true` of camera '
            f'{camera.name} in {topics.path} takes P.'))
    frame, own = info.header.frame_id.lstrip('/'), colour.frames[0][1]
    if frame != own:
        found.append(Finding(camera.info, WARNING, f'frame {frame!r}, colour in {own!r}',
                             'Is this the calibration of the colour images?'))
    return K


def place_finding(camera: CameraModel, T_base_camera: NDArray[np.float64]) -> Finding:
    """Where a camera (poses (T, 4, 4)) stands, or a warning that it moves."""
    first = T_base_camera[0]
    metres, radians = np.max([se3.distance(first, T) for T in T_base_camera], axis=0)
    moves = bool(max(metres, radians) > STILL)
    return judged(f'pose of {camera.name}', f'moves by {metres:.3f} m, {radians:.3f} rad' if moves
                  else f'at {np.round(first[:3, 3], 3).tolist()} m', warning=moves,
                  next='Data sets take cameras that move, but `fourdgen data cache` and training '
                       'only those that stand still.')


def view_finding(camera: CameraModel, K: NDArray[np.float64], T_base_camera: NDArray[np.float64],
                 tcp: NDArray[np.float64]) -> Finding:
    """A warning where a camera (poses (T, 4, 4)) seldom has the TCP (T, 4, 4) in its image."""
    u, v, z = project((se3.inverse(T_base_camera) @ tcp[..., 3:])[:, :3, 0], K)
    inside = (z > 0) & (u > -0.5) & (u < camera.width - 0.5) & (v > -0.5) & (
        v < camera.height - 0.5)
    return judged(f'pose of {camera.name}',
                  f'the TCP is in its image in {inside.sum()} of {len(tcp)} records',
                  warning=bool(inside.mean() < _SEEN),
                  next='Is this the optical frame (z forward, x right, y down), and is the '
                       'extrinsic right?')


def _other_pixels(info: Any) -> str:
    """What says that the images are not all pixels of the calibrated sensor; empty if nothing."""
    if not {info.binning_x, info.binning_y} <= _NOT_BINNED:
        return f'binning {info.binning_x}x{info.binning_y}'
    if info.roi.x_offset or info.roi.y_offset:
        return f'region of interest from ({info.roi.x_offset}, {info.roi.y_offset})'
    return ''
