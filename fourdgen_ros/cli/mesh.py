# SPDX-License-Identifier: Apache-2.0
"""`fourdgen mesh`: the gripper as a mesh file for FoundationPose."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options
from fourdgen_ros.core.paths import GRIPPER_NAMED

HELP = 'write the gripper as a mesh file, for Isaac ROS'

FORMATS = ('.obj', '.ply', '.stl')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Write a gripper as one rigid mesh in metres, its origin in the middle of its bounding '
        'box, as Isaac ROS FoundationPose is to be given it (docs/foundationpose.md). The tracker '
        'node needs the same gripper and opening: parameters `gripper` and `mesh_opening`.')
    parser.add_argument('--gripper', default='panda_hand',
                        help=f'{GRIPPER_NAMED} (%(default)s)')
    parser.add_argument('--opening', type=float, default=0.04, metavar='M',
                        help='m between the finger pads (0.04)')
    parser.add_argument('--out', type=Path, required=True, help=f'file: {", ".join(FORMATS)}')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.core.files import whole
    from fourdgen_ros.tracker.estimator import gripper_object
    from fourdgen_ros.tracker.gripper_model import load_gripper

    options.require_file(f'--out {args.out}', args.out, FORMATS)
    tracked = gripper_object(load_gripper(args.gripper), args.opening)
    with whole(args.out) as stream:
        tracked.mesh.export(stream, args.out.suffix[1:])
    extents = ' x '.join(f'{1e3 * v:.0f}' for v in tracked.mesh.extents)
    x, y, z = 1e3 * tracked.T_tcp_object[:3, 3]
    options.console(soft_wrap=True).print(
        f'{args.out}: {len(tracked.mesh.faces)} triangles, {extents} mm, in metres; its origin '
        f'lies at {x:.1f}, {y:.1f}, {z:.1f} mm in the frame of the tool centre point')
    return 0
