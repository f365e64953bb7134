# SPDX-License-Identifier: Apache-2.0
"""The interfaces on the wire: two ends talk only if their type hashes agree."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import pytest
import rclpy
from ament_index_python.packages import get_package_share_directory
from rclpy.action import ActionServer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.motion.moveit import ERROR_CODES

# Made by rosidl from the definitions of control_msgs 5.8.0, tf2_msgs 0.36.4 and moveit_msgs 2.6.0
# (Jazzy), and by rosbags from those of vision_msgs 4.1.1 and Isaac ROS 4.4. The hash of an action
# or service covers its parts and everything nested in them, as that of a message does.
UPSTREAM = {
    'tf2_msgs/msg/TFMessage':
        'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087',
    'control_msgs/msg/GripperCommand':
        'RIHS01_57eb8f326c9889ca8bb34ead82cc94cc09bf6bc5c3b6c09546dca3a00b589890',
    'control_msgs/msg/JointComponentTolerance':
        'RIHS01_739ea7566931944d33830fa10f1bf5e7a7fbdc3172bce7a7eaac642bd6e3ffa4',
    'control_msgs/msg/JointTolerance':
        'RIHS01_c254f9cece0f3b733017b6990fd46d1326e25242d6b8844398c97d9a88e7d648',
    'control_msgs/action/FollowJointTrajectory':
        'RIHS01_738ebcb7a2d7cfa42f9f1001cc99ce3a4383d1cfe508015d9be8485e4b1c66f6',
    'control_msgs/action/GripperCommand':
        'RIHS01_e17c0e644eccf14bea84a0a93e0977182872c2eb7873ca6694900059b46dbc84',
    'control_msgs/action/ParallelGripperCommand':
        'RIHS01_adfd3c1ebe8abc38ebcc0e454b6423d291d4010dd5697d14eca5b9be4726ae18',
    'object_recognition_msgs/msg/ObjectType':
        'RIHS01_5eb3ee3976403366d7c50d7dbee8bec96b3bced1e752674a7194a35841632134',
    'octomap_msgs/msg/OctomapWithPose':
        'RIHS01_e65f8760aa96a2acef86b6d206175cfc78420082b6159dd3fa6ebf93f5f81979',
    'moveit_msgs/action/ExecuteTrajectory':
        'RIHS01_e1ed3386f275fc8cea91cc78701074f892e78e583be2f8063eea5616dd1065fc',
    'moveit_msgs/msg/DisplayTrajectory':
        'RIHS01_dd351cbd6d9986eb019306910ec09236a136a02dbc0b3465707cb62f2d56e22b',
    'moveit_msgs/srv/ApplyPlanningScene':
        'RIHS01_8e6134783db0987c0acedbfd2f16f608a8f7a54e83a7bbb372e851af419f4d72',
    'moveit_msgs/srv/GetCartesianPath':
        'RIHS01_b19f501df5d378141d918199894c3ad24533e76021a880b15dc5d62fec8d7b1a',
    'moveit_msgs/srv/GetPlanningScene':
        'RIHS01_7ed7e96238b902174d985b0eb739ea08c95377e8e46a6a9014c22497faf79cd2',
    'moveit_msgs/srv/GetPositionFK':
        'RIHS01_2f16ec361a135d84b85a29385abeb9eeb025e39c09038bd6b2826645edc7edad',
    'moveit_msgs/srv/GetStateValidity':
        'RIHS01_e9fcd24ae0fd8c2f16d4afe397efaf03427d1f899fe91ecf6cb7f7f1c6ca8720',
    'vision_msgs/msg/Detection3DArray':
        'RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
    'isaac_ros_tensor_list_interfaces/msg/TensorList':
        'RIHS01_498b4418eed651d1eb843a154ac3dd6b7612b3fa851e1bd930f9f0c2e862cf6c',
}
FOLLOW_JOINT_TRAJECTORY_FEEDBACK_MESSAGE = (
    'RIHS01_80398fcb9674a79081a9906e2ccf0c804dd7cb15e22e362e606ee87186beab71')


def built_hash(interface: str) -> str:
    """Type hash of the build that `import` finds."""
    package, kind, name = interface.split('/')
    path = Path(get_package_share_directory(package), kind, f'{name}.json')
    hashes = json.loads(path.read_text(encoding='utf-8'))['type_hashes']
    return next(entry['hash_string'] for entry in hashes if entry['type_name'] == interface)


@pytest.mark.parametrize('interface', UPSTREAM)
def test_hash_equals_upstream(interface: str) -> None:
    assert built_hash(interface) == UPSTREAM[interface]


def test_hash_equals_that_of_an_independent_library() -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    assert store.hash_rihs01('tf2_msgs/msg/TFMessage') == built_hash('tf2_msgs/msg/TFMessage')


def test_constants_of_follow_joint_trajectory() -> None:
    from control_msgs.action import FollowJointTrajectory
    from control_msgs.msg import JointComponentTolerance

    result = FollowJointTrajectory.Result
    assert [result.SUCCESSFUL, result.INVALID_GOAL, result.INVALID_JOINTS,
            result.OLD_HEADER_TIMESTAMP, result.PATH_TOLERANCE_VIOLATED,
            result.GOAL_TOLERANCE_VIOLATED] == [0, -1, -2, -3, -4, -5]
    tolerance = JointComponentTolerance
    assert [tolerance.X_AXIS, tolerance.Y_AXIS, tolerance.Z_AXIS, tolerance.TRANSLATION,
            tolerance.ROTATION] == [1, 2, 3, 4, 5]


def test_constants_of_moveit() -> None:
    from moveit_msgs.msg import CollisionObject, MoveItErrorCodes, PlanningSceneComponents

    assert {name: getattr(MoveItErrorCodes, name) for name in ERROR_CODES.values()} == {
        name: code for code, name in ERROR_CODES.items()}
    assert CollisionObject.ADD == b'\x00'
    assert PlanningSceneComponents.ALLOWED_COLLISION_MATRIX == 128


def test_hashes_on_the_wire(ros: None) -> None:
    """What another DDS participant sees of a topic and of an action's feedback."""
    from control_msgs.action import FollowJointTrajectory
    from tf2_msgs.msg import TFMessage

    node = rclpy.create_node('server')
    publisher = node.create_publisher(TFMessage, '/tf', 10)
    server = ActionServer(node, FollowJointTrajectory, 'follow', lambda goal: None)
    context = rclpy.Context()
    context.init()
    observer = rclpy.create_node('observer', context=context)
    try:
        expected = {'/tf': UPSTREAM['tf2_msgs/msg/TFMessage'],
                    '/follow/_action/feedback': FOLLOW_JOINT_TRAJECTORY_FEEDBACK_MESSAGE}
        seen: dict[str, str] = {}
        deadline = time.monotonic() + 10.0
        while len(seen) < len(expected) and time.monotonic() < deadline:
            for topic in expected:
                for info in observer.get_publishers_info_by_topic(topic):
                    type_hash = info.topic_type_hash
                    seen[topic] = f'RIHS{type_hash.version:02d}_{bytes(type_hash.value).hex()}'
            time.sleep(0.05)
        assert seen == expected
    finally:
        server.destroy()
        node.destroy_publisher(publisher)
        node.destroy_node()
        observer.destroy_node()
        context.try_shutdown()


SOURCES = sorted(path for kind in ('msg', 'srv', 'action')
                 for path in (share_directory() / kind).glob(f'*.{kind}'))


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.name)
def test_own_interface_is_built(path: Path) -> None:
    module = importlib.import_module(f'fourdgen_ros.{path.suffix[1:]}')
    assert hasattr(module, path.stem), 'run `make setup`'


def test_own_messages_are_up_to_date() -> None:
    """The build has the fields of the sources."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in SOURCES:
        if path.suffix == '.msg':
            types |= get_types_from_msg(path.read_text(encoding='utf-8'),
                                        f'fourdgen_ros/msg/{path.stem}')
    assert types
    store.register(types)
    assert {name: built_hash(name) for name in types} == {
        name: store.hash_rihs01(name) for name in types}
