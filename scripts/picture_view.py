# SPDX-License-Identifier: Apache-2.0
"""Make docs/images/view.png: the page of a real demo, once the task is done.

    .venv/bin/python scripts/picture_view.py [--generator tiny] [--seed 0]

Needs Chromium (apt-get install chromium). Software WebGL is slow: some minutes on two cores.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / 'docs' / 'images' / 'view.png'
FRAME = 5  # the last that is executed: its real picture is beside it

sys.path.insert(0, str(ROOT / 'test' / 'nodes'))

from browser import browser  # noqa: E402


def main() -> int:
    """Run the demo, take the picture, end the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--generator', default='tiny')
    parser.add_argument('--seed', default='0')
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        demo = subprocess.Popen(
            [sys.executable, '-u', '-m', 'fourdgen_ros.cli', 'demo', '--view', '--generator',
             args.generator, '--seed', args.seed, '--out', folder],
            stdout=subprocess.PIPE, text=True)
        try:
            url = wait_for(demo, r'look back at (http://\S+);')
            take(url, args.out)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60.0)
    return 0


def wait_for(demo: subprocess.Popen, pattern: str) -> str:
    """What the pattern's group matches in the demo's output, which is passed on."""
    for line in demo.stdout:
        sys.stdout.write(line)
        found = re.search(pattern, line)
        if found:
            return found.group(1)
    raise SystemExit('the demo ended early')


def take(url: str, out: Path) -> None:
    """Open the page, go to the grasp and save what is seen."""
    with browser({'width': 1280, 'height': 800}) as opened:
        tab = opened(url)
        tab.press('Pause')
        slider = tab.page.get_by_role('slider').first
        slider.focus()
        slider.press('Home')
        for _ in range(FRAME):
            slider.press('ArrowRight')
        tab.text(f'frame {FRAME} of')
        for close in tab.page.locator('.mantine-Notification-closeButton').all():
            close.dispatch_event('click')
        tab.scene()  # waits until the page has faded in
        tab.page.screenshot(path=out)


if __name__ == '__main__':
    sys.exit(main())
