# SPDX-License-Identifier: Apache-2.0
"""What is printed on things: (H, W, 3) uint8 pictures, drawn here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_YELLOW, _RED, _CREAM, _BROWN = (238, 178, 34), (196, 38, 36), (252, 246, 232), (176, 108, 40)


def cereal() -> NDArray[np.uint8]:
    """The front of a box of cereals, as wide as 0.7 of its height."""
    picture = Image.new('RGB', (224, 320), _YELLOW)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 224, 96), fill=_RED)
    draw.text((112, 50), "OAT O'S", fill=_CREAM, font_size=48, anchor='mm')
    draw.text((112, 116), 'whole grain', fill=_BROWN, font_size=22, anchor='mm')
    draw.ellipse((22, 150, 202, 280), fill=(226, 232, 238), outline=(150, 160, 170), width=4)
    draw.ellipse((38, 162, 186, 262), fill=_CREAM)
    rng = np.random.default_rng(0)
    for _ in range(60):
        angle, radius = rng.uniform(0.0, 2.0 * np.pi), np.sqrt(rng.uniform())
        x, y = 112 + 62 * radius * np.cos(angle), 212 + 38 * radius * np.sin(angle)
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline=_BROWN, width=4)
    return np.asarray(picture)
