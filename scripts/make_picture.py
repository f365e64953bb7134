# SPDX-License-Identifier: Apache-2.0
"""The pictures of the README from the folder of a demo: a small film and the strip."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image, ImageSequence

from fourdgen_ros.evaluation.picture import save_gif

IMAGES = Path(__file__).resolve().parents[1] / 'docs' / 'images'
WIDTH = 480  # px; about 50 kB a frame


def main() -> int:
    """Read `imagined_and_real.gif` and `.png` of the folder that is given."""
    folder = Path(sys.argv[1])
    with Image.open(folder / 'imagined_and_real.gif') as film:
        seconds = film.info['duration'] / 1000.0
        height = round(film.height * WIDTH / film.width)
        pages = [page.convert('RGB').resize((WIDTH, height), Image.Resampling.LANCZOS)
                 for page in ImageSequence.Iterator(film)]
    save_gif(iter(pages), IMAGES / 'demo.gif', seconds)
    shutil.copyfile(folder / 'imagined_and_real.png', IMAGES / 'demo.png')
    return 0


if __name__ == '__main__':
    sys.exit(main())
