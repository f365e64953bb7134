# SPDX-License-Identifier: Apache-2.0
"""MkDocs hook: links of docs/ to other files of the sources become the paths of these files."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r'\[([^\]]*)\]\(((?:\.\./)+[^)#]+)\)')


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """See https://www.mkdocs.org/user-guide/plugins/#on_page_markdown.

    A file that is not there keeps its link, which `--strict` then refuses.
    """
    folder = PurePosixPath('docs', page.file.src_uri).parent

    def replace(match: re.Match[str]) -> str:
        file = (ROOT / folder / match[2]).resolve()
        if not file.is_file() or file.is_relative_to(ROOT / 'docs'):
            return match[0]
        path = file.relative_to(ROOT).as_posix()
        return f'`{path}`' if match[1] == path else f'{match[1]} (`{path}` in the sources)'

    return _LINK.sub(replace, markdown)
