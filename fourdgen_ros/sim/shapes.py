# SPDX-License-Identifier: Apache-2.0
"""Meshes of the objects on the table, from profiles: (N, 3) vertices in m, (M, 3) triangles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mesh = tuple[NDArray[np.float64], NDArray[np.int32]]


def lathe(profile: NDArray[np.float64], sectors: int) -> Mesh:
    """Turn an (r, z) profile about z; it runs from the axis to the axis, counter-clockwise in the
    r-z plane, so that triangles face outwards. Points on the axis become one vertex."""
    inner = profile[1:-1]
    angle = np.arange(sectors) * (2.0 * np.pi / sectors)
    ring = np.stack([np.outer(np.cos(angle), inner[:, 0]), np.outer(np.sin(angle), inner[:, 0]),
                     np.tile(inner[:, 1], (sectors, 1))], -1)
    n = len(inner)
    ends = np.array([[0.0, 0.0, profile[0, 1]], [0.0, 0.0, profile[-1, 1]]])
    vertices = np.concatenate([ring.reshape(-1, 3), ends])
    first, last = sectors * n, sectors * n + 1
    faces = []
    for i in range(sectors):
        a, b = i * n, (i + 1) % sectors * n
        faces.append((first, b, a))
        faces.append((last, a + n - 1, b + n - 1))
        for k in range(n - 1):
            faces.append((a + k, b + k, b + k + 1))
            faces.append((a + k, b + k + 1, a + k + 1))
    return vertices, np.array(faces, np.int32)


def apple(radius: float, flatness: float) -> Mesh:
    """An apple whose widest circle has `radius` and whose height is `flatness` of its width."""
    t = np.linspace(0.0, np.pi, 25)
    r = np.sin(t) ** 0.85 * (1.0 + 0.06 * np.cos(2.0 * t + 0.4))
    r *= radius / r.max()
    z = -np.cos(t) * radius * flatness
    z += radius * (0.14 * np.exp(-(t / 0.3) ** 2) - 0.28 * np.exp(-((np.pi - t) / 0.35) ** 2))
    return lathe(np.column_stack([r, z]), 28)


def bowl_profile(floor: float, rim: float, height: float, wall: float
                 ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inner and outer (r, z) curve, from floor to rim, of a bowl with a flat floor."""
    s = np.linspace(0.0, 1.0, 6) * (np.pi / 2.0)
    inner = np.column_stack([floor + (rim - floor) * np.sin(s),
                             wall + (height - wall) * (1.0 - np.cos(s))])
    outer = inner + np.array([0.8 * wall, -wall])
    outer[-1] = inner[-1] + np.array([wall, -0.3 * wall])
    return inner, outer


def bowl(inner: NDArray[np.float64], outer: NDArray[np.float64], sectors: int = 40) -> Mesh:
    """The closed surface between the two curves of `bowl_profile`."""
    axis_low, axis_high = [[0.0, outer[0, 1]]], [[0.0, inner[0, 1]]]
    return lathe(np.concatenate([axis_low, outer, inner[::-1], axis_high]), sectors)


def wedge(inner: NDArray[np.float64], outer: NDArray[np.float64], sectors: int
          ) -> NDArray[np.float64]:
    """(8, 3) corners of one sector between two profile points; convex, for collision. inner and
    outer are (2, 2): lower and upper (r, z)."""
    half = np.pi / sectors
    rz = np.concatenate([inner, outer])
    r = rz[:, 0] / np.cos(half)  # so that neighbours meet and the inside stays outside the wall
    return np.concatenate([
        np.column_stack([r * np.cos(a), r * np.sin(a), rz[:, 1]]) for a in (-half, half)])


def carton(half: NDArray[np.float64]) -> tuple[Mesh, NDArray[np.float64]]:
    """A box of half sizes (3,) and where its vertices lie on a picture, (N, 2) from the upper left.

    The whole picture is on both large sides (-y and y), the strip at its left edge on the others.
    """
    axes = np.eye(3)
    large, small = (0.0, 1.0), (0.01, 0.04)  # shares of the picture's width
    sides = [(-axes[1], axes[0], axes[2], large), (axes[1], -axes[0], axes[2], large),
             (axes[0], axes[1], axes[2], small), (-axes[0], -axes[1], axes[2], small),
             (axes[2], axes[0], axes[1], small), (-axes[2], axes[0], -axes[1], small)]
    corners = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
    vertices, places, faces = [], [], []
    for k, (normal, right, up, strip) in enumerate(sides):
        for a, b in corners:
            vertices.append((normal + a * right + b * up) * half)
            places.append((strip[int(a > 0.0)], (1.0 - b) / 2.0))
        faces += [(4 * k, 4 * k + 1, 4 * k + 2), (4 * k, 4 * k + 2, 4 * k + 3)]
    return (np.array(vertices), np.array(faces, np.int32)), np.array(places)


def loft(sections: NDArray[np.float64], sectors: int = 24) -> Mesh:
    """A closed surface through rounded rectangles along z: rows (z, half size in x, half size in
    y), with z rising."""
    t = np.arange(sectors) * (2.0 * np.pi / sectors)
    outline = np.column_stack([np.sign(f) * np.abs(f) ** 0.4 for f in (np.cos(t), np.sin(t))])
    rings = [np.column_stack([outline * (x, y), np.full(sectors, z)]) for z, x, y in sections]
    ends = [[0.0, 0.0, sections[0, 0]], [0.0, 0.0, sections[-1, 0]]]
    first, last = len(sections) * sectors, len(sections) * sectors + 1
    top = first - sectors
    faces = []
    for i in range(sectors):
        j = (i + 1) % sectors
        faces += [(first, j, i), (last, top + i, top + j)]
        for low in range(0, top, sectors):
            high = low + sectors
            faces += [(low + i, low + j, high + j), (low + i, high + j, high + i)]
    return np.concatenate([*rings, ends]), np.array(faces, np.int32)
