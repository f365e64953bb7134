# SPDX-License-Identifier: Apache-2.0
"""The tracker of the tracker node, by its parameters."""

from __future__ import annotations

from fourdgen_ros.core.paths import GRIPPER_NAMED
from fourdgen_ros.nodes.base import StageNode
from fourdgen_ros.tracker.base import Tracker

BACKENDS = ('embedded', 'foundationpose', 'isaac_ros')


def declare_tracking(node: StageNode) -> None:
    """Declare the parameters of `make_tracker`."""
    node.parameter('gripper', 'panda_hand', f'gripper model: {GRIPPER_NAMED}')
    node.parameter(
        'backend', BACKENDS[0], 'embedded: in this process, on the CPU; foundationpose: your '
        'checkout of NVlabs/FoundationPose in a process of its own; isaac_ros: the FoundationPose '
        'nodes of Isaac ROS', choices=BACKENDS)
    node.parameter('mesh_opening', 0.04, 'how far apart the fingers of the rigid mesh are that '
                   'FoundationPose follows; for isaac_ros the one it was written with [m]',
                   low=0.0, high=0.3)
    node.parameter('least_confidence', 0.2, 'a pose of FoundationPose with less is not believed: '
                   'the gripper counts as lost and is looked for by its mask', low=0.01, high=0.9)
    node.parameter('max_speed', 0.6, 'what is faster is a jump of FoundationPose, and not believed '
                                     '[m/s]', low=0.01, high=10.0)
    node.parameter('max_turn_rate', 2.0, 'what turns faster is not believed [rad/s]',
                   low=0.01, high=30.0)
    node.parameter('foundationpose_path', '', 'folder of the checkout, with its weights')
    node.parameter('foundationpose_python', '', 'interpreter of its own environment')
    node.parameter('foundationpose_address', '', 'host:port of a worker that runs already; then '
                                                 'path and python are not used')
    node.parameter('foundationpose_start_timeout', 120.0, 'until it has loaded [s]',
                   low=1.0, high=1800.0)
    node.parameter('foundationpose_timeout', 10.0, 'for its answer to one image [s]',
                   low=0.1, high=300.0)
    node.parameter('register_iterations', 5, 'refinements when foundationpose looks for the '
                   'gripper', low=1, high=50)
    node.parameter('track_iterations', 2, 'refinements per image',
                   low=1, high=50)
    node.parameter('isaac_namespace', '', 'where the topics tracking/image ... of Isaac ROS are')
    node.parameter('isaac_reliability', 'reliable', 'of the topics to and from Isaac ROS',
                   choices=('reliable', 'best_effort'))
    node.parameter('isaac_start_timeout', 30.0, 'until its nodes are there [s]',
                   low=0.1, high=1800.0)
    node.parameter('isaac_timeout', 5.0, 'for its answer to one image [s]', low=0.1, high=300.0)


def make_tracker(node: StageNode) -> Tracker:
    """Build the tracker that the parameters of `node` name, and start what it needs.

    Raises MissingDependencyError and TrackingError that say what is not there.
    """
    from fourdgen_ros.tracker.backends import load_tracker, with_estimator

    parameters = node.get_parameters_by_prefix('')
    values = {name: parameter.value for name, parameter in parameters.items()}
    if values['backend'] != 'isaac_ros':
        return load_tracker(values)
    from fourdgen_ros.nodes.isaac_poses import IsaacOptions, IsaacPoses

    return with_estimator(values, lambda _: IsaacPoses(node, IsaacOptions(
        namespace=values['isaac_namespace'], timeout=values['isaac_timeout'],
        start_timeout=values['isaac_start_timeout'], track_iterations=values['track_iterations'],
        reliable=values['isaac_reliability'] == 'reliable')))
