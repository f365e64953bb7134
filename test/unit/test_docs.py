# SPDX-License-Identifier: Apache-2.0
"""What the documentation says can be typed: commands parse, Python compiles, pages are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from fourdgen_ros.cli.__main__ import build_parser
from fourdgen_ros.core.paths import share_directory

ROOT = share_directory()
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
PAGES = [page for page in PAGES if 'reference' not in page.parts]  # generated
COMMAND = re.compile(r'^\s*(?:\.venv/bin/)?fourdgen (.+)$', re.MULTILINE)
CODE = re.compile(r'```python\n(.*?)```', re.DOTALL)
TARGET = re.compile(r'\bmake ([a-z-]+)')

pytestmark = pytest.mark.skipif(not (ROOT / 'mkdocs.yml').is_file(), reason='no source tree')


def commands(page: Path) -> list[list[str]]:
    text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
    return [shlex.split(line.split('#')[0].split(' > ')[0]) for line in COMMAND.findall(text)
            if ' VERB' not in line and not line.endswith(' ...')]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_parse(page: Path) -> None:
    parser = build_parser()
    for arguments in commands(page):
        if '--help' in arguments:
            continue
        try:
            parser.parse_args(arguments)
        except SystemExit:
            pytest.fail(f'fourdgen {shlex.join(arguments)}')


def test_there_are_commands_to_parse() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_compiles(page: Path) -> None:
    for code in CODE.findall(page.read_text(encoding='utf-8')):
        compile(code, page.name, 'exec')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_targets_exist(page: Path) -> None:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    rules = re.findall(r'^([a-z-]+):', makefile, re.MULTILINE)
    shown = re.findall(r'`[^`\n]*`|^    .*$', page.read_text(encoding='utf-8'), re.MULTILINE)
    for target in TARGET.findall('\n'.join(shown)):
        assert target in rules


def test_every_page_is_found_from_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / 'mkdocs.yml').read_text(encoding='utf-8'))['nav']
    listed = set(re.findall(r'[\w/]+\.md', str(nav)))
    there = {page.relative_to(ROOT / 'docs').as_posix() for page in PAGES
             if page.is_relative_to(ROOT / 'docs')}
    assert {name for name in listed if not name.startswith('reference/')} == there
