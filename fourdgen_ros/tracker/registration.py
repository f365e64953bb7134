# SPDX-License-Identifier: Apache-2.0
"""Robust Gauss-Newton of the gripper's surface to all views at once.

Three kinds of residual, in metres, linearised in the TCP frame:

* pixel -> nearest model point, along the model's normal;
* model point -> the distance measured at the pixel it projects to, along the normal (last stage);
* outline of the model -> outline of the mask, across the viewing ray, below a pixel.

Per view only model points that face its camera take part in the first two: without that test the
front and the back of the hand swap. The outline carries most of the information where the points
are noisy or smeared, as they are in a generated clip, so its weight grows with their spread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fourdgen_ros.core import se3
from fourdgen_ros.tracker.frames import FrameView, inside_image, pixels_per_metre, to_pixels
from fourdgen_ros.tracker.gripper_model import COVER_SPACING, RIM_LENGTH, GripperModel

Array = NDArray[np.float64]

FACING = 0.15
SPREAD_FLOOR = 0.002
OUTLINE_SPREAD = 0.003
OCCLUSION = 0.02
STEP_OUT, CLEARANCE = 0.009, 0.0075
BEHIND = 0.005
HIDDEN_MARGIN = 0.5
MAX_TURN = 0.2
SHARP = 0.3
ON_SURFACE = 0.015
ON_OUTLINE = 0.006


@dataclass(frozen=True)
class Stage:
    """One step from coarse to fine: `gate` m, iterations, use every `stride`-th point; without
    `points` the outlines alone count, for views that have no depth."""

    gate: float
    iterations: int
    stride: int = 1
    projective: bool = False
    points: bool = True


COARSE = (Stage(0.05, 3, 3),)
MIDDLE = (Stage(0.03, 3),)
FINE = (Stage(0.015, 3, projective=True),)
LAST = (Stage(0.012, 3, projective=True),)


@dataclass(frozen=True, eq=False)
class Fit:
    """pose T_ref_tcp (4, 4); information (6, 6) of a twist in the TCP frame, inverse covariance if
    all residuals were independent; `spread` m, the robust spread of the points along the normal;
    `agreement` 0..1, how well points and outlines fit, comparable between poses of one frame."""

    pose: Array
    information: Array
    spread: float
    agreement: float


@dataclass(eq=False)
class _Normal:
    """Normal equations of residuals with rows d/d(v, w) = direction . (v + w x at)."""

    H: Array = field(default_factory=lambda: np.zeros((6, 6)))
    g: Array = field(default_factory=lambda: np.zeros(6))

    def add(self, direction: Array, at: Array, residual: Array, weight: Array) -> None:
        J = np.empty((len(at), 6))
        (x, y, z), (a, b, c) = at.T, direction.T
        J[:, :3] = direction
        J[:, 3], J[:, 4], J[:, 5] = y * c - z * b, z * a - x * c, x * b - y * a
        weighted = J * weight[:, None]
        self.H += weighted.T @ J
        self.g += weighted.T @ residual

    def step(self, gate: float) -> Array:
        """Damped and limited twist (6,)."""
        translation = np.trace(self.H[:3, :3]) / 3.0 + 1e-9
        damping = 1e-3 * translation * np.array([1.0, 1.0, 1.0, 0.01, 0.01, 0.01])
        step = np.asarray(np.linalg.solve(self.H + np.diag(damping), -self.g), np.float64)
        step[:3] *= min(1.0, gate / (float(np.linalg.norm(step[:3])) + 1e-12))
        step[3:] *= min(1.0, MAX_TURN / (float(np.linalg.norm(step[3:])) + 1e-12))
        return step


def facing(points: Array, normals: Array, eye: Array) -> NDArray[np.bool_]:
    """Which surface points (..., 3) with normals (..., 3) look towards `eye` (3,), same frame."""
    view = eye - points
    return np.einsum('...i,...i', normals, view) > FACING * np.sqrt(
        np.einsum('...i,...i', view, view))


def refine(model: GripperModel, opening: float, views: list[FrameView], pose: Array,
           stages: tuple[Stage, ...]) -> Fit:
    """Improve T_ref_tcp (4, 4) from a start nearby, with the fingers `opening` m apart."""
    points, normals = model.surface(opening)
    T, normal, spread = pose, _Normal(), stages[-1].gate
    for stage in stages:
        matchers = [_Matcher(model, opening, points, normals, v, stage) for v in views]
        for iteration in range(stage.iterations):
            normal = _Normal()
            fresh = iteration % (4 if stage.projective else 2) == 0
            spreads = [m.collect(T, normal, fresh=fresh) for m in matchers]
            spread = float(np.mean([s for s in spreads if s is not None] or [stage.gate]))
            step = normal.step(stage.gate)
            T = T @ se3.exp(step)
            if np.linalg.norm(step[:3]) < 5e-5 and np.linalg.norm(step[3:]) < 5e-4:
                break
    U, _, Vt = np.linalg.svd(T[:3, :3])
    T = se3.make(U @ Vt, T[:3, 3])
    total = sum(v.pixels for v in views)
    agreement = sum(m.agreement(T) * v.pixels / total for m, v in zip(matchers, views, strict=True)
                    if v.pixels > 0)
    return Fit(T, normal.H / spread**2, spread, agreement)


def _hidden(view: FrameView, Y: Array) -> NDArray[np.bool_]:
    """Which points (n, 3) in the optical frame lie behind something else than the gripper."""
    col, row, inside = inside_image(view.camera, Y)
    return inside & (view.mask[row, col] < 0.5) & (view.depth[row, col] < Y[:, 2] + BEHIND)


class _Matcher:
    """Correspondences of one stage in one view."""

    def __init__(self, model: GripperModel, opening: float, points: Array, normals: Array,
                 view: FrameView, stage: Stage) -> None:
        self._model, self._opening = model, opening
        self._all = points
        self._points, self._normals = points[::stage.stride], normals[::stage.stride]
        self._view, self._stage = view, stage
        self._q = self._n = np.zeros((0, 3))
        self._tree: cKDTree | None = None
        self._outline = (np.zeros((0, 3)), np.zeros(0), np.zeros(0))

    def collect(self, T: Array, normal: _Normal, *, fresh: bool) -> float | None:
        """Add this view's residuals at pose T; returns their spread in m, None without any."""
        T_tcp_ref = se3.inverse(T)
        T_cam_tcp = self._view.camera.T_cam_ref @ T
        if not self._stage.points:
            if fresh:
                self._outline = self._find_outline(T_cam_tcp)
            self._outlines(T_cam_tcp, OUTLINE_SPREAD, normal)
            return OUTLINE_SPREAD
        if not len(self._view.points):
            return None
        if self._tree is None:
            front = facing(self._points, self._normals,
                           se3.apply(T_tcp_ref, self._view.camera.centre))
            self._q, self._n = self._points[front], self._normals[front]
            self._tree = cKDTree(self._q)
        if fresh:
            self._outline = self._find_outline(T_cam_tcp)
        spread = self._pixels_to_model(T_tcp_ref, normal)
        if self._stage.projective:
            self._model_to_pixels(T_cam_tcp, normal)
        self._outlines(T_cam_tcp, spread, normal)
        return spread

    def agreement(self, T: Array) -> float:
        """Share 0..1 of the gripper's points on the surface times closeness of the outlines."""
        if not self._stage.points:
            return self._closeness(T)
        if self._tree is None:
            return 0.0
        stride = self._stage.stride
        p = se3.apply(se3.inverse(T), self._view.points[::stride])
        weight = self._view.weights[::stride]
        distance, _ = self._tree.query(p, distance_upper_bound=2.0 * ON_SURFACE)
        share = weight @ np.exp(-(distance / ON_SURFACE) ** 2) / (weight.sum() + 1e-9)
        return float(share * self._closeness(T))

    def _closeness(self, T: Array) -> float:
        """How close 0..1 the outlines of model and mask are."""
        points, lengths, recession = self._outline
        if self._view.outline is None or not len(points):
            return 0.0
        camera = self._view.camera
        Y = se3.apply(camera.T_cam_ref @ T, points)
        distance, _ = self._view.outline.observed(to_pixels(camera, Y))
        metres = np.abs(distance - recession) * Y[:, 2] / camera.K[0, 0]
        return float(lengths @ np.exp(-(metres / ON_OUTLINE) ** 2) / lengths.sum())

    def _pixels_to_model(self, T_tcp_ref: Array, normal: _Normal) -> float:
        assert self._tree is not None  # made by whoever asks for this
        stride, gate = self._stage.stride, self._stage.gate
        p = se3.apply(T_tcp_ref, self._view.points[::stride])
        distance, index = self._tree.query(p, distance_upper_bound=2.0 * gate)
        found = np.isfinite(distance)
        p, index = p[found], index[found]
        n = self._n[index]
        along = np.einsum('ni,ni->n', p - self._q[index], n)
        spread = _spread(along[np.abs(along) < gate], gate)
        weight = self._view.weights[::stride][found] * _tukey(along, min(4.685 * spread, gate))
        # A pixel's point moves by -(v + w x p) in the TCP frame.
        normal.add(-n, p, along, weight)
        return spread

    def _model_to_pixels(self, T_cam_tcp: Array, normal: _Normal) -> None:
        view, gate = self._view, self._stage.gate
        Y = se3.apply(T_cam_tcp, self._q)
        col, row, ok = inside_image(view.camera, Y)
        depth, mask = view.depth[row, col], view.mask[row, col]
        ok &= (mask > 0.5) & (np.abs(depth - Y[:, 2]) < 2.0 * gate)
        # Measured along the ray through the model point: no rounding to the pixel's centre.
        p = se3.apply(se3.inverse(T_cam_tcp), Y[ok] * (depth[ok] / Y[ok, 2])[:, None])
        along = np.einsum('ni,ni->n', p - self._q[ok], self._n[ok])
        weight = (mask * view.trust[row, col])[ok]
        normal.add(-self._n[ok], p, along,
                   weight * _tukey(along, min(4.685 * _spread(along, gate), gate)))

    def _find_outline(self, T_cam_tcp: Array) -> tuple[Array, Array, Array]:
        """The model's outer outline: points (n, 3) in the TCP frame, lengths (n,) m, and how far
        (n,) px outside of the mask they should be."""
        view, camera, soft = self._view, self._view.camera, self._view.outline
        points, outward, lengths = self._model.rims.outline(
            self._opening, se3.inverse(T_cam_tcp)[:3, 3], self._stage.stride)
        # Inner outlines (a finger before the hand) do not show in the mask: step outwards and see
        # whether the model is there as well. Nor do outlines where something stands before the
        # gripper or the arm begins.
        Y = se3.apply(T_cam_tcp, points + STEP_OUT * outward)
        col, row, free = inside_image(camera, Y)
        free &= ~((view.depth[row, col] < Y[:, 2] + BEHIND) & (view.mask[row, col] < 0.5))
        fine = self._stage.projective and soft is not None
        cover = se3.apply(T_cam_tcp, self._model.cover(self._opening) if fine else self._all)
        uv, beside = to_pixels(camera, cover), to_pixels(camera, Y)
        if not fine:
            away, _ = cKDTree(uv).query(beside)
            free &= away * Y[:, 2] > CLEARANCE * camera.K[0, 0]
            return points[free], lengths[free], np.zeros(int(free.sum()))
        assert soft is not None  # or it would not be fine
        scale = pixels_per_metre(camera, cover)
        free &= ~soft.covers(uv, COVER_SPACING * scale, beside, CLEARANCE * scale)
        at = to_pixels(camera, se3.apply(T_cam_tcp, points))
        hidden = _hidden(view, cover)
        if hidden.any():
            away, _ = cKDTree(uv[hidden]).query(at)
            free &= away > HIDDEN_MARGIN + soft.blur
        points, lengths, at = points[free], lengths[free], at[free]
        recession = np.zeros(len(points))
        drawn = soft.drawn(uv[~hidden], COVER_SPACING * scale) if soft.blur > SHARP else None
        if drawn is not None:
            distance, _ = drawn(at)
            recession = np.where(np.isfinite(distance), distance, 0.0)
        return points, lengths, recession

    def _outlines(self, T_cam_tcp: Array, spread: float, normal: _Normal) -> None:
        points, lengths, recession = self._outline
        if self._view.outline is None or not len(points):
            return
        camera, reach = self._view.camera, 2.0 * self._stage.gate
        Y = se3.apply(T_cam_tcp, points)
        distance, gradient = self._view.outline.observed(to_pixels(camera, Y))
        metres = (distance - recession) * Y[:, 2] / camera.K[0, 0]
        near = np.abs(metres) < reach
        Y, gradient, metres = Y[near], gradient[near], metres[near]
        direction = np.concatenate(
            [gradient, -np.einsum('ni,ni->n', gradient, Y[:, :2])[:, None] / Y[:, 2:]], axis=1)
        weight = (spread / OUTLINE_SPREAD) ** 2 * lengths[near] / RIM_LENGTH
        normal.add(direction @ T_cam_tcp[:3, :3], points[near], metres,
                   weight * _tukey(metres, reach))


def _tukey(residual: Array, cut: float) -> Array:
    return np.clip(1.0 - (residual / cut) ** 2, 0.0, None) ** 2


def _spread(residual: Array, gate: float) -> float:
    """Standard deviation (m) of the bulk of residuals, from their median size."""
    if len(residual) < 5:
        return gate / 3.0
    middle = len(residual) // 2
    median = float(np.partition(np.abs(residual), middle)[middle])
    return min(max(1.4826 * median, SPREAD_FLOOR), gate / 3.0)
