# SPDX-License-Identifier: Apache-2.0
"""Make the package and its command line part of the environment whose Python runs this."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

LAUNCHER = """\
#!{python}
import sys

from fourdgen_ros.cli.__main__ import main

if __name__ == '__main__':  # worker processes import this file
    sys.exit(main())
"""


def main() -> int:
    """Link the source, install the start-up environment and write `bin/fourdgen`."""
    root = Path(__file__).resolve().parents[1]
    packages = Path(sysconfig.get_path('purelib'))

    # A link, not a path entry: the root's other directories (launch, test) are no packages.
    link = packages / 'fourdgen_ros'
    if link.is_symlink() or link.exists():
        link.unlink()
    link.symlink_to(os.path.relpath(root / 'fourdgen_ros', packages))

    shutil.copyfile(root / 'scripts' / 'venv_environment.py', packages / '_fourdgen_environment.py')
    (packages / 'fourdgen_ros.pth').write_text(
        f'import _fourdgen_environment; _fourdgen_environment.activate({str(root)!r})\n',
        encoding='utf-8')

    launcher = Path(sysconfig.get_path('scripts')) / 'fourdgen'
    launcher.write_text(LAUNCHER.format(python=sys.executable), encoding='utf-8')
    launcher.chmod(0o755)
    return 0


if __name__ == '__main__':
    sys.exit(main())
