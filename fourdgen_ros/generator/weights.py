# SPDX-License-Identifier: Apache-2.0
"""Loading of networks that are whole: what a file lacks would stay random, and be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SAFE: dict[str, Any] = {'use_safetensors': True, 'low_cpu_mem_usage': False}


def load_whole(kind: type, source: str | Path, **arguments: Any) -> Any:
    """`kind.from_pretrained(source)` of diffusers or transformers, whose errors it has; raises
    ValueError where a tensor is missing."""
    network, info = kind.from_pretrained(source, output_loading_info=True, **arguments)  # type: ignore[attr-defined]
    missing = sorted(info['missing_keys'])
    if missing:
        raise ValueError(f'{len(missing)} tensors of {kind.__name__} are missing, among them '
                         f'{missing[0]}')
    return network
