# SPDX-License-Identifier: Apache-2.0
"""Colour, depth and segmentation pictures of a MuJoCo scene, off screen."""

from __future__ import annotations

import os
import weakref

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core.errors import FourdgenError
from fourdgen_ros.sim.engine import mujoco

_FAR = 6.5  # m; depth cameras of the kind simulated here see no further


class SceneRenderer:
    """One OpenGL context with its own scene buffers.

    A context belongs to the thread that made it: create one per thread. `capture` copies what is to
    be drawn out of the simulation (hold its lock meanwhile); the drawing then needs no lock.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        """Raises FourdgenError where OpenGL cannot render."""
        g = model.vis.global_
        try:
            self._gl = mujoco.GLContext(int(g.offwidth), int(g.offheight))
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
        except Exception as error:  # each platform of OpenGL has its own
            raise FourdgenError('rendering', expected='a display, or MUJOCO_GL=egl',
                                got=f'MUJOCO_GL={os.environ.get("MUJOCO_GL", "")}: {error}',
                                hint='Run `fourdgen doctor`.') from error
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=600)
        self._option = mujoco.MjvOption()
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._context)
        self._context.readDepthMap = int(mujoco.mjtDepthMap.mjDEPTH_ZEROFAR)
        weakref.finalize(self, _free, self._gl, self._context).atexit = False

    def capture(self, data: mujoco.MjData, camera: str) -> None:
        """Take over geometry and camera poses as they are in `data` now."""
        view = mujoco.MjvCamera()
        view.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)
        view.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(self._model, data, self._option, None, view,
                               int(mujoco.mjtCatBit.mjCAT_ALL), self._scene)

    def rgbd(self, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Colour (H, W, 3) and depth (H, W) in m along the optical axis, NaN beyond 6.5 m.

        Height and width are at most those of the model's off-screen buffer.
        """
        self._gl.make_current()
        rect = mujoco.MjrRect(0, 0, width, height)
        rgb = np.empty((height, width, 3), np.uint8)
        buffer = np.empty((height, width), np.float32)
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, buffer, rect, self._context)
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        depth = (near * far / (near + buffer.astype(np.float64) * (far - near))).astype(np.float32)
        depth[depth > _FAR] = np.nan
        return np.ascontiguousarray(rgb[::-1]), np.ascontiguousarray(depth[::-1])

    def geoms(self, height: int, width: int) -> NDArray[np.int32]:
        """(H, W) id of the geom seen by each pixel, -1 for none; sizes as for `rgbd`."""
        self._gl.make_current()
        rect = mujoco.MjrRect(0, 0, width, height)
        rgb = np.empty((height, width, 3), np.uint8)
        flags = self._scene.flags
        before = flags.copy()
        flags[int(mujoco.mjtRndFlag.mjRND_SEGMENT)] = 1
        flags[int(mujoco.mjtRndFlag.mjRND_IDCOLOR)] = 1
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, None, rect, self._context)
        np.copyto(flags, before)
        ids = rgb[::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        lookup = np.full(self._scene.ngeom + 2, -1, np.int32)
        geom_type = int(mujoco.mjtObj.mjOBJ_GEOM)
        for g in self._scene.geoms[:self._scene.ngeom]:
            if g.segid >= 0 and int(g.objtype) == geom_type:
                lookup[g.segid + 1] = g.objid
        return lookup[ids]


def _free(gl: mujoco.GLContext, context: mujoco.MjrContext) -> None:
    """OpenGL deletes by number in whichever context is current, be it another renderer's."""
    gl.make_current()
    context.free()
    gl.free()
