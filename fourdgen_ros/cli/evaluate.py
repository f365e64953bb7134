# SPDX-License-Identifier: Apache-2.0
"""`fourdgen evaluate`: futures against the truth."""

from __future__ import annotations

import argparse
import sys

from fourdgen_ros.cli import options

HELP = 'compare generated futures and tracked paths with the truth, in simulation'

# measure -> (text, unit, digits)
ROWS = {
    'tcp_mm': ('TCP position, all frames', 'mm', 1),
    'tcp_mm_last_frame': ('TCP position, last frame', 'mm', 1),
    'tcp_deg': ('TCP rotation, all frames', 'deg', 1),
    'opening_mm': ('opening', 'mm', 1),
    'points_mm': ('points, all pixels', 'mm', 1),
    'moving_points_mm': ('points, moving pixels', 'mm', 1),
    'gripper_points_mm': ('points, gripper pixels', 'mm', 1),
    'points_missing': ('share of points left out', '', 3),
    'mask_iou': ('gripper mask IoU with the truth', '', 2),
    'cross_view_iou': ('cross-view gripper IoU', '', 2),
    'cross_view_box_iou': ('cross-view gripper IoU of boxes', '', 2),
    'psnr_db': ('PSNR', 'dB', 1),
    'abs_rel': ('AbsRel', '', 4),
    'delta_125': ('delta < 1.25', '', 4),
    'generate_s': ('one future', 's', 2),
    'track_ms_per_frame': ('tracking a frame', 'ms', 0),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Stop the scripted expert every 1.2 s of its episode of each seed, let the generator '
        'imagine from there and compare with what the expert would do. The right-hand columns '
        'are the tracker alone, on true futures.')
    options.add_task(parser)
    options.add_cameras(parser)
    options.add_generator(parser, 'tiny')
    options.add_batch(parser, '0:10')
    options.add_json(parser, 'all measures')


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from fourdgen_ros.evaluation.generators import model_folder
    from fourdgen_ros.evaluation.openloop import evaluate

    options.require_task(args.task)
    model_folder(args.generator)
    with options.progress_bar() as bar:
        line = bar.add_task(f'evaluate {args.generator}', total=len(args.seeds), note='')
        report = evaluate(args.task, args.generator, args.seeds, camera_set=args.cameras,
                          workers=args.workers, file=args.json,
                          on_result=lambda row: bar.update(line, advance=1))
    if args.json is not None:
        options.write_json(args.json, report | {'command': ['fourdgen', *sys.argv[1:]]})
    _print(Console(), report)
    return 0


def _print(console, report: dict) -> None:
    from rich.table import Table

    measures = report['measures']
    table = Table('', 'median', 'p90', 'true: median', 'p90', box=None)
    for key, (text, unit, digits) in ROWS.items():
        if key in measures or f'true_{key}' in measures:
            cells = [_number(measures.get(f'{prefix}{key}', {}).get(q), unit, digits)
                     for prefix in ('', 'true_') for q in ('p50', 'p90')]
            table.add_row(text, *cells)
    console.print(f"\n{report['n']} futures of {report['generator']}", highlight=False)
    console.print(table)
    for prefix, text in (('', 'generated'), ('true_', 'true')):
        failed = measures.get(f'{prefix}tracking_failures')
        if failed is not None and failed['failed']:
            console.print(f"tracking failed on {failed['failed']} of {failed['n']} {text} futures",
                          style='yellow')


def _number(value: float | None, unit: str, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f} {unit}'.rstrip()
