"""Votes in the studio, in a real browser: blind and open, two visitors, a reload, a restart, and the preset."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("freeu_zoo")
pytest.importorskip("gradio")
pytest.importorskip("sklearn")

from browser import Watched

from freeu.metadata import read_png
from freeu.presets.files import read_preset

LAPTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
OPEN = "!document.querySelector('#vote_left').disabled"


@contextlib.contextmanager
def studio(folder, *words):
    """The address of a studio that runs for a ``with`` block."""
    command = [sys.executable, "-m", "freeu", "ui", "--port", "0", "--threads", "1", *words]
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"GRADIO_TEMP_DIR": str(folder / "cache")},
        )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + log.read_text()
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()
    assert "Traceback" not in log.read_text(), log.read_text()[-3_000:]


@contextlib.contextmanager
def visit(browser, address, **settings):
    """A visitor's page; at the end nothing has gone wrong on it."""
    context = browser.new_context(**({"viewport": LAPTOP} | settings))
    context.set_default_timeout(60_000)
    watched = Watched(context.new_page())
    opened(watched.page, address)
    yield watched
    context.close()
    assert (watched.errors, watched.outside) == ([], [])


def opened(page, address):
    page.goto(address, wait_until="domcontentloaded")
    page.locator("#gallery").wait_for()
    page.wait_for_timeout(1_000)  # the server says in which language it goes on


def fill(page, name, value):
    box = page.locator(f"#{name} input[type=number]").first
    box.fill(str(value))
    box.press("Tab")


def press(page, button):
    """Press a button that generates, and wait until the pair is there to be voted on."""
    before = page.locator("#said").inner_html()
    page.locator(f"#{button}").click()
    page.wait_for_function("(before) => document.querySelector('#said').innerHTML !== before", arg=before)
    page.wait_for_function("!document.querySelector('#pair .progress-text, #pair .eta-bar')")
    page.wait_for_function(OPEN)


def votes(page):
    """How many votes the page tells of."""
    found = re.search(r"(?:Votes on this model: |此模型的投票数：)(\d+)", page.locator("#votes").inner_text())
    return int(found[1]) if found else 0


def vote(page, key):
    """Vote by a key, and wait until it is acknowledged."""
    count = votes(page)
    page.keyboard.press(key)
    page.wait_for_function(f"document.querySelector('#votes').innerText.match(/[:：] ?{count + 1}\\b/)")
    page.wait_for_function(f"!({OPEN})")


def test_a_first_look(chromium, tmp_path):
    with studio(tmp_path, "--votes", str(tmp_path / "votes")) as address, visit(chromium, address) as watched:
        page = watched.page
        watched.screenshot("votes-0")
        fill(page, "steps", 2)
        press(page, "generate")
        watched.screenshot("votes-1")
        page.locator("#vote_blind input").check()
        press(page, "vote_next")
        watched.screenshot("votes-2-blind")
        vote(page, "1")
        page.wait_for_timeout(500)
        watched.screenshot("votes-3-told")
        press(page, "vote_next")
        vote(page, "3")
        page.locator("#vote_take").click()
        page.wait_for_timeout(4000)
        watched.screenshot("votes-4-taken")
