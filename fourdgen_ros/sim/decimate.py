# SPDX-License-Identifier: Apache-2.0
"""How the bundled robot meshes were made from MuJoCo Menagerie's `franka_emika_panda`.

Run once, by hand: `python -m fourdgen_ros.sim.decimate MENAGERIE_FOLDER OUT_FOLDER`. Needs trimesh
and fast_simplification, which nothing else in the package needs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import fast_simplification
import numpy as np
import trimesh

_KEEP = 0.165  # share of the triangles that stays
_SMALLEST = 60  # no mesh goes below this many triangles by decimation
_FINE = {'hand_': 0.35, 'finger_': 0.6}  # the gripper is what trackers look at


def decimate(source: Path, target: Path) -> None:
    """Write a coarser copy of an OBJ mesh without normals and texture."""
    loaded = trimesh.load(source, force='mesh', process=False)
    mesh = trimesh.Trimesh(loaded.vertices, loaded.faces, process=False)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    share = next((s for prefix, s in _FINE.items() if source.name.startswith(prefix)), _KEEP)
    wanted = max(int(len(mesh.faces) * share), min(len(mesh.faces), _SMALLEST))
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    if wanted < len(faces):
        vertices, faces = fast_simplification.simplify(
            vertices.astype(np.float32), faces, target_count=wanted, agg=5)
    lines = [f'v {x:.5f} {y:.5f} {z:.5f}' for x, y, z in vertices]
    lines += [f'f {a} {b} {c}' for a, b, c in np.asarray(faces) + 1]
    target.write_text('\n'.join(lines) + '\n')


def main(source: Path, out: Path) -> None:
    """Copy the model with decimated visual meshes; collision meshes stay as they are."""
    (out / 'assets').mkdir(parents=True, exist_ok=True)
    for name in ('panda.xml', 'LICENSE'):
        shutil.copyfile(source / name, out / name)
    for path in sorted((source / 'assets').iterdir()):
        if path.suffix == '.stl' or 'collision' in path.name:
            shutil.copyfile(path, out / 'assets' / path.name)
        else:
            decimate(path, out / 'assets' / path.name)


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
