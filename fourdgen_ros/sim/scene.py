# SPDX-License-Identifier: Apache-2.0
"""What all tasks share: robot, table, light; and helpers to add cameras and objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourdgen_ros.sim.cameras import CameraPose
from fourdgen_ros.sim.engine import mujoco
from fourdgen_ros.sim.shapes import Mesh

PREFIX = 'panda_'
HOME = np.array([0.0, -0.35, 0.0, -2.3, 0.0, 1.98, 0.7853])
TCP_OFFSET = 0.1034  # m from the hand frame along its z
MAX_OPENING = 0.08  # m
ARM_JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
GRIPPER_BODIES = ('panda_hand', 'panda_left_finger', 'panda_right_finger')
_PANDA = Path(__file__).parents[1] / 'assets' / 'franka_panda' / 'panda.xml'
# Menagerie's wrist servos saturate on small steps and then oscillate for ever at the step rate.
_WRIST_GAIN = 0.25
_GRIPPER_GAIN = 10.0  # the model's gripper closes with 1.4 N a finger, too weak to lift
MAX_HEIGHT, MAX_WIDTH = 480, 640  # px, of a picture
VISUAL, COLLISION = 2, 3  # geom groups; only groups up to 2 are drawn


def load_robot() -> mujoco.MjSpec:
    """The Panda with tuned servos and finger contacts, gravity compensation, a site `hand_tcp`."""
    robot = mujoco.MjSpec.from_file(str(_PANDA))
    for element in (*robot.keys, *robot.lights):
        robot.delete(element)
    robot.body('hand').add_site(name='hand_tcp', pos=[0.0, 0.0, TCP_OFFSET], group=4)
    for body in robot.bodies:
        body.gravcomp = 1.0  # as the controller of the real arm does
    for name in ('left_finger', 'right_finger'):
        for geom in robot.body(name).geoms:
            if int(geom.type) == int(mujoco.mjtGeom.mjGEOM_BOX):  # the pads
                geom.friction = [2.0, 0.05, 0.002]
                geom.condim = 4
                geom.solref = [0.004, 1.0]
                geom.solimp = [0.98, 0.995, 0.001, 0.5, 2.0]
                geom.priority = 1
    _scale_servo(robot, 'actuator8', stiffness=_GRIPPER_GAIN,
                 damping=float(np.sqrt(_GRIPPER_GAIN)))  # keeps the damping ratio
    for wrist in ('actuator5', 'actuator6', 'actuator7'):
        _scale_servo(robot, wrist, stiffness=_WRIST_GAIN, damping=_WRIST_GAIN)
    return robot


def _scale_servo(robot: mujoco.MjSpec, name: str, stiffness: float, damping: float) -> None:
    servo = robot.actuator(name)
    gain, bias = np.array(servo.gainprm), np.array(servo.biasprm)
    gain[0] *= stiffness
    bias[1] *= stiffness
    bias[2] *= damping
    servo.gainprm, servo.biasprm = gain, bias


def base_scene(name: str) -> mujoco.MjSpec:
    """Robot at the origin, table top at z = 0, floor and light; no objects or cameras yet."""
    spec = mujoco.MjSpec()
    spec.modelname = name
    spec.compiler.degree = False
    spec.option.timestep = 0.002
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    _look(spec)
    world = spec.worldbody
    world.add_light(name='key', pos=[0.2, 0.6, 1.8], dir=[0.15, -0.35, -1.0], castshadow=False,
                    type=mujoco.mjtLightType.mjLIGHT_SPOT, diffuse=[0.55] * 3,
                    specular=[0.2] * 3, cutoff=60.0)
    world.add_geom(name='floor', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4.0, 4.0, 0.1],
                   pos=[0.0, 0.0, -0.75], material='floor')
    world.add_geom(name='table', type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.5, 0.7, 0.02],
                   pos=[0.35, 0.0, -0.02], material='wood', friction=[0.8, 0.01, 0.001])
    world.add_frame().attach_body(load_robot().body('link0'), PREFIX, '')
    return spec


def add_cameras(spec: mujoco.MjSpec, names: Iterable[str]) -> None:
    """Cameras anywhere; `aim` tells where."""
    for name in names:
        spec.worldbody.add_camera(name=name)


def aim(model: mujoco.MjModel, cameras: Mapping[str, CameraPose]) -> None:
    """Put the cameras of a compiled scene in their places."""
    for name, pose in cameras.items():
        camera = model.camera(name)
        # MuJoCo's cameras look along -z with y up
        mujoco.mju_mat2Quat(camera.quat, (pose.rotation() @ np.diag([1.0, -1.0, -1.0])).ravel())
        camera.pos, camera.fovy = pose.position, np.degrees(pose.fovy)


def _look(spec: mujoco.MjSpec) -> None:
    visual = spec.visual
    visual.global_.offwidth, visual.global_.offheight = MAX_WIDTH, MAX_HEIGHT
    visual.quality.offsamples = 0  # multisampling would mix the depths of edges
    visual.headlight.ambient = [0.35] * 3
    visual.headlight.diffuse = [0.35] * 3
    visual.headlight.specular = [0.1] * 3
    visual.map.znear, visual.map.zfar = 0.02, 12.0
    spec.stat.extent, spec.stat.center = 1.0, [0.4, 0.0, 0.2]
    texture, role = mujoco.mjtTexture, mujoco.mjtTextureRole.mjTEXROLE_RGB
    spec.add_texture(name='sky', type=texture.mjTEXTURE_SKYBOX, width=64, height=384,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                     rgb1=[0.85, 0.88, 0.92], rgb2=[0.55, 0.6, 0.68])
    spec.add_texture(name='floor', type=texture.mjTEXTURE_2D, width=128, height=128,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[0.45, 0.45, 0.47], rgb2=[0.5, 0.5, 0.52])
    spec.add_material(name='floor', texrepeat=[8.0, 8.0]).textures[role] = 'floor'
    size = 256
    rng = np.random.default_rng(0)  # a fixed picture of wood
    wobble = np.cumsum(rng.normal(0.0, 0.15, (size, 1)), axis=0)
    grain = 9.0 * np.sin(0.35 * np.arange(size)[:, None] + wobble) + rng.normal(0, 4, (size, size))
    pixels = np.clip(np.array([176.0, 132.0, 92.0]) + grain[..., None], 0, 255).astype(np.uint8)
    wood = spec.add_texture(name='wood', type=texture.mjTEXTURE_2D, width=size, height=size,
                            nchannel=3)
    wood.data = pixels.tobytes()
    material = spec.add_material(name='wood', texrepeat=[1.0, 2.0], specular=0.1, shininess=0.1)
    material.textures[role] = 'wood'


def place_fixture(model: mujoco.MjModel, data: mujoco.MjData, name: str,
                  xy: NDArray[np.float64], yaw: float = 0.0) -> None:
    """Stand a mocap body at (x, y) m on the table, turned by `yaw` rad."""
    fixture = model.body(name).mocapid[0]
    data.mocap_pos[fixture] = [*xy, 0.0]
    data.mocap_quat[fixture] = [np.cos(yaw / 2.0), 0.0, 0.0, np.sin(yaw / 2.0)]


def add_visual_mesh(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, mesh: Mesh,
                    material: str) -> None:
    """Draw a mesh on `body`; it neither collides nor weighs."""
    vertices, faces = mesh
    asset = spec.add_mesh(name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    asset.uservert = vertices.astype(np.float32).ravel()
    asset.userface = faces.ravel()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=material,
                  contype=0, conaffinity=0, mass=0.0, group=VISUAL)


def add_printed_mesh(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, mesh: Mesh,
                     places: NDArray[np.float64], picture: NDArray[np.uint8]) -> None:
    """As `add_visual_mesh`, with a picture (H, W, 3); `places` (N, 2) of the vertices on it are
    shares of its size from the upper left."""
    height, width, _ = picture.shape
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=width,
                               height=height, nchannel=3)
    texture.data = picture.tobytes()
    material = spec.add_material(name=name, specular=0.1, shininess=0.1)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    add_visual_mesh(spec, body, name, mesh, name)
    spec.mesh(name).usertexcoord = places.astype(np.float32).ravel()


def add_convex_mesh(spec: mujoco.MjSpec, name: str, corners: NDArray[np.float64]) -> None:
    """A collision mesh: the hull of (N, 3) corners."""
    asset = spec.add_mesh(name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
    asset.uservert = corners.astype(np.float32).ravel()
