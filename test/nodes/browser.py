# SPDX-License-Identifier: Apache-2.0
"""A real headless Chromium for the tests of the page, where one is installed."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next((path for path in map(shutil.which, ('chromium', 'chromium-browser',
                                                     'google-chrome')) if path), None)
FLAGS = ('--headless=new', '--no-sandbox', '--use-angle=swiftshader',
         '--enable-unsafe-swiftshader', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync')
PATIENCE = 180.0  # s; software WebGL on a busy machine
SIZE = {'width': 680, 'height': 480}  # small: every pixel is drawn by the processor
SCENE = {'x': 20, 'y': 200, 'width': 240, 'height': 260}  # px, without panel and notices


class Tab:
    """A page in the browser; `foreign` are addresses that it asked for besides its own server."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.foreign = page, []
        page.on('request', lambda request: self.foreign.append(request.url)
                if not request.url.startswith((url, url.replace('http', 'ws'), 'data:', 'blob:'))
                else None)
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(url)
        page.wait_for_selector('canvas[data-engine]')  # three.js names its own so

    def text(self, text: str) -> Any:
        """The element with a text, once it is there."""
        element = self.page.get_by_text(text).first
        element.wait_for()
        return element

    def press(self, button: str) -> None:
        # Not click(): that waits for frames, which software WebGL on a busy machine rarely has.
        self.page.get_by_role('button', name=button).first.dispatch_event('click')

    def scene(self) -> np.ndarray:
        """Pixels (h, w, 3) of the 3-D scene, when they no longer change: the page fades in."""
        last, end = self._pixels(), time.monotonic() + PATIENCE
        while True:
            time.sleep(0.3)
            pixels = self._pixels()
            if np.abs(pixels - last).mean() < 0.05:
                return pixels
            assert time.monotonic() < end, 'the scene does not come to rest'
            last = pixels

    def _pixels(self) -> np.ndarray:
        data = self.page.screenshot(clip=SCENE, timeout=1000 * PATIENCE)
        return np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(float)


@contextmanager
def browser(size: dict[str, int] = SIZE) -> Iterator[Callable[[str], Tab]]:
    """Opens addresses in windows of `size` px.

    Skips the test where no Chromium, Playwright or viser is installed.
    """
    playwright = pytest.importorskip('playwright.sync_api')
    pytest.importorskip('viser')
    if CHROMIUM is None:
        pytest.skip('no Chromium (apt-get install chromium)')
    with playwright.sync_playwright() as runner:
        chromium = runner.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield lambda url: Tab(chromium.new_page(viewport=size), url)
        finally:
            chromium.close()
