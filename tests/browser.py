"""A headless browser that tells of everything that goes wrong on a page."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest


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


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with contextlib.ExitStack() as stack:
        started = stack.enter_context(playwright.sync_playwright())
        try:
            browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("no Chromium: install it, or run `playwright install chromium`")
        stack.callback(browser.close)
        yield browser


@pytest.fixture
def watched(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(120_000)
    yield Watched(context.new_page())
    context.close()
