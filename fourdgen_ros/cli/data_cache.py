# SPDX-License-Identifier: Apache-2.0
"""`fourdgen data cache`: a LeRobotDataset -> what `fourdgen train` reads."""

from __future__ import annotations

import argparse
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fourdgen_ros.cli import options
from fourdgen_ros.core.paths import GRIPPER_NAMED, gripper_folder

if TYPE_CHECKING:
    from fourdgen_ros.data.masks import GripperMasks, GripperShape

_GRIPPER = 'panda_hand'
HELP = 'make the folder that training reads from a LeRobotDataset'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Resize the images of a data set of `fourdgen data convert` or `import`, draw the gripper '
        'masks that were not recorded, and write the folder that `fourdgen train --data` takes. '
        'What is there with the right checksum is kept; what is damaged is made again.')
    parser.add_argument('dataset', type=Path, help='folder of the LeRobotDataset')
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--size', type=options.positive, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        default=(96, 128), help='pixels (96 128)')
    parser.add_argument('--rate', type=options.positive, default=5,
                        help='records a second (%(default)s)')
    parser.add_argument('--task', help='of a data set with several')
    parser.add_argument('--gripper', default=_GRIPPER,
                        help=f'of the masks: {GRIPPER_NAMED} (%(default)s)')
    parser.add_argument('--sam2', metavar='WEIGHTS',
                        help='outline masks with SAM 2 where it agrees with the mesh: a folder or '
                             'a repository of the hub')
    parser.add_argument('--workers', type=options.positive, default=1,
                        help='processes (%(default)s)')


def run(args: argparse.Namespace) -> int:
    from fourdgen_ros.data.cache import Shape, build

    gripper_masks(args.gripper, args.sam2)  # an error here, before anything is written
    options.require_folder(f'--out {args.out}', args.out)
    with options.progress_bar() as bar:
        line = bar.add_task('episodes', total=None, note='')
        count = build(args.dataset, args.out, Shape(*args.size, args.rate),
                      partial(gripper_masks, args.gripper, args.sam2), task=args.task,
                      masks_by=_made_from(args.gripper, args.sam2),
                      workers=args.workers,
                      done=lambda n, total: bar.update(line, completed=n, total=total))
    options.console().print(
        f'{count} episodes in {args.out}. Next: fourdgen train --data {args.out} '
        f'--out {Path("runs") / args.out.name}')
    return 0


def _made_from(gripper: str, sam2: str | None) -> str:
    """What masks are made from, in words that differ where they do."""
    from fourdgen_ros.data.cache import MESH, checksum

    own = [] if gripper == _GRIPPER else [
        f'{file.name} {checksum(file)[:16]}'
        for file in sorted(gripper_folder(gripper).rglob('*')) if file.is_file()]
    return ', '.join(own + ([] if sam2 is None else [f'SAM 2, {sam2}'])) or MESH


@cache
def gripper_masks(gripper: str, sam2: str | None = None) -> GripperMasks:
    """How masks are made, with the weights of SAM 2 or without; once for each process."""
    from fourdgen_ros.data.masks import GripperMasks
    from fourdgen_ros.data.sam2 import Sam2Outlines

    return GripperMasks(gripper_shape(gripper), None if sam2 is None else Sam2Outlines(sam2))


def gripper_shape(name: str) -> GripperShape:
    """Meshes of a gripper of the package, for masks."""
    import numpy as np

    from fourdgen_ros.data.masks import GripperShape
    from fourdgen_ros.tracker.gripper_model import load_gripper

    model = load_gripper(name)
    return GripperShape([(model.hand_mesh, np.zeros(3)), *model.finger_meshes])
