# SPDX-License-Identifier: Apache-2.0
"""One training loop for every stage: bf16, EMA, cosine rate, time limit, check-points."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import nn

from fourdgen_ros.core.errors import TrainingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to train.

    `minutes` counts in all, check-points included, over however many starts. The loop ends at
    `steps` or `minutes`, whichever comes first; the learning rate falls with the share done of the
    one that is nearer to its end. A check-point is written at every validation and whenever
    `save_minutes` have gone by since the last one: a run that is killed loses no more.
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
    save_minutes: float = 2.0


def train(model: nn.Module, config: LoopConfig, draw: Callable[[np.random.Generator], tuple],
          validate: Callable[[], dict[str, float]], better: str,
          place: Callable[..., tuple] = lambda *drawn: drawn) -> dict[str, float]:
    """Train `model` in place and return the best validation measures and the `step` they are of.

    `model(*place(*draw(rng)))` is the loss of a batch and numbers to log. `draw` runs in a thread,
    a step ahead, and uses no random numbers but those of `rng`; `place` brings what it returned to
    the device and has torch's, which follow from the step. `validate()` measures the model with its
    EMA weights; the weights with the smallest `better` end up in the model and in `folder/best.pt`.
    A run that was killed goes on from `folder/last.pt`; one that has had its steps or minutes is
    only validated if it never was. With none to do, a model that was never trained here stays as it
    is, and nothing is returned. Raises TrainingError when the loss is not finite or the disk is
    full. Curves: `log.jsonl`, and TensorBoard's in `folder`/tensorboard.

    Under `accelerate launch` every process draws batches of its own, gradients are averaged, and
    the first process alone keeps the time, validates and writes; the folder is one that all see.
    """
    accelerator = Accelerator(mixed_precision='bf16', log_with='tensorboard',
                              project_dir=config.folder)
    config.folder.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers('tensorboard')
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate,
                                  weight_decay=config.weight_decay, betas=(0.9, 0.99),
                                  fused=accelerator.device.type == 'cuda')
    ema = EMAModel(model.parameters(), decay=0.999, use_ema_warmup=True, power=0.75, foreach=True)
    last, best_file = config.folder / 'last.pt', config.folder / 'best.pt'
    step, spent, best = 0, 0.0, {}
    if last.is_file():
        state = read_checkpoint(last)
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        ema.load_state_dict(state['ema'])
        step, spent, best = state['step'], state['minutes'], state['best']
        log.info('resumed %s at step %d after %.1f min', config.folder, step, spent)
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    prepared, optimizer = accelerator.prepare(model, optimizer)
    ema.to(accelerator.device)
    model.train()
    started = saved = time.monotonic()
    sums: dict[str, float | torch.Tensor] = {}
    summed = 0  # batches; fewer than `log_every` after a start in between

    def minutes() -> float:
        return spent + (time.monotonic() - started) / 60.0

    def done(steps: int) -> float:
        """Share of the run that is behind after so many steps, by the first process's clock."""
        share = max(steps / config.steps, minutes() / max(config.minutes, 1e-9))
        if accelerator.num_processes == 1:
            return share  # a look at the device would wait for it
        return float(broadcast(torch.tensor([share]).to(accelerator.device)))

    def measure() -> None:
        """Validate the EMA weights, and keep them when they are the best so far."""
        nonlocal best
        ema.store(model.parameters())
        ema.copy_to(model.parameters())
        model.eval()
        with torch.no_grad(), accelerator.autocast():
            measures = validate()
        model.train()
        if not best or math.isnan(best[better]) or measures[better] < best[better]:
            best = {**measures, 'step': step}
            _save({'model': model.state_dict(), 'measures': best}, best_file)
        ema.restore(model.parameters())
        _append(config.folder, {'step': step, 'minutes': round(minutes(), 2),
                                'validation': measures})
        accelerator.log({f'validation/{k}': value for k, value in measures.items()}, step)

    def save() -> None:
        """Write what the run goes on from."""
        nonlocal saved
        _save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(),
               'ema': ema.state_dict(), 'step': step, 'minutes': minutes(), 'best': best}, last)
        saved = time.monotonic()

    share = done(step)
    if share >= 1.0 and step and not best and accelerator.is_main_process:
        measure()  # it was killed after its last step
        save()
    accelerator.wait_for_everyone()
    with _Ahead(draw, config.seed, accelerator.process_index) as drawn:
        while share < 1.0:
            batch = drawn.batch(step)
            torch.manual_seed(config.seed * 1_000_003 + step * accelerator.num_processes
                              + accelerator.process_index)
            decay = 0.03 + 0.97 * 0.5 * (1.0 + math.cos(math.pi * share))
            for group in optimizer.param_groups:
                group['lr'] = config.learning_rate * min(1.0, (step + 1) / config.warmup) * decay
            with accelerator.autocast():
                value, numbers = prepared(*place(*batch))
            share = done(step + 1)
            at_log = (step + 1) % config.log_every == 0
            at_validation = (step + 1) % config.validate_every == 0 or share >= 1.0
            at_save = accelerator.is_main_process and (
                at_validation or time.monotonic() - saved >= 60.0 * config.save_minutes)
            # a look at the loss waits for the GPU
            look = at_log or at_validation or at_save or accelerator.device.type == 'cpu'
            if look and not torch.isfinite(value):
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
                sums[name] = sums.get(name, 0.0) + number
            summed += 1
            if at_log:
                means = {name: float(number) / summed for name, number in sums.items()}
                if accelerator.is_main_process:
                    _append(config.folder, {'step': step, 'minutes': round(minutes(), 2), **means})
                accelerator.log({f'train/{name}': value for name, value in means.items()}, step)
                sums, summed = {}, 0
            if at_validation and accelerator.is_main_process:
                measure()
            if at_save:
                save()
            if at_validation:
                accelerator.wait_for_everyone()
    accelerator.end_training()
    if best_file.is_file():
        state = read_checkpoint(best_file)
        model.load_state_dict(state['model'])
        best = state['measures']
    model.eval()
    return best


