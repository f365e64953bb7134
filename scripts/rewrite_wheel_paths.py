# SPDX-License-Identifier: Apache-2.0
"""Point the CMake files of the ROS wheels at this Python and this numpy.

The wheels export two include directories of the machine that built them. They do not exist here,
and CMake stops on imported targets with missing include directories.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np


def main() -> int:
    """Rewrite the files below `share/` of this environment; running it again changes nothing."""
    rules = (
        (re.compile(r'/opt/python/[^;"\s]*?/numpy/_core/include'), np.get_include()),
        (re.compile(r'/opt/python/[^;"\s/]+/include/python[0-9.]+'), sysconfig.get_path('include')),
    )
    changed = 0
    for path in sorted(Path(sys.prefix, 'share').rglob('*.cmake')):
        text = new = path.read_text(encoding='utf-8')
        for pattern, target in rules:
            new = pattern.sub(lambda _, target=target: target, new)
        if new != text:
            path.write_text(new, encoding='utf-8')
            changed += 1
    sys.stdout.write(f'{changed} CMake files rewritten\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
