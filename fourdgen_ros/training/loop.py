# SPDX-License-Identifier: Apache-2.0
"""One training loop for every stage: bf16, EMA, cosine rate, time limit, check-points."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from fourdgen_ros.core.errors import TrainingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to train.

    `minutes` counts in all, check-points included, over however many starts. The loop ends at
    `steps` or `minutes`, whichever comes first; the learning rate falls with the share done of the
    one that is nearer to its end.
    """

    folder: Path
    steps: int
    minutes: float
    learning_rate: float = 4e-4
    weight_decay: float = 1e-2
    warmup: int = 200
    seed: int = 0
    validate_every: int = 500
    log_every: int = 50


def train(model: nn.Module, config: LoopConfig,
          loss: Callable[[np.random.Generator], tuple[Tensor, dict]],
          validate: Callable[[], dict[str, float]], better: str) -> dict[str, float]:
    """Train `model` in place and return the best validation measures and the `step` they are of.

    `loss(rng)` draws a batch and returns the loss and numbers to log. `validate()` measures the
    model with its EMA weights; the weights with the smallest `better` end up in the model and in
    `folder/best.pt`. A run that was killed goes on from `folder/last.pt`. With no steps or minutes
    to do, a model that was never trained here stays as it is, and nothing is returned. Raises
    TrainingError when the loss is not finite. Curves: `log.jsonl`, and TensorBoard's in
    `folder`/tensorboard.
    """
    accelerator = Accelerator(mixed_precision='bf16', log_with='tensorboard',
                              project_dir=config.folder)
    accelerator.init_trackers('tensorboard')
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate,
                                  weight_decay=config.weight_decay, betas=(0.9, 0.99))
    ema = EMAModel(model.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    config.folder.mkdir(parents=True, exist_ok=True)
    last, best_file = config.folder / 'last.pt', config.folder / 'best.pt'
    step, spent, best = 0, 0.0, {}
    if last.is_file():
        state = torch.load(last, map_location='cpu', weights_only=True)
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        ema.load_state_dict(state['ema'])
        step, spent, best = state['step'], state['minutes'], state['best']
        log.info('resumed %s at step %d after %.1f min', config.folder, step, spent)
    model, optimizer = accelerator.prepare(model, optimizer)
    ema.to(accelerator.device)
    model.train()
    started = time.monotonic()
    sums: dict[str, float] = {}

    def minutes() -> float:
        return spent + (time.monotonic() - started) / 60.0

    def rate(n: int) -> float:
        share = min(1.0, max(n / config.steps, minutes() / config.minutes))
        decay = 0.03 + 0.97 * 0.5 * (1.0 + math.cos(math.pi * share))
        return config.learning_rate * min(1.0, (n + 1) / config.warmup) * decay

    while step < config.steps and minutes() < config.minutes:
        rng = np.random.default_rng([config.seed, step])
        torch.manual_seed(config.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group['lr'] = rate(step)
        with accelerator.autocast():
            value, numbers = loss(rng)
        if not torch.isfinite(value):
            raise TrainingError(f'the loss at step {step}', expected='a finite number',
                                got=str(value.item()),
                                hint='Check the data, or lower the learning rate; the last '
                                     f'check-point is {last}.')
        accelerator.backward(value)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        step += 1
        for name, number in numbers.items():
            sums[name] = sums.get(name, 0.0) + number / config.log_every
        if step % config.log_every == 0:
            _append(config.folder, {'step': step, 'minutes': round(minutes(), 2), **sums})
            accelerator.log({f'train/{name}': value for name, value in sums.items()}, step)
            sums = {}
        finished = step >= config.steps or minutes() >= config.minutes
        if step % config.validate_every == 0 or finished:
            bare = accelerator.unwrap_model(model)
            ema.store(bare.parameters())
            ema.copy_to(bare.parameters())
            bare.eval()
            with torch.no_grad(), accelerator.autocast():
                measures = validate()
            bare.train()
            if not best or math.isnan(best[better]) or measures[better] < best[better]:
                best = {**measures, 'step': step}
                _save({'model': bare.state_dict(), 'measures': best}, best_file)
            ema.restore(bare.parameters())
            _append(config.folder, {'step': step, 'minutes': round(minutes(), 2),
                                    'validation': measures})
            accelerator.log({f'validation/{k}': value for k, value in measures.items()}, step)
            _save({'model': bare.state_dict(), 'optimizer': optimizer.state_dict(),
                   'ema': ema.state_dict(), 'step': step, 'minutes': minutes(), 'best': best}, last)
    accelerator.end_training()
    bare = accelerator.unwrap_model(model)
    if best:
        state = torch.load(best_file, map_location='cpu', weights_only=True)
        bare.load_state_dict(state['model'])
    bare.eval()
    return best


def _save(state: dict, file: Path) -> None:
    partial = file.with_suffix('.partial')
    torch.save(state, partial)
    partial.replace(file)


def _append(folder: Path, row: dict) -> None:
    log.info('%s', row)
    with (folder / 'log.jsonl').open('a') as out:
        out.write(json.dumps(row) + '\n')
