# SPDX-License-Identifier: Apache-2.0
"""Training of the Diffusion Policy baseline: `python -m fourdgen_ros.policy.train`.

The same demonstrations, split, loop, moving average of the weights and choice of the best as for
the generators; only the networks, their loss and their learning rate are Diffusion Policy's.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.policy.model import HORIZON, About, Policy, create, load, observed, statistics
from fourdgen_ros.training.binding import bind_start, require_kind, require_weights
from fourdgen_ros.training.dataset import Demonstrations, Episode, read_meta, split, task_names
from fourdgen_ros.training.loop import LoopConfig, train

log = logging.getLogger(__name__)
_PICTURES = 500  # of which the statistics are made
_VALIDATION = 40  # samples of each data set


class _Step(nn.Module):
    """The policy's own loss of a batch."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.net, self._before = policy.net, policy.before

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        ready = self._before(batch)
        ready['observation.state'] = ready['observation.state'][:, None]
        loss, _ = self.net(ready)
        return loss, {'loss': float(loss.detach())}


def samples(data: Demonstrations, rng: np.random.Generator, size: int, episodes: list[int],
            about: About, device: str = 'cpu') -> dict[str, Tensor]:
    """A batch of random moments with the actions that follow: the tool at the next HORIZON records.
    It holds still after the end of the episode. Pictures go to `device` as bytes."""
    rgb, tool, task, action = [], [], [], []
    for i in rng.choice(episodes, size):
        e = data.episodes[int(i)]
        t = int(rng.integers(len(e) - 1))
        rgb.append(e.rgb[t])
        tool.append(e.tcp[t, 0])
        task.append(e.task)
        action.append(e.tcp[np.minimum(t + 1 + np.arange(HORIZON), len(e) - 1), 0])
    return observed(torch.from_numpy(np.stack(rgb)).to(device),
                    torch.from_numpy(np.stack(tool)).to(device),
                    torch.tensor(task, device=device), about) | {
        'action': torch.from_numpy(np.stack(action)).to(device),
        'action_is_pad': torch.zeros(size, HORIZON, dtype=torch.bool, device=device)}


def train_policy(folders: list[Path], out: Path, config: LoopConfig, *, batch: int = 32,
                 episodes: int | None = None, init: Path | None = None) -> dict[str, float]:
    """Train, resumable, and write `out`/policy. Returns the measures of the weights that are kept:
    errors of the tool (mm) over the horizon, mean and median, on validation episodes.

    Starts from the policy in folder `init`, or from random weights, which follow from the seed.
    Raises InputError for data sets that do not fit together or to the policy in `init`, and for
    check-points in `out` of another start.
    """
    require_kind(out, 'diffusion-policy')
    torch.manual_seed(config.seed)
    tasks = task_names(folders)
    data = Demonstrations(folders, tasks, limit=episodes, depth=False)
    about = _about(folders, tasks, data)
    training, held = split(data)
    rng = np.random.default_rng(config.seed)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if init is None:
        tools = np.concatenate([data.episodes[i].tcp[:, 0] for i in training])
        shown = [_picture(data.episodes[int(i)], rng) for i in rng.choice(training, _PICTURES)]
        policy = create(about, statistics(tools, np.stack(shown), about), device)
    else:
        policy = load(init, device)
        if policy.about != about:
            raise InputError(f'policy {init}', expected=f'one for {about}', got=str(policy.about),
                             hint='Give the data sets of the same tasks and cameras.')
    require_weights(config.folder, config.minutes, '--dynamics-minutes', given=init is not None)
    bind_start(config.folder, {'--init': init, '--seed': config.seed, '--data': folders,
                               '--episodes': episodes}, config.minutes)
    log.info('%d episodes, %.1f M parameters', len(data.episodes),
             sum(p.numel() for p in policy.net.parameters()) / 1e6)
    checks = [samples(data, rng, _VALIDATION, episodes, about) for episodes in held]

    def validate() -> dict[str, float]:
        errors = []
        for k, b in enumerate(checks):
            error = policy.sample(b, k) - b['action']
            errors.append(1e3 * error[..., :3].norm(dim=-1))
        mm = torch.cat(errors)
        return {'tcp_mean_mm': float(mm.mean()), 'tcp_mm': float(mm.median())}

    measures = train(_Step(policy), config,
                     lambda rng: (samples(data, rng, batch, training, about, device),), validate,
                     better='tcp_mean_mm')
    policy.save(out / 'policy')
    return measures


def _about(folders: list[Path], tasks: tuple[str, ...], data: Demonstrations) -> About:
    cameras = {tuple(read_meta(folder)['cameras']) for folder in folders}
    sizes = {e.rgb.shape[2:4] for e in data.episodes}
    if len(cameras) != 1 or len(sizes) != 1:
        raise InputError('data sets', expected='the same cameras and size of pictures',
                         got=f'{sorted(cameras)}, {sorted(sizes)}')
    (height, width), = sizes
    return About(tasks, cameras.pop(), height, width, 1.0 / data.rate)


def _picture(episode: Episode, rng: np.random.Generator) -> np.ndarray:
    return episode.rgb[int(rng.integers(len(episode))), int(rng.integers(episode.rgb.shape[1]))]


def main() -> None:
    """Train from the command line; the measures go to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, nargs='+', required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--minutes', type=float, required=True)
    parser.add_argument('--steps', type=int, default=1_000_000)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--episodes', type=int)
    parser.add_argument('--init', type=Path)
    parser.add_argument('--threads', type=int)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    measures = train_policy(
        args.data, args.out,
        LoopConfig(args.out / 'training', steps=args.steps, minutes=args.minutes, seed=args.seed,
                   learning_rate=1e-4, weight_decay=1e-6),
        batch=args.batch, episodes=args.episodes, init=args.init)
    sys.stdout.write(json.dumps(measures) + '\n')


if __name__ == '__main__':
    main()
