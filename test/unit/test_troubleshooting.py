# SPDX-License-Identifier: Apache-2.0
"""What docs/troubleshooting.md quotes is what the program says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLES = (ROOT / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')


def said() -> str:
    """All string literals of the package and the launch files, the parts of f-strings joined."""
    texts = []
    for file in [*(ROOT / 'fourdgen_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.append(''.join(str(v.value) if isinstance(v, ast.Constant) else '...'
                                     for v in node.values))
    return '\n'.join(texts)


SAID = said()
QUOTED = sorted({fragment.strip(' ,')
                 for line in TABLES.splitlines() if line.startswith('| `') or '| ... `' in line
                 for quote in re.findall(r'`((?:[^`]|`workspace`)+)`', line.split(' | ')[0])
                 for fragment in quote.split('...') if len(fragment.strip(' ,')) > 7})


def test_there_are_quotations() -> None:
    assert len(QUOTED) > 30


@pytest.mark.parametrize('fragment', QUOTED)
def test_the_program_says_it(fragment: str) -> None:
    assert fragment in SAID
