"""A headless browser that tells of everything that goes wrong on a page."""

import os
import time
from pathlib import Path


class Watched:
    """A page, its console errors, and the requests that left this machine."""

    def __init__(self, page):
        self.page = page
        self.errors = []
        self.outside = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _request(self, request):
        if not request.url.startswith(("http://127.0.0.1", "file:", "data:", "blob:", "ws://127.0.0.1", "about:")):
            self.outside.append(request.url)

    def screenshot(self, name):
        """Keep a picture of the page if FREEU_SCREENSHOTS names a folder."""
        folder = os.environ.get("FREEU_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)

    def fits(self):
        """Whether the page is no wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def until(page, expression, seconds=60.0):
    """Ask until something is true. Playwright's own way evaluates inside the page, whose policy forbids that."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)
