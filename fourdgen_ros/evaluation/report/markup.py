# SPDX-License-Identifier: Apache-2.0
"""HTML and SVG elements as escaped text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_VOID = frozenset({'br', 'img', 'meta'})
_MEDIA = {'.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg', '.gif': 'image/gif'}


class Markup(str):
    """Text that is markup already and is not escaped again."""


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; children that are no `Markup` are escaped.

    Attributes that are None are left out; `class_` is class, and an underscore is a hyphen.
    """
    pairs = ''.join(f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
                    for name, value in attributes.items() if value is not None)
    if tag in _VOID:
        return Markup(f'<{tag}{pairs}>')
    return Markup(f'<{tag}{pairs}>{joined(children)}</{tag}>')


def joined(parts: Iterable[object]) -> Markup:
    """Elements and texts one after the other."""
    return Markup(''.join(part if isinstance(part, Markup) else escape(str(part), quote=False)
                          for part in parts))


def number(value: float | None, digits: int, unit: str = '', *, percent: bool = False) -> Markup:
    """A figure as people read it; the exact one is the element's `value`. '–' for None."""
    if value is None:
        return Markup('–')
    shown = f'{100 * value:.{digits}f} %' if percent else f'{value:.{digits}f} {unit}'.rstrip()
    return element('data', shown, value=repr(value))


def table(header: Sequence[object], rows: Iterable[Sequence[object]], caption: str) -> Markup:
    """The first column names the row, the others are figures."""
    head = element('tr', *(element('th', cell, scope='col') for cell in header))
    body = [element('tr', element('th', row[0], scope='row'),
                    *(element('td', cell) for cell in row[1:])) for row in rows]
    return element('div', element('table', element('caption', caption), element('thead', head),
                                  element('tbody', *body)), class_='wide')


def picture(file: Path, alt: str) -> Markup:
    """The picture itself as a data URI."""
    data = base64.b64encode(file.read_bytes()).decode('ascii')
    return element('img', src=f'data:{_MEDIA[file.suffix.lower()]};base64,{data}', alt=alt)
