# SPDX-License-Identifier: Apache-2.0
"""The simulated robot cell: physics, servos, joint states and RGB-D cameras in one process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.core.camera import intrinsics_from_fovy, resize_view
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.sim.cameras import CAMERA_SETS, FIXED, CameraPose, checked_set, choose
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.path import Leg
from fourdgen_ros.sim.rehearsal import Rehearsal
from fourdgen_ros.sim.render import SceneRenderer
from fourdgen_ros.sim.scene import (
    ARM_JOINTS,
    GRIPPER_BODIES,
    HOME,
    MAX_HEIGHT,
    MAX_OPENING,
    MAX_WIDTH,
    add_cameras,
    aim,
)
from fourdgen_ros.sim.tasks import load_task

Array = NDArray[np.float64]
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_APPEARANCE = int(mujoco.mjtState.mjSTATE_TIME | mujoco.mjtState.mjSTATE_QPOS
                  | mujoco.mjtState.mjSTATE_MOCAP_POS | mujoco.mjtState.mjSTATE_MOCAP_QUAT)
_FEED_FORWARD = 0.1  # s; damping over stiffness of the arm servos, cancels their lag
_GRIPPER_SPEED = 0.2  # m/s of the opening
_SETTLE = 0.5  # s of physics after objects are placed
_DRAWS = 50  # scenes that are tried for a seed
# Pictures that are small enough are drawn so many times as large and reduced; odd, so that reduced
# depth samples the centre of each pixel.
_ZOOM = 3


@dataclass(frozen=True, eq=False)
class CellState:
    """Everything that determines how the cell goes on and looks: MuJoCo's integration state (time,
    positions, velocities, controls, poses of fixtures), the opening asked of the gripper in m, the
    seed, the task and the set of cameras (see cameras.py)."""

    physics: Array
    gripper_target: float
    seed: int
    task: str
    camera_set: str = FIXED

    def to_array(self) -> Array:
        """(n,) float64: seed, gripper target, index of the set of cameras, physics; all but the
        task."""
        first = [float(self.seed), self.gripper_target, float(CAMERA_SETS.index(self.camera_set))]
        return np.concatenate([first, self.physics])

    @staticmethod
    def from_array(values: NDArray, task: str) -> CellState:
        """Inverse of `to_array`, for a cell of `task`. Raises InputError when it is none."""
        array = np.asarray(values, np.float64)
        if (array.ndim != 1 or len(array) < 4 or not np.isfinite(array).all()
                or array[2] not in range(len(CAMERA_SETS))):
            raise InputError('state of the cell', expected='seed, gripper target, camera set and '
                             'physics, all finite', got=f'shape {array.shape}')
        return CellState(array[3:].copy(), float(array[1]), int(array[0]), task,
                         CAMERA_SETS[int(array[2])])


@dataclass(frozen=True, eq=False)
class Appearance:
    """What pictures of a cell of `task` depend on beside the cameras: of MuJoCo's state time,
    positions and poses of fixtures, (n,)."""

    task: str
    values: Array


class Cell:
    """One Panda, one table, the objects of a task and RGB-D cameras that stand still.

    Lengths in m, angles in rad, time in s since `reset`. Frames: base = `panda_link0` = world.
    Safe to use from several threads: physics and state are behind a lock, and each thread that
    renders has its own OpenGL context. Raises InputError for an unknown task or set of cameras.
    """

    def __init__(self, task: str, seed: int = 0, camera_set: str = FIXED) -> None:
        self._task = load_task(task)
        self.task = task
        self.camera_set = checked_set(camera_set)
        self.cameras: tuple[str, ...] = tuple(self._task.cameras)
        spec = self._task.build()
        add_cameras(spec, self.cameras)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._lock = threading.RLock()
        self._rehearsal: Rehearsal | None = None
        self._renderers = threading.local()
        joints = [self._model.joint(name) for name in ARM_JOINTS]
        fingers = [self._model.joint(f'panda_finger_joint{i}') for i in (1, 2)]
        self._q = np.array([j.qposadr[0] for j in joints])
        self._v = np.array([j.dofadr[0] for j in joints])
        self._finger_q = np.array([j.qposadr[0] for j in fingers])
        self._arm = np.array([self._model.actuator(f'panda_actuator{i}').id for i in range(1, 8)])
        self._gripper = self._model.actuator('panda_actuator8').id
        gripper = [self._model.body(name).id for name in GRIPPER_BODIES]
        # the last one is for id -1: no geom
        self._gripper_geoms = np.append(np.isin(self._model.geom_bodyid, gripper), False)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Put the arm near home, objects and cameras at random places that depend on `seed` only.

        Raises InputError when the expert can do nothing with any scene that is drawn.
        """
        with self._lock:
            self._aim(seed, self.camera_set)
            rng = np.random.default_rng(seed)
            for _ in range(_DRAWS):
                self._draw_scene(rng)
                if self._task.feasible(self):
                    return
        raise InputError('seed', expected=f'a feasible scene within {_DRAWS} draws', got=str(seed))

    def _draw_scene(self, rng: np.random.Generator) -> None:
        mujoco.mj_resetData(self._model, self._data)
        q = HOME + rng.normal(0.0, 0.03, 7)
        self._task.place(self._model, self._data, rng)
        self.set_robot(q, MAX_OPENING)
        self.step(_SETTLE)
        self._data.time = 0.0

    def set_robot(self, q: Array, opening: float) -> None:
        """Place the robot at rest with joints q (7,) and finger opening in m, at once."""
        with self._lock:
            self._data.qpos[self._q] = q
            self._data.qvel[self._v] = 0.0
            self._data.qpos[self._finger_q] = opening / 2.0
            self.set_arm_target(q, np.zeros(7))
            self._gripper_target = opening
            self._data.ctrl[self._gripper] = opening / MAX_OPENING * 255.0
            mujoco.mj_forward(self._model, self._data)

    @property
    def time(self) -> float:
        """Simulated time in s since the last reset."""
        return float(self._data.time)

    def step(self, dt: float) -> None:
        """Advance physics by dt (a multiple of 2 ms)."""
        with self._lock:
            timestep = self._model.opt.timestep
            ctrl, slew = self._data.ctrl, _GRIPPER_SPEED * timestep / MAX_OPENING * 255.0
            goal = self._gripper_target / MAX_OPENING * 255.0
            for _ in range(max(1, round(dt / timestep))):
                now = ctrl[self._gripper]
                ctrl[self._gripper] = now + np.clip(goal - now, -slew, slew)
                mujoco.mj_step(self._model, self._data)

    def set_arm_target(self, q: Array, qd: Array) -> None:
        """Aim the position servos at q (7,) rad moving with qd (7,) rad/s."""
        with self._lock:
            limits = self._model.actuator_ctrlrange[self._arm]
            self._data.ctrl[self._arm] = np.clip(q + _FEED_FORWARD * np.asarray(qd),
                                                 limits[:, 0], limits[:, 1])

    def set_gripper_target(self, opening: float) -> None:
        """Ask for an opening in m, clipped to 0..0.08; 0 closes until something is held."""
        with self._lock:
            self._gripper_target = float(np.clip(opening, 0.0, MAX_OPENING))

    def push(self, body: str, force: Array) -> None:
        """Pull at a body's centre of mass with `force` (3,) N in the base frame from now on, as
        somebody who leans on the robot does; zero ends it, and so does `reset`. Raises InputError.
        """
        with self._lock:
            self._body(body).xfrc_applied[:3] = force

    @property
    def gripper_target(self) -> float:
        """The opening last asked for, m."""
        return self._gripper_target

    @property
    def gripper_ramping(self) -> bool:
        """Whether the servo is still on its way to that opening. From the force of a firm grasp it
        takes a while until the fingers move."""
        with self._lock:
            goal = self._gripper_target / MAX_OPENING * 255.0
            return bool(abs(self._data.ctrl[self._gripper] - goal) > 1e-6)

    @property
    def joint_positions(self) -> Array:
        """(7,) rad."""
        with self._lock:
            return self._data.qpos[self._q].copy()

    @property
    def joint_velocities(self) -> Array:
        """(7,) rad/s."""
        with self._lock:
            return self._data.qvel[self._v].copy()

    @property
    def opening(self) -> float:
        """Distance between the finger pads, m."""
        with self._lock:
            return float(self._data.qpos[self._finger_q].sum())

    def tcp_pose(self) -> Array:
        """T_base_tcp (4, 4) of the tool centre point."""
        with self._lock:
            self._kinematics()
            site = self._data.site('panda_hand_tcp')
            return se3.make(site.xmat.reshape(3, 3).copy(), site.xpos.copy())

    def body_pose(self, name: str) -> Array:
        """T_base_body (4, 4) of a body, e.g. 'apple' or 'panda_link4'. Raises InputError."""
        with self._lock:
            body = self._body(name)
            self._kinematics()
            return se3.make(body.xmat.reshape(3, 3).copy(), body.xpos.copy())

    def touching(self, name: str) -> int:
        """How many fingers touch a body: 0, 1 or 2."""
        with self._lock:
            body = self._model.body(name).id
            fingers = {self._model.body(f).id for f in GRIPPER_BODIES[1:]}
            pairs = self._model.geom_bodyid[self._data.contact.geom]
            hit = {int(other) for a, b in pairs for this, other in ((a, b), (b, a))
                   if this == body and int(other) in fingers}
            return len(hit)

    def rehearse(self, legs: list[Leg], thing: str, *, sealed: bool = True) -> float:
        """How well the arm can go through `legs` from now on; see `Rehearsal.margin`."""
        with self._lock:
            if self._rehearsal is None:  # not every task needs it
                self._rehearsal = Rehearsal(self._model)
            return self._rehearsal.margin(self._data, legs, thing, sealed=sealed)

    def intrinsics(self, camera: str, height: int, width: int) -> Array:
        """K (3, 3) of a picture (height, width). Raises InputError for an unknown camera."""
        return intrinsics_from_fovy(self._camera(camera).fovy, height, width)

    def T_base_camera(self, camera: str) -> Array:
        """(4, 4) pose of the camera's optical frame in the base frame. Raises InputError."""
        pose = self._camera(camera)
        return se3.make(pose.rotation(), np.asarray(pose.position))

    def render(self, camera: str, height: int, width: int) -> RgbdView:
        """RGB-D picture as the camera sees the cell now.

        Raises InputError for an unknown camera and for more than 640x480 pixels.
        """
        zoom = _ZOOM if height * _ZOOM <= MAX_HEIGHT and width * _ZOOM <= MAX_WIDTH else 1
        renderer, stamp = self._capture(camera, height, width)
        rgb, depth = renderer.rgbd(height * zoom, width * zoom)
        view = RgbdView(rgb, depth, self.intrinsics(camera, height * zoom, width * zoom), stamp,
                        camera, f'{camera}_color_optical_frame')
        return resize_view(view, height, width)

    def gripper_mask(self, camera: str, height: int, width: int) -> NDArray[np.bool_]:
        """(H, W), true where hand or fingers are visible; pixel by pixel that of `render`.

        Raises InputError as `render` does.
        """
        renderer, _ = self._capture(camera, height, width)
        return self._gripper_geoms[renderer.geoms(height, width)]

    def observe(self, height: int, width: int) -> Observation:
        """All cameras one after the other, the reference first; stamps differ where another thread
        steps the cell meanwhile."""
        return Observation(tuple(self.render(c, height, width) for c in self.cameras))

    def success(self) -> bool:
        """Whether the task is done: object at its goal and let go."""
        with self._lock:
            return self._task.success(self)

    def stage(self) -> str:
        """How far the task is: 'none', 'reach', 'grasp', 'lift' or 'place'."""
        with self._lock:
            return self._task.stage(self)

    def state(self) -> CellState:
        """A snapshot that `set_state` of any cell of the same task takes."""
        with self._lock:
            physics = np.empty(mujoco.mj_stateSize(self._model, _STATE))
            mujoco.mj_getState(self._model, self._data, physics, _STATE)
            return CellState(physics, self._gripper_target, self.seed, self.task,
                             self.camera_set)

    def set_state(self, state: CellState) -> None:
        """Go on from a snapshot, and see as the cell did. Raises InputError when it is of another
        scene."""
        self._require_own('state of the cell', state.task, state.physics, _STATE)
        with self._lock:
            mujoco.mj_setState(self._model, self._data, state.physics, _STATE)
            self._gripper_target = state.gripper_target
            self._aim(state.seed, state.camera_set)
            mujoco.mj_forward(self._model, self._data)

    def appearance(self) -> Appearance:
        """What the cell looks like now; `set_appearance` of any cell of the same task takes it."""
        with self._lock:
            values = np.empty(mujoco.mj_stateSize(self._model, _APPEARANCE))
            mujoco.mj_getState(self._model, self._data, values, _APPEARANCE)
            return Appearance(self.task, values)

    def set_appearance(self, appearance: Appearance, seed: int) -> None:
        """Look as a cell of the same task and `seed` did, from the cameras that this one's set has
        for the seed. Not to go on from: velocities are not part of it. Raises InputError when it is
        of another scene."""
        self._require_own('appearance of the cell', appearance.task, appearance.values, _APPEARANCE)
        values = appearance.values.astype(np.float64)
        with self._lock:
            mujoco.mj_setState(self._model, self._data, values, _APPEARANCE)
            self._aim(seed, self.camera_set)
            mujoco.mj_forward(self._model, self._data)

    def _require_own(self, what: str, task: str, values: Array, parts: int) -> None:
        """Raise InputError unless `values` hold these parts of MuJoCo's state of this scene. Scenes
        of other tasks may have as many."""
        size = mujoco.mj_stateSize(self._model, parts)
        if task != self.task or values.shape != (size,):
            raise InputError(what, expected=f'{size} numbers of task {self.task}',
                             got=f'{values.shape} of {task}',
                             hint='Take it from a cell of the same task.')

    def _aim(self, seed: int, camera_set: str) -> None:
        """Place the cameras; pictures show it from the next forward pass on."""
        self.seed, self.camera_set = seed, camera_set
        self._poses = choose(camera_set, self._task.cameras, self._task.shell, seed)
        aim(self._model, self._poses)

    def _body(self, name: str) -> Any:
        try:
            return self._data.body(name)
        except KeyError:
            names = [self._model.body(i).name for i in range(self._model.nbody)]
            raise InputError('body of the cell', expected=f'one of {names}',
                             got=repr(name)) from None

    def _kinematics(self) -> None:
        # mj_step leaves body poses one step behind the joint positions
        mujoco.mj_kinematics(self._model, self._data)

    def _camera(self, name: str) -> CameraPose:
        try:
            return self._poses[name]
        except KeyError:
            raise InputError('camera of the cell', expected=f'one of {list(self.cameras)}',
                             got=repr(name)) from None

    def _capture(self, camera: str, height: int, width: int) -> tuple[SceneRenderer, int]:
        """The calling thread's renderer with the scene of now, and the stamp of now in ns."""
        self._camera(camera)
        if height > MAX_HEIGHT or width > MAX_WIDTH:
            raise InputError('picture of the cell', expected=f'at most {MAX_WIDTH}x{MAX_HEIGHT}',
                             got=f'{width}x{height}')
        renderer = getattr(self._renderers, 'own', None)
        if renderer is None:
            renderer = self._renderers.own = SceneRenderer(self._model)
        with self._lock:
            self._kinematics()
            renderer.capture(self._data, camera)
            return renderer, round(self.time * 1e9)
