# SPDX-License-Identifier: Apache-2.0
"""The 3-D half of the page: clouds, the hand, lines. Everything lies in the base frame, z up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.view.geometry import (
    BOX_COLOUR,
    PLAN_COLOUR,
    Colours,
    Points,
    confidence_colours,
    frame_cloud,
    only_finite,
)
from fourdgen_ros.view.hand import HandPart
from fourdgen_ros.view.segment import Segment

Array = NDArray[np.float64]
_BACKGROUND = (38, 40, 46)
_PATH, _PLAN = 0.005, 0.004  # m, how thick lines are
_GAMMA = 2.2  # three.js takes colours along a line as linear


class Scene:
    """Draws into the scene of a viser server. Not thread safe."""

    def __init__(self, scene: Any, hand: Sequence[HandPart], box: Array | None,
                 centre: Array) -> None:
        """`box` are the edges (12, 2, 3) of the workspace, `centre` (3,) is on the table."""
        self._scene, self._parts = scene, tuple(hand)
        self.point_size = 0.004
        self._visible: dict[str, bool] = {}
        self._clouds: dict[str, Any] = {}
        self._nodes: dict[str, Any] = {}
        self._live: tuple[Points, Colours] | None = None
        scene.set_up_direction('+z')
        scene.set_background_image(np.full((2, 2, 3), _BACKGROUND, np.uint8))
        scene.add_grid('/table', 2.0, 2.0, position=centre - (0.0, 0.0, 0.002), cell_size=0.1,
                       section_size=0.5, cell_color=(70, 73, 82), section_color=(95, 98, 108))
        self._hand = [self._add_part(i, part) for i, part in enumerate(self._parts)]
        if box is not None:
            self._nodes['workspace'] = scene.add_line_segments(
                '/workspace', box.astype(np.float32), _bytes(0.6 * np.array(BOX_COLOUR)),
                thickness=0.0015)

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide 'live', 'gripper', 'path', 'plan', 'workspace' or 'future/<camera>'."""
        self._visible[name] = visible
        if name == 'live' and visible and self._live is not None:
            self._show_cloud('live', *self._live)
        nodes = self._hand if name == 'gripper' else [
            node for node in (self._nodes.get(name), self._clouds.get(name)) if node is not None]
        for node in nodes:
            node.visible = visible

    def set_point_size(self, size: float) -> None:
        """Size of all points, m."""
        self.point_size = size
        for cloud in self._clouds.values():
            cloud.point_size = size

    def show_live(self, points: Points, colours: Colours) -> None:
        """The cameras' cloud, points (n, 3); browsers get it only while it is shown."""
        self._live = points, colours
        if self._visible.get('live', True):
            self._show_cloud('live', points, colours)

    def show_frame(self, segment: Segment, frame: int) -> None:
        """Clouds and gripper of one frame."""
        for v, camera in enumerate(segment.future.cameras):
            self._show_cloud(f'future/{camera}', *only_finite(*frame_cloud(
                segment.future, frame, segment.T_base_ref, [v])))
        trajectory = segment.trajectory
        tracked = trajectory is not None and frame < len(trajectory.poses)
        for part, node in zip(self._parts, self._hand, strict=True):
            node.visible = tracked and self._visible.get('gripper', True)
            if tracked:
                T = part.at(trajectory.poses[frame], float(trajectory.opening[frame]))
                node.position, node.wxyz = T[:3, 3], _wxyz(T)
                node.color = tuple(int(c) for c in _bytes(confidence_colours(
                    trajectory.confidence[frame:frame + 1])[0]))

    def show_lines(self, segment: Segment) -> None:
        """The tracked path and the plan."""
        trajectory, plan = segment.trajectory, segment.plan
        self._show_line('path', None if trajectory is None else trajectory.poses[:, :3, 3],
                        None if trajectory is None else confidence_colours(trajectory.confidence),
                        _PATH)
        path = None if plan is None else plan.tcp_path[:, :3, 3]
        self._show_line('plan', path, None if path is None else np.tile(PLAN_COLOUR,
                                                                        (len(path), 1)), _PLAN)

    def _add_part(self, number: int, part: HandPart) -> Any:
        mesh = trimesh.load(part.mesh, force='mesh')
        return self._scene.add_mesh_simple(
            f'/gripper/{number}', np.asarray(mesh.vertices, np.float32),
            np.asarray(mesh.faces, np.uint32), color=(200, 200, 200), flat_shading=True,
            visible=False)

    def _show_cloud(self, name: str, points: Points, colours: Colours) -> None:
        cloud = self._clouds.get(name)
        if cloud is None:
            self._clouds[name] = self._scene.add_point_cloud(
                f'/{name}', points, colours, point_size=self.point_size, point_shape='circle',
                point_shading='flat', precision='float32', visible=self._visible.get(name, True))
            return
        cloud.points, cloud.colors = points, colours

    def _show_line(self, name: str, points: Array | None, colours: Array | None,
                   thickness: float) -> None:
        old = self._nodes.pop(name, None)
        if old is not None:
            old.remove()
        if points is not None and len(points) > 1:
            ends = np.stack([points[:-1], points[1:]], axis=1).astype(np.float32)
            shades = np.stack([colours[:-1], colours[1:]], axis=1)
            self._nodes[name] = self._scene.add_line_segments(
                f'/{name}', ends, _bytes(shades**_GAMMA), thickness=thickness,
                visible=self._visible.get(name, True))


def _bytes(colours: Array) -> NDArray[np.uint8]:
    return (np.clip(colours, 0.0, 1.0) * 255.0).round().astype(np.uint8)


def _wxyz(T: Array) -> Array:
    x, y, z, w = se3.quaternion_from_matrix(T[:3, :3])
    return np.array([w, x, y, z])
