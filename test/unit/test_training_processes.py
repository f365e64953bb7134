# SPDX-License-Identifier: Apache-2.0
"""Training on several processes: gradients are averaged, one process writes, all end alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from fourdgen_ros.training.loop import LoopConfig, train

STEPS = 30


class Summing(torch.nn.Linear):
    """Learns to sum four numbers; in full precision, so that runs can be held against each
    other."""

    def __init__(self) -> None:
        super().__init__(4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        with torch.autocast('cpu', enabled=False):
            loss = (super().forward(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {'loss': float(loss.detach())}


def learn(folder: Path, shares: int | None = None) -> torch.Tensor:
    """Weights after a run; with `shares`, one process draws what so many would."""
    torch.manual_seed(0)
    model = Summing()
    step = -1

    def numbers(rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((8, 4), dtype=np.float32)

    def draw(rng: np.random.Generator) -> tuple[torch.Tensor]:
        nonlocal step
        step += 1
        if shares is None:
            return (torch.from_numpy(numbers(rng)),)
        rngs = (np.random.default_rng([0, step, share]) for share in range(shares))
        return (torch.from_numpy(np.concatenate([numbers(r) for r in rngs])),)

    def validate() -> dict[str, float]:
        return {'error': float((model.weight.detach() - 1).abs().sum())}

    train(model, LoopConfig(folder, steps=STEPS, minutes=9e9, warmup=1, validate_every=10,
                            log_every=10, learning_rate=0.05), draw, validate, better='error')
    return model.weight.detach()


def test_two_processes_learn_what_one_learns_from_both_their_batches(tmp_path) -> None:
    folder = tmp_path / 'two'
    environment = {**os.environ, 'ACCELERATE_USE_CPU': 'true', 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2',
         '--master-port', '0', '--rdzv-backend', 'c10d', '--rdzv-endpoint', 'localhost:0',
         __file__, str(folder)], check=True, env=environment, timeout=300)
    first, second = (torch.load(folder / f'{rank}.pt') for rank in (0, 1))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, learn(tmp_path / 'one', shares=2), atol=1e-5, rtol=0)
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows if 'validation' in row] == [10, 20, 30]


if __name__ == '__main__':
    out = Path(sys.argv[1])
    weights = learn(out)
    torch.save(weights, out / f'{os.environ["RANK"]}.pt')
