"""One running studio for all browser tests of it, and what its visitors do."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from browser import Watched

LAPTOP = {"width": 1280, "height": 900}
BEGUN = "localStorage.getItem('freeu-voter') !== null"
"""The server's first answer, with the language and the visitor's votes, stands on the page."""


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """A studio's address and its folder of votes. It prints no traceback, and takes its images with it when it ends."""
    cache, log, votes = (tmp_path_factory.mktemp(name) for name in ("cache", "log", "votes"))
    command = [sys.executable, "-m", "freeu", "ui", "--port", "0", "--threads", "1"]
    if all(map(find_spec, ("sklearn", "sqlalchemy"))):  # without them there are no votes, and the rest works
        command += ["--votes", str(votes)]
    log = log / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"GRADIO_TEMP_DIR": str(cache)},
        )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + log.read_text()
        yield SimpleNamespace(address=found[0], votes=votes)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
    assert process.returncode == 0
    said = log.read_text()
    assert "Traceback" not in said, said[-3_000:]
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.fixture
def studio(running):
    """The address of a running studio."""
    return running.address


@pytest.fixture
def visit(chromium, studio):
    """Opens the page as a visitor with settings of his browser; at the end nothing has gone wrong in any of them."""
    visitors = []

    def opened(**settings):
        context = chromium.new_context(**({"viewport": LAPTOP} | settings))
        context.set_default_timeout(60_000)
        visitors.append(Watched(context.new_page()))
        page = visitors[-1].page
        page.goto(studio, wait_until="domcontentloaded")
        page.locator("#gallery").wait_for()
        page.wait_for_function(BEGUN)
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.page.context.close()
    for visitor in visitors:
        assert (visitor.errors, visitor.outside) == ([], [])
