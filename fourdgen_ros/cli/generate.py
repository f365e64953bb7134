# SPDX-License-Identifier: Apache-2.0
"""`fourdgen generate`: RGB-D images in, a 4D future out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.cli import options

if TYPE_CHECKING:
    from fourdgen_ros.core.types import Future, Observation

HELP = 'imagine the future of RGB-D images: a film, point clouds and arrays'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Generate one future from one RGB-D image per view, the reference view first, and write '
        'future.gif, frame_00.ply ... (all views fused, in the optical frame of the reference '
        'camera) and future.npz.')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', type=Path, nargs='+', metavar='FILE',
                        help='colour and 16 bit depth image of each view in turn: '
                             'rgb0.png depth0.png rgb1.png depth1.png')
    source.add_argument('--folder', type=Path, help='folder with NAME_rgb.png, NAME_depth.png and '
                                                    'NAME_camera.json|yaml for each view')
    source.add_argument('--from-cell', type=int, metavar='SEED',
                        help='the first observation of the simulated cell')
    parser.add_argument('--camera', type=Path, nargs='+', metavar='FILE', default=[],
                        help='intrinsics of each view, with --images: JSON with K or fx fy cx cy, '
                             'or camera_info YAML; one file serves all views')
    parser.add_argument('--depth-unit', type=float,
                        help='metres a count of the depth images (0.001)')
    options.add_task(parser)
    options.add_generator(parser, 'tiny')
    parser.add_argument('--seed', type=int, default=0, help='of the generator (%(default)s)')
    parser.add_argument('--steps', type=options.positive,
                        help='denoising steps (the generator\'s own number)')
    parser.add_argument('--out', type=Path, default=Path('future'), help='folder (%(default)s)')
    options.add_json(parser, 'sizes and timings')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.evaluation.generators import load_generator

    console = options.console()
    _require_use(args)
    if args.from_cell is None:
        observation, state = _read(args), None
    else:
        observation, state = _from_cell(args)
    options.require_json(args.json)
    options.require_folder(f'--out {args.out}', args.out)
    with console.status('loading the generator'):
        generator = load_generator(args.generator, state)
    begin = time.perf_counter()  # a class of the user may tell no times of its own
    with console.status('generating'):
        future = generator.generate(observation, task=args.task, seed=args.seed, steps=args.steps)
    seconds = time.perf_counter() - begin
    with console.status('writing'):
        files = _write(future, args.out)
    views, frames, height, width = future.rgb.shape[:4]
    console.print(f'{frames} frames of {views} views, {width}x{height}, {future.dt:g} s apart, by '
                  f'{future.generator} in {seconds:.2f} s')
    for file in files[:1] + files[-2:]:
        console.print(f'  {file}')
    options.write_json(args.json, {
        'generator': future.generator, 'task': args.task, 'seed': future.seed,
        'steps': future.steps, 'views': list(future.cameras), 'frames': frames, 'height': height,
        'width': width, 'dt': future.dt, 'clamp_ratio': future.clamp_ratio, 'seconds': seconds,
        'timings': future.timings, 'files': [str(file) for file in files]})
    return 0


def _require_use(args: argparse.Namespace) -> None:
    """Raise InputError for an option that would do nothing with these images."""
    from fourdgen_ros.core.errors import InputError

    source = '--from-cell' if args.from_cell is not None else (
        '--folder' if args.folder is not None else '--images')
    for option, given, sources in (('--camera', args.camera, ('--images',)),
                                   ('--depth-unit', args.depth_unit is not None,
                                    ('--images', '--folder'))):
        if given and source not in sources:
            raise InputError(option, expected=f'{" or ".join(sources)} with it', got=source,
                             hint=f'Leave {option} out.')


def _read(args: argparse.Namespace) -> Observation:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.core.types import Observation
    from fourdgen_ros.evaluation.images import MILLIMETRE, load_folder, load_view

    unit = MILLIMETRE if args.depth_unit is None else args.depth_unit
    if not unit > 0:
        raise InputError('--depth-unit', expected='more than 0 m', got=str(unit))
    if args.folder is not None:
        return load_folder(args.folder, unit)
    views = len(args.images) // 2
    if len(args.images) % 2:
        raise InputError('--images', expected='a colour and a depth image for each view',
                         got=f'{len(args.images)} files',
                         hint='In turn: rgb0.png depth0.png rgb1.png depth1.png.')
    cameras = args.camera * views if len(args.camera) == 1 else args.camera
    if len(cameras) != views:
        raise InputError('--camera', expected=f'one file, or one for each of {views} views',
                         got=f'{len(args.camera)} files',
                         hint='In the order of --images: JSON with K, or camera_info YAML.')
    return Observation(tuple(
        load_view(f'view{i}', args.images[2 * i], args.images[2 * i + 1], cameras[i],
                  unit) for i in range(views)))


def _from_cell(args: argparse.Namespace):
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.sim.cell import Cell

    if args.from_cell < 0:
        raise InputError('--from-cell', expected='a seed of 0 or more', got=str(args.from_cell))
    cell = Cell(args.task, args.from_cell)
    return cell.observe(480, 640), cell.state


def _write(future: Future, out: Path) -> list[Path]:
    import numpy as np

    from fourdgen_ros.core.files import whole
    from fourdgen_ros.evaluation.picture import future_film, save_gif, save_ply

    out.mkdir(parents=True, exist_ok=True)
    files = [out / 'future.gif']
    save_gif(future_film(future), files[0], future.dt)
    for t in range(future.frames):
        files.append(out / f'frame_{t:02d}.ply')
        save_ply(future, t, files[-1])
    files.append(out / 'future.npz')
    with whole(files[-1]) as stream:
        np.savez_compressed(
            stream, rgb=future.rgb, points=future.points, valid=future.valid,
            gripper=future.gripper, dt=future.dt, K=future.K, cameras=np.array(future.cameras),
            frame_id=future.frame_id, generator=future.generator, seed=future.seed)
    return files
