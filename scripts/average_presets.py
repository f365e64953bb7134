# SPDX-License-Identifier: Apache-2.0
"""The mean of two `tiny` presets, of which one was trained on from the other, in half precision.

    python scripts/average_presets.py models/tiny-views runs/views/preset --out runs/mean

What is learnt anew and what is known then both stay to a part (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"); of presets that were not trained on from each other the mean is
nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.generator.tiny import TinyGenerator


def average(first: TinyGenerator, second: TinyGenerator) -> TinyGenerator:
    """`second` with the mean of both weights, float16. Raises InputError for networks of other
    configurations."""
    for a, b in ((first.codec, second.codec), (first.dynamics, second.dynamics)):
        other = [key for key, value in a.config.items()
                 if not key.startswith('_') and b.config[key] != value]
        if other:
            raise InputError('presets to average', expected='networks of one configuration',
                             got=f'others in {", ".join(other)}')
        known = a.state_dict()
        b.load_state_dict({name: torch.lerp(known[name], weight, 0.5)
                           for name, weight in b.state_dict().items()})
        b.half()
    return second


def main() -> None:
    """Average from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('presets', type=Path, nargs=2)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    average(*(TinyGenerator.from_pretrained(preset) for preset in args.presets)).save_pretrained(
        args.out)
    for file in args.out.glob('*/config.json'):  # where it was loaded from is nobody's business
        config = json.loads(file.read_text())
        config.pop('_name_or_path', None)
        file.write_text(json.dumps(config, indent=2) + '\n')


if __name__ == '__main__':
    main()
