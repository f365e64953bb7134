# SPDX-License-Identifier: Apache-2.0
"""`fourdgen train`: demonstrations -> the weights of a generator."""

from __future__ import annotations

import argparse
from pathlib import Path

from fourdgen_ros.cli import options

HELP = 'train a generator on demonstrations'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Train the codec, then what moves its latents: the dynamics of tiny, the U-Net of '
        'svd-4dgen. The baseline diffusion-policy has one stage, --dynamics-minutes long, and an '
        'environment of its own (make baseline-env). A run that was stopped goes on where it was '
        'when started again with the same options; more minutes may be given.')
    parser.add_argument('--preset', choices=['tiny', 'svd-4dgen', 'diffusion-policy'],
                        default='tiny')
    parser.add_argument('--data', type=Path, required=True, nargs='+', metavar='DIR',
                        help='folders made by `fourdgen collect` or `fourdgen data cache`, one or '
                             'more a task')
    parser.add_argument('--out', type=Path, required=True,
                        help='check-points and the finished preset')
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--init', type=Path,
                       help='start from this preset instead of random weights')
    start.add_argument('--init-codec', type=Path, help='tiny: start from the codec of this preset, '
                                                       'the dynamics from random weights')
    start.add_argument('--svd', metavar='SVD', help='svd-4dgen: start from these SVD weights, a '
                                                    'folder or a repository of the hub')
    parser.add_argument('--codec-minutes', type=options.minutes, default=60.0,
                        help='of the codec; svd-4dgen: of the pointmap VAE (%(default)s)')
    parser.add_argument('--dynamics-minutes', type=options.minutes, default=60.0,
                        help='of the dynamics; svd-4dgen: of the U-Net (%(default)s)')
    parser.add_argument('--gripper-minutes', type=options.minutes, default=10.0,
                        help='svd-4dgen: of the network that finds the gripper (%(default)s)')
    parser.add_argument('--size', type=options.positive, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        help='svd-4dgen: pixels of the images (256 320, or as in --init)')
    parser.add_argument('--batch', type=options.positive,
                        help='samples a step (tiny: 24 in the codec, 32 in the dynamics; '
                             'svd-4dgen: 1; diffusion-policy: 32)')
    parser.add_argument('--learning-rate', type=float,
                        help='tiny: at the start, from which it falls (4e-4); lower it to go on '
                             'from a finished preset')
    parser.add_argument('--gradient-checkpointing', action='store_true',
                        help='svd-4dgen: less memory for more time')
    parser.add_argument('--episodes', type=options.positive,
                        help='use only the first episodes of each')
    parser.add_argument('--threads', type=options.positive,
                        help='torch threads (default: torch decides)')
    parser.add_argument('--seed', type=options.natural, default=0,
                        help='of weights and batches (%(default)s)')
    parser.add_argument('--no-cross-view', action='store_true',
                        help='tiny: the ablation: views do not see each other')
    parser.add_argument('--no-depth', action='store_true',
                        help='tiny: the RGB-only baseline: neither sees nor generates depth')
    parser.add_argument('--no-anchor', action='store_true',
                        help='tiny: the ablation: every pixel is generated, none kept from frame 0')
    parser.add_argument('--sensor-faults', action='store_true',
                        help='tiny: learn from pictures with the faults of real cameras: depth '
                             'noise, holes at edges, steps of depth, exposure, skew')
    parser.add_argument('--compile', action='store_true',
                        help='tiny: torch.compile; takes minutes at the start')
    parser.add_argument('--json', type=Path, help='write the validation measures here')


def run(args: argparse.Namespace) -> int:
    import json
    import logging

    import torch

    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    options.require_json(args.json)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    measures = {'tiny': _tiny, 'svd-4dgen': _svd_4dgen, 'diffusion-policy': _diffusion_policy}[
        args.preset](args)
    print(json.dumps(measures, indent=2))
    options.write_json(args.json, measures)
    return 0


