# SPDX-License-Identifier: Apache-2.0
"""`fourdgen calibrate-check`: how far from where the transforms put it a gripper is seen."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.cli import options
from fourdgen_ros.core.paths import GRIPPER_NAMED

if TYPE_CHECKING:
    from fourdgen_ros.evaluation.calibration import CameraCheck
    from fourdgen_ros.tracker.gripper_model import GripperModel

HELP = 'hand-eye calibration: is the gripper where the cameras see it?'
PICTURES = '.png', '.jpg'
_TOPICS = {'color': '{camera}/color/image_raw',
           'depth': '{camera}/aligned_depth_to_color/image_raw',
           'info': '{camera}/color/camera_info'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Project the gripper, where kinematics and hand-eye transform put it, into the image of '
        'each camera, register it to the measured depth there, and tell how far it is off in mm, '
        'deg and px. Listens to cameras, /tf and /joint_states as the nodes do; the arm should '
        'stand still with the hand in view, 0.3 to 1.5 m away, nothing near it. Exit code 1: a '
        'camera is off. See docs/calibration.md.')
    parser.add_argument('--camera', nargs='+', metavar='NAME', default=['cam_left', 'cam_right'],
                        help='names of the cameras, the reference first (cam_left cam_right)')
    for kind, topic in _TOPICS.items():
        parser.add_argument(f'--{kind}-topic', default=topic,
                            help=f'{{camera}} is the name ({topic})')
    parser.add_argument('--color-transport', default='raw', choices=('raw', 'compressed'))
    parser.add_argument('--depth-transport', default='raw',
                        choices=('raw', 'compressed', 'compressedDepth'))
    parser.add_argument('--robot', default='panda', help='file in config/robots (%(default)s)')
    parser.add_argument('--gripper', default='panda_hand',
                        help=f'{GRIPPER_NAMED} (%(default)s)')
    parser.add_argument('--timeout', type=float, default=10.0,
                        help='s to wait for images (%(default)s)')
    parser.add_argument('--from-cell', type=int, metavar='SEED',
                        help='look at the simulated cell instead, without ROS')
    options.add_task(parser)
    for name, unit in (('shift-mm', 'X Y Z, mm along the base axes'),
                       ('turn-deg', 'X Y Z, deg about the axes of the optical frame')):
        parser.add_argument(f'--{name}', type=float, nargs=3, default=(0.0, 0.0, 0.0),
                            metavar=('X', 'Y', 'Z'),
                            help=f'with --from-cell: a calibration that is wrong by {unit}')
    parser.add_argument('--out', type=Path, default=Path('calibration.png'),
                        help=f'picture, {" or ".join(PICTURES)} (%(default)s)')
    options.add_json(parser, 'the figures')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.evaluation.calibration import Verdict
    from fourdgen_ros.evaluation.calibration_picture import calibration_picture
    from fourdgen_ros.evaluation.picture import save_picture
    from fourdgen_ros.tracker.gripper_model import load_gripper

    options.require_file(f'--out {args.out}', args.out, PICTURES)
    options.require_json(args.json)
    console = options.console(soft_wrap=True)
    gripper = load_gripper(args.gripper)
    checks = (_from_cell if args.from_cell is not None else _from_ros)(args, gripper, console)
    for check in checks:
        _print(console, check)
    save_picture(calibration_picture(checks, gripper), args.out)
    console.print(f'picture: {args.out} (amber: by the transforms, green: as seen)')
    options.write_json(args.json, {check.view.camera: _row(check) for check in checks})
    return int(any(check.verdict in (Verdict.BAD, Verdict.UNSEEN) for check in checks))


def _from_cell(args: argparse.Namespace, gripper: GripperModel, _: object) -> list[CameraCheck]:
    import numpy as np

    from fourdgen_ros.core import se3
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.evaluation.calibration import check_camera
    from fourdgen_ros.sim.cell import Cell

    if args.from_cell < 0:
        raise InputError('--from-cell', expected='a seed of 0 or more', got=str(args.from_cell))
    cell = Cell(args.task, args.from_cell)
    shift = se3.make(None, 1e-3 * np.array(args.shift_mm))
    turn = se3.make(se3.exp_so3(np.deg2rad(np.array(args.turn_deg))))
    return [check_camera(view, shift @ cell.T_base_camera(view.camera) @ turn, cell.tcp_pose(),
                         cell.opening, gripper) for view in cell.observe(480, 640).views]


def _from_ros(args: argparse.Namespace, gripper: GripperModel,
              console: object) -> list[CameraCheck]:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.evaluation.calibration import check_camera
    from fourdgen_ros.motion.robot import RobotConfig
    from fourdgen_ros.nodes.base import spinning
    from fourdgen_ros.nodes.snapshot import SnapshotNode

    if not (math.isfinite(args.timeout) and args.timeout > 0.0):
        raise InputError('--timeout', expected='more than 0 s', got=str(args.timeout))
    if any(v != 0.0 for v in (*args.shift_mm, *args.turn_deg)):
        raise InputError('--shift-mm, --turn-deg', expected='--from-cell with them',
                         got='a real calibration', hint='They make a simulated one wrong.')
    topics = {kind: getattr(args, f'{kind}_topic') for kind in _TOPICS}
    transports = {kind: getattr(args, f'{kind}_transport') for kind in ('color', 'depth')}
    robot = RobotConfig.named(args.robot)
    with (console.status('waiting for cameras and transforms'),
          spinning(lambda: SnapshotNode(args.camera, robot, topics, transports),
                   args=[]) as node):
        views, opening = node.take(args.timeout)
    for posed in views:
        if posed.T_base_camera is None:
            console.print(f'{posed.view.camera}: no transform, not checked. Only the reference '
                          f'camera needs one. {posed.error}', style='yellow')
    if views[0].T_base_camera is None:
        raise InputError(f'hand-eye transform of the reference camera {args.camera[0]!r}',
                         expected=f'{robot.base_link} -> {views[0].view.frame_id} on /tf_static',
                         got=views[0].error, hint='docs/calibration.md says how to publish it.')
    return [check_camera(p.view, p.T_base_camera, p.T_base_tcp, opening, gripper)
            for p in views if p.T_base_camera is not None]


def _print(console: object, check: CameraCheck) -> None:
    colours = {'good': 'green', 'rough': 'yellow', 'bad': 'red', 'unseen': 'yellow'}
    figures = '' if check.found is None else (
        f': {1e3 * check.distance:.1f} mm ({1e3 * check.along:+.1f} along the viewing ray), '
        f'{math.degrees(check.angle):.1f} deg, outline {check.pixels:.1f} px RMS')
    console.print(f'{check.view.camera}: {check.verdict.value}{figures}',
                  style=colours[check.verdict.value])
    console.print(f'  {check.advice}')


def _row(check: CameraCheck) -> dict:
    seen = check.found is not None
    return {'verdict': check.verdict.value, 'advice': check.advice, 'share': check.share,
            'mm': 1e3 * check.distance if seen else None,
            'mm_along_ray': 1e3 * check.along if seen else None,
            'deg': math.degrees(check.angle) if seen else None,
            'px': check.pixels if seen else None}
