# SPDX-License-Identifier: Apache-2.0
"""Write `requirements/constraints.txt`: the version of every package that pip installed here."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

HEADER = """\
# Every package of the environment, with those that others need. Made by `make lock`.
"""


def main() -> int:
    """Write the file; builds of one version for one device (`+cpu`) count as that version."""
    pins = {}
    for distribution in metadata.distributions():
        # The ROS wheels contain the metadata of further names, which no index knows.
        if (distribution.read_text('INSTALLER') or '').strip() == 'pip':
            version = distribution.version.split('+')[0]
            pins[distribution.name.lower()] = f'{distribution.name}=={version}'
    pins.pop('pip', None)
    path = Path(__file__).resolve().parents[1] / 'requirements' / 'constraints.txt'
    lines = [pins[name] for name in sorted(pins)]
    path.write_text(HEADER + '\n'.join(lines) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