def _tiny(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.training.loop import LoopConfig
    from fourdgen_ros.training.tiny import train_preset

    if args.learning_rate is not None and not 0.0 < args.learning_rate < float('inf'):
        raise InputError('--learning-rate', expected='above 0', got=str(args.learning_rate),
                         hint='New weights want 4e-4, finished ones 1e-4 to 2e-4.')
    if args.svd is not None:
        raise InputError('--svd', expected='--preset svd-4dgen', got='--preset tiny',
                         hint='Add --preset svd-4dgen, or leave --svd out.')
    if args.no_cross_view and args.init is not None:
        raise InputError('--no-cross-view', expected='dynamics from random weights', got='--init',
                         hint='Start from the codec alone: --init-codec PRESET.')
    for option, given in (('--no-depth', args.no_depth), ('--no-anchor', args.no_anchor)):
        if given and (args.init is not None or args.init_codec is not None):
            raise InputError(option, expected='a codec from random weights',
                             got='--init or --init-codec',
                             hint='A preset made with it stays so; the option is for new ones.')
    return train_preset(
        args.data, args.out, codec_minutes=args.codec_minutes, init=args.init,
        init_codec=args.init_codec, dynamics_minutes=args.dynamics_minutes,
        episodes=args.episodes, seed=args.seed, cross_view=not args.no_cross_view,
        depth=not args.no_depth, anchored=not args.no_anchor,
        sensor_faults=args.sensor_faults, batch=args.batch,
        learning_rate=LoopConfig.learning_rate if args.learning_rate is None
        else args.learning_rate, compile_model=args.compile)


def _svd_4dgen(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    from fourdgen_ros.core.errors import InputError
    from fourdgen_ros.training.svd import train_preset

    for option, given in (('--init-codec', args.init_codec is not None),
                          ('--no-cross-view', args.no_cross_view), ('--no-depth', args.no_depth),
                          ('--no-anchor', args.no_anchor),
                          ('--sensor-faults', args.sensor_faults), ('--compile', args.compile),
                          ('--learning-rate', args.learning_rate is not None)):
        if given:
            raise InputError(option, expected='--preset tiny', got='--preset svd-4dgen',
                             hint=f'Leave {option} out.')
    return train_preset(
        args.data, args.out, svd=args.svd, init=args.init,
        size=None if args.size is None else tuple(args.size), vae_minutes=args.codec_minutes,
        denoiser_minutes=args.dynamics_minutes, gripper_minutes=args.gripper_minutes,
        batch=1 if args.batch is None else args.batch,
        checkpointing=args.gradient_checkpointing, episodes=args.episodes, seed=args.seed)


def _diffusion_policy(args: argparse.Namespace) -> dict[str, float]:
    import json
    import subprocess

    from fourdgen_ros.core.errors import InputError, TrainingError
    from fourdgen_ros.policy.client import policy_command, policy_environment

    for option, given in (
            ('--init-codec', args.init_codec is not None), ('--svd', args.svd is not None),
            ('--size', args.size is not None),
            ('--no-cross-view', args.no_cross_view), ('--no-depth', args.no_depth),
            ('--no-anchor', args.no_anchor),
            ('--sensor-faults', args.sensor_faults), ('--compile', args.compile),
            ('--learning-rate', args.learning_rate is not None)):
        if given:
            raise InputError(option, expected='a preset of a generator',
                             got='--preset diffusion-policy')
    command = [*policy_command('train'), '--out', args.out, '--minutes', args.dynamics_minutes,
               '--seed', args.seed, '--data', *args.data]
    for option, value in (('--episodes', args.episodes), ('--threads', args.threads),
                          ('--batch', args.batch), ('--init', args.init)):
        if value is not None:
            command += [option, value]
    done = subprocess.run([str(part) for part in command], env=policy_environment(),
                          stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise TrainingError('Diffusion Policy', expected='training to the end',
                            got=f'exit code {done.returncode}', hint='See above.')
    return json.loads(done.stdout.splitlines()[-1])