def read_checkpoint(file: Path) -> dict:
    """What a check-point of `train` holds. Raises TrainingError for a damaged one."""
    try:
        return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise TrainingError(
            f'check-point {file}', expected='what training wrote',
            got=f'{type(error).__name__}: {error}'.partition('\n')[0],
            hint='It is damaged. Put a copy in its place, or remove its folder and give the same '
                 'command again: that stage then begins anew.') from error


class _Ahead:
    """Draws the batches of consecutive steps in a thread, one ahead of what is asked for."""

    def __init__(self, draw: Callable[[np.random.Generator], tuple], seed: int,
                 process: int) -> None:
        self._draw, self._seed, self._process = draw, seed, process
        self._thread = ThreadPoolExecutor(1, 'draw')
        self._next: Future[tuple] | None = None

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def batch(self, step: int) -> tuple:
        """What `draw` returns for a step. Raises what it raises."""
        now = self._next or self._submit(step)
        self._next = self._submit(step + 1)
        return now.result()

    def _submit(self, step: int) -> Future[tuple]:
        rng = np.random.default_rng([self._seed, step, self._process])
        return self._thread.submit(self._draw, rng)


def _save(state: dict, file: Path) -> None:
    partial = file.with_suffix('.partial')
    with _room_for(file):
        try:
            torch.save(state, partial)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def _append(folder: Path, row: dict) -> None:
    log.info('%s', row)
    file = folder / 'log.jsonl'
    with _room_for(file), file.open('ab+') as out:
        _drop_cut_line(out)
        out.write(f'{json.dumps(row)}\n'.encode())


def _drop_cut_line(log: IO[bytes]) -> None:
    """Remove a last line that has no end: a kill cut it off, and the next would be glued to it."""
    if not log.seek(0, os.SEEK_END):
        return
    log.seek(-1, os.SEEK_END)
    if log.read() != b'\n':
        log.seek(0)
        log.truncate(log.read().rfind(b'\n') + 1)


@contextmanager
def _room_for(file: Path) -> Iterator[None]:
    """Raises TrainingError when `file` cannot be written, which torch tells by a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise TrainingError(f'disk of {file}', expected=f'room for {file.name}', got=str(error),
                            hint='Make room and give the same command again: it goes on from the '
                                 'last check-point that is whole.') from error
