# SPDX-License-Identifier: Apache-2.0
"""The robot file, its kinematics and its collision geometry, against the MuJoCo model."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import fourdgen_ros
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.motion.cartesian import CartesianFollower
from fourdgen_ros.motion.kinematics import RobotModel, mimics
from fourdgen_ros.motion.robot import (
    ControllerNames,
    FingerTip,
    RobotConfig,
    SceneBox,
    Workspace,
)

PACKAGE = Path(fourdgen_ros.__file__).parent
PANDA_URDF = PACKAGE / 'assets' / 'panda_urdf' / 'panda.urdf'
MJCF = PACKAGE / 'assets' / 'franka_panda' / 'panda.xml'


@pytest.fixture(scope='module')
def robot():
    return RobotConfig.named('panda')


@pytest.fixture(scope='module')
def model(robot):
    return RobotModel(robot)


@pytest.fixture(scope='module')
def mujoco_model():
    mujoco = pytest.importorskip('mujoco')
    return mujoco, mujoco.MjModel.from_xml_path(str(MJCF))


def test_forward_kinematics_equal_mujoco(robot, model, mujoco_model):
    mujoco, mj = mujoco_model
    data, hand = mujoco.MjData(mj), mj.body('hand').id
    rng = np.random.default_rng(0)
    for q in rng.uniform(robot.lower, robot.upper, (200, 7)):
        data.qpos[:7] = q
        mujoco.mj_kinematics(mj, data)
        R = data.xmat[hand].reshape(3, 3)
        T = model.fk(q)
        assert np.abs(T[:3, 3] - (data.xpos[hand] + 0.1034 * R[:, 2])).max() < 1e-6
        assert np.abs(T[:3, :3] - R).max() < 1e-6


def test_position_limits_equal_mujoco(robot, mujoco_model):
    _, mj = mujoco_model
    assert np.allclose(mj.jnt_range[:7], np.stack([robot.lower, robot.upper], axis=1), atol=1e-4)


def test_primitives_enclose_the_visual_meshes(robot, mujoco_model):
    mujoco, mj = mujoco_model
    primitives = _primitives(robot.urdf)
    for geom in range(mj.ngeom):
        link = 'panda_' + mj.body(mj.geom_bodyid[geom]).name
        if int(mj.geom_type[geom]) != int(mujoco.mjtGeom.mjGEOM_MESH) or link not in primitives:
            continue
        mesh = mj.geom_dataid[geom]
        first, count = mj.mesh_vertadr[mesh], mj.mesh_vertnum[mesh]
        R = np.zeros(9)
        mujoco.mju_quat2Mat(R, mj.geom_quat[geom])
        points = mj.mesh_vert[first:first + count] @ R.reshape(3, 3).T + mj.geom_pos[geom]
        outside = np.min([_outside(p, points) for p in primitives[link]], axis=0)
        assert outside.max() < 0.003, (link, outside.max())


def test_home_is_free_and_bad_poses_are_not(robot, model):
    assert model.collision(robot.home, 0.08) is None
    low = robot.home.copy()
    low[1] = 1.2
    assert model.collision(low, 0.08)[1] == 'table'
    folded = np.array([0.0, 0.0, 0.0, -3.05, 0.0, 0.3, 0.0])
    assert model.collision(folded, 0.08) == ('panda_link1', 'panda_link6')


def test_collision_names_are_of_this_query_only(robot, model):
    low = robot.home.copy()
    low[1] = 1.2
    assert model.collision(low, 0.08) is not None
    assert model.collision(robot.home, 0.08) is None


def test_finger_opening_counts(robot):
    tcp = RobotModel(robot).fk(robot.home)
    beside = SceneBox('wall', (0.02, 0.02, 0.02), tuple(tcp[:3, 3] + [0.0, 0.055, 0.0]))
    model = RobotModel(replace(robot, scene=(beside,)))
    assert model.collision(robot.home, 0.0) is None
    assert model.collision(robot.home, 0.08)[1] == 'wall'


@pytest.mark.parametrize('side', [1.0, -1.0])
def test_a_finger_that_mimics_another_opens_too(robot, side):
    one = replace(robot, finger_joints=('panda_finger_joint1',))
    tcp = RobotModel(one).fk(one.home)
    beside = SceneBox('peg', (0.02, 0.02, 0.02), tuple(tcp[:3, 3] + [0.0, 0.055 * side, 0.0]))
    model = RobotModel(replace(one, scene=(beside,)))
    assert model.collision(one.home, 0.0) is None
    assert model.collision(one.home, 0.08)[1] == 'peg'


@pytest.mark.parametrize(('files', 'message'), [
    ({'urdf': None}, "urdf of robot 'panda'.*a file"),
    ({'srdf': None}, "srdf of robot 'panda'.*a file"),
    ({'srdf': ''}, "srdf of robot 'panda'.*an SRDF"),
    ({'urdf': PANDA_URDF.read_text().replace(
        '<box size="0.021 0.0264 0.0538"/>', '<mesh filename="package://nowhere/finger.stl"/>')},
     "collision geometry of robot 'panda'.*nowhere"),
])
def test_descriptions_that_are_none_are_refused(robot, tmp_path, files, message):
    for key, text in files.items():
        file = tmp_path / f'robot.{key}'
        if text is not None:
            file.write_text(text)
        robot = replace(robot, **{key: file})
    with pytest.raises(InputError, match=message):
        RobotModel(robot)


@pytest.mark.parametrize('group', ['absent', 'hand'])
def test_a_group_that_is_not_the_arm_is_refused(robot, group):
    with pytest.raises(InputError, match=f"group '{group}' of robot 'panda'.*Set `group`"):
        CartesianFollower(replace(robot, group=group))


def test_a_joint_outside_the_arm_may_be_continuous(robot, tmp_path):
    file = tmp_path / 'robot.urdf'
    file.write_text(PANDA_URDF.read_text().replace('</robot>', """
        <link name="wheel"/><joint name="wheel_joint" type="continuous"><axis xyz="0 0 1"/>
        <parent link="panda_link0"/><child link="wheel"/></joint></robot>"""))
    model, follower = (kind(replace(robot, urdf=file)) for kind in (RobotModel, CartesianFollower))
    start = model.fk(robot.home)
    end = start.copy()
    end[:3, 3] += [0.0, 0.02, 0.0]
    timed = follower.follow(np.stack([start, end]), robot.home, variant=0, velocity_scaling=1.0,
                            acceleration_scaling=1.0)
    assert timed.fraction == 1.0
    assert np.abs(model.fk(timed.positions[-1]) - end).max() < 0.003


def test_what_mimics_a_finger():
    urdf = """<?xml version="1.0" encoding="utf-8"?>
    <robot name="r"><joint name="driver"/><joint name="other"/>
    <joint name="inner"><mimic joint="driver" multiplier="-1" offset="0.2"/></joint>
    <joint name="outer"><mimic joint="driver"/></joint>
    <joint name="elbow"><mimic joint="other"/></joint></robot>"""
    assert mimics(urdf, ['driver']) == [('inner', -1.0, 0.2), ('outer', 1.0, 0.0)]
    assert mimics(urdf, ['driver', 'outer']) == [('inner', -1.0, 0.2)]


ROBOTS = sorted(p.stem for p in (share_directory() / 'config' / 'robots').glob('*.yaml'))


@pytest.mark.parametrize('name', ROBOTS)
def test_every_robot_file(name):
    robot = RobotConfig.named(name)
    assert robot.name == name
    closed, opened = robot.opening
    for opening, position in zip(robot.opening, robot.finger_positions, strict=True):
        assert robot.finger_position(opening) == pytest.approx(position)
        assert robot.opening_at(np.full(len(robot.finger_joints), position)) == pytest.approx(
            opening)
    assert robot.opening_at([robot.finger_position(0.03)] * len(robot.finger_joints)
                            ) == pytest.approx(0.03)
    assert closed == 0.0 and 0.05 < opened < 0.15
    assert (robot.jerk >= robot.acceleration).all()
    assert not any(v is None for v in (*robot.workspace.min, *robot.workspace.max))


def test_robot_files_are_those_that_the_docs_name():
    assert {'panda', 'fr3', 'ur5e_robotiq_2f85', 'xarm7'} == set(ROBOTS)


def test_a_gripper_that_closes_as_its_joint_grows():
    robot = RobotConfig.named('ur5e_robotiq_2f85')
    assert robot.finger_position(0.085) == pytest.approx(0.0)
    assert robot.finger_position(0.0425) == pytest.approx(0.4)
    assert robot.opening_at(np.array([0.8])) == pytest.approx(0.0)


def test_how_wide_a_gripper_is_opened(robot):
    assert robot.opening == (0.0, 0.08)
    assert robot.open_to == RobotConfig.named('fr3').open_to == 0.078
    assert RobotConfig.named('xarm7').open_to == 0.084  # where the file says nothing: fully


def test_nonsense_grippers_are_refused(robot):
    with pytest.raises(InputError, match='finger positions'):
        replace(robot, finger_positions=(0.04, 0.04))
    with pytest.raises(InputError, match='gripper_action_type.*GripperCommand'):
        ControllerNames(arm_action='a', gripper_action='g', gripper_action_type='Grip')


@pytest.mark.parametrize(('keys', 'value', 'named'), [
    (('scene', 0, 'size'), [0.9, 0.0, 0.05], "size of scene box 'table'"),
    (('scene', 0, 'size'), [0.9, 1.3, -0.05], "size of scene box 'table'"),
    (('scene', 0, 'size'), [0.9, 1.3, float('inf')], "size of scene box 'table'"),
    (('scene', 0, 'position'), [0.0, float('nan'), 0.0], "position of scene box 'table'"),
    (('scene', 0, 'touches'), 'panda_link0', '`touches`'),
    (('gripper', 'opening'), [0, 80], 'gripper opening'),
    (('gripper', 'open_to'), 0.0, 'gripper open_to'),
    (('gripper', 'open_to'), 0.081, 'gripper open_to'),
    (('gripper', 'open_to'), float('nan'), 'gripper open_to'),
    (('gripper', 'joints'), 'panda_finger_joint1', r'`gripper\.joints`'),
    (('gripper', 'joints'), [], 'gripper joints'),
    (('gripper', 'joints'), ['panda_finger_joint1'] * 2, 'gripper joints'),
    (('gripper', 'positions'), [0.0, float('inf')], 'finger positions'),
    (('gripper', 'tip', 'reach'), -0.01, 'gripper tip reach'),
    (('gripper', 'tip', 'thickness'), float('nan'), 'gripper tip thickness'),
    (('joints', 1), 'panda_joint1', 'joints and gripper joints'),
    (('gripper', 'effort'), float('nan'), 'gripper effort'),
    (('gripper', 'effort'), -40.0, 'gripper effort'),
    (('table_height',), float('inf'), 'table_height'),
    (('table_height',), 'low', 'robot file'),
    (('scene',), [{'name': 'box', 'size': [0.1] * 3, 'position': [x, 0.0, 0.0], 'touches': []}
                  for x in (1.0, 2.0)], 'scene of robot .* each name once'),
    (('tcp_link',), None, '`tcp_link`'),
    (('group',), '', '`group`'),
    (('controllers', 'arm_action'), None, '`arm_action`'),
    (('controllers',), ['arm_action'], 'robot file'),
    (('scene', 0, 'name'), 7, '`scene name`'),
])
def test_values_that_would_disable_a_check_are_refused(tmp_path, keys, value, named):
    data = yaml.safe_load((share_directory() / 'config' / 'robots' / 'panda.yaml').read_text())
    part = data
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    file = tmp_path / 'robot.yaml'
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=named):
        RobotConfig.from_yaml(file)


def test_yaml_without_a_key_is_refused(tmp_path):
    data = yaml.safe_load((share_directory() / 'config' / 'robots' / 'panda.yaml').read_text())
    del data['limits']['jerk']
    file = tmp_path / 'robot.yaml'
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match='jerk'):
        RobotConfig.from_yaml(file)
    with pytest.raises(InputError, match='robot file'):
        RobotConfig.from_yaml(tmp_path / 'absent.yaml')


def test_nonsense_limits_are_refused(robot):
    with pytest.raises(InputError, match='velocity'):
        replace(robot, velocity=np.zeros(7))
    with pytest.raises(InputError, match='home'):
        replace(robot, home=np.full(7, 9.0))
    with pytest.raises(InputError, match='joint limits'):
        RobotModel(replace(robot, upper=robot.upper + 1.0))
    with pytest.raises(InputError, match='min < max'):
        Workspace((0.0, None, None), (0.0, None, None))


@given(axis=st.integers(0, 2), lower=st.booleans(), depth=st.floats(1e-3, 5.0))
@settings(deadline=None)
def test_a_bound_of_zero_is_a_bound(axis, lower, depth):
    bound = tuple(0.0 if i == axis else None for i in range(3))
    box = Workspace(min=bound) if lower else Workspace(max=bound)
    point = np.full((1, 3), 7.0)
    point[0, axis] = -depth if lower else depth
    assert box.excess(point)[0, axis] == pytest.approx(depth)
    point[0, axis] *= -1.0
    assert (box.excess(point) == 0.0).all()


def test_open_sides_are_open():
    assert (Workspace().excess(np.array([[1e6, -1e6, 1e6]])) == 0.0).all()


def test_finger_tip_height():
    tip = FingerTip(reach=0.0089, half_width=0.0105, thickness=0.0263)
    upright = np.diag([1.0, -1.0, -1.0, 1.0])
    upright[2, 3] = 0.1
    assert tip.lowest(upright[None], 0.08)[0] == pytest.approx(0.1 - 0.0089)
    tilted = upright.copy()
    c, s = np.cos(0.3), np.sin(0.3)
    tilted[:3, :3] = upright[:3, :3] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    expected = 0.1 - 0.0089 * c - (0.04 + 0.0263) * s
    assert tip.lowest(tilted[None], 0.08)[0] == pytest.approx(expected)


def _primitives(urdf):
    """{link: [(rotation, centre, kind, sizes)]} of a URDF's collision geometry."""
    out = {}
    for link in ET.parse(urdf).getroot().findall('link'):
        for collision in link.findall('collision'):
            origin = collision.find('origin')
            xyz = np.array(origin.get('xyz').split(), float)
            roll = float(origin.get('rpy').split()[0])
            R = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)],
                          [0, np.sin(roll), np.cos(roll)]])
            shape = collision.find('geometry')[0]
            sizes = {k: np.array(v.split(), float) for k, v in shape.attrib.items()}
            out.setdefault(link.get('name'), []).append((R, xyz, shape.tag, sizes))
    return out


def _outside(primitive, points):
    """Distance (n,) of points from the inside of one primitive, 0 or less inside."""
    R, centre, kind, sizes = primitive
    local = (points - centre) @ R
    if kind == 'sphere':
        return np.linalg.norm(local, axis=1) - sizes['radius']
    if kind == 'box':
        over = np.abs(local) - sizes['size'] / 2.0
    else:
        over = np.stack([np.linalg.norm(local[:, :2], axis=1) - sizes['radius'],
                         np.abs(local[:, 2]) - sizes['length'] / 2.0], axis=1)
    return np.linalg.norm(np.maximum(over, 0.0), axis=1)
