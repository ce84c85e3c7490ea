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


def blind_of(page, on=True):
    page.locator("#vote_blind input").set_checked(on)


def test_votes_are_blind_and_each_visitors_own_and_outlive_the_studio(chromium, tmp_path):
    kept = ("--votes", str(tmp_path / "votes"))
    state = tmp_path / "browser.json"
    with (
        studio(tmp_path, *kept) as address,
        visit(chromium, address) as watched,
        visit(chromium, address, viewport=PHONE, color_scheme="dark", locale="zh-CN") as other,
    ):
        page = watched.page
        assert page.locator("#vote_left").is_disabled()
        fill(page, "steps", 2)
        # The pair of the sliders, blind: nothing tells which is which until the vote.
        blind_of(page)
        press(page, "generate")
        assert page.locator("#pair").get_by_text("left | right (blind)").count()
        assert not page.locator("#said code").count()
        assert not page.locator("#gallery img").count()
        assert page.locator("#save_on").is_disabled()
        files = page.locator("#pair img").evaluate_all("(images) => images.map((one) => one.src)")
        assert all(file.endswith("/image.png") for file in files)
        watched.screenshot("studio-votes-blind-1280-light")
        vote(page, "3")
        page.locator("#gallery img").first.wait_for()
        assert not page.locator("#pair").get_by_text("left | right (blind)").count()
        assert "b1=1.3" in page.locator("#said code").first.inner_text()
        assert page.locator("#pair img").evaluate_all("(images) => images.map((one) => one.src)") == files
        # The next pair is that of the votes, with another seed; openly.
        blind_of(page, False)
        seed = page.locator("#said b").inner_text()
        press(page, "vote_next")
        assert page.locator("#said b").inner_text() != seed
        vote(page, "3")
        page.keyboard.press("u")
        page.wait_for_function("document.querySelector('#votes').innerText.includes('model: 1.')")
        page.wait_for_function(OPEN)
        vote(page, "3")
        # What is liked goes into the sliders, and into a preset.
        settings = dict(part.split("=") for part in page.locator("#votes code").inner_text().split())
        page.locator("#live").get_by_text("never").click()
        page.locator("#vote_take").click()
        page.wait_for_function(
            f"document.querySelector('#b1 input[type=number]').value === '{float(settings['b1']):g}'"
        )
        assert page.locator("#preset input").input_value() == "custom"
        with page.expect_download() as download:
            page.locator("#vote_save").click()
        download.value.save_as(tmp_path / "liked.json")
        found = read_preset(tmp_path / "liked.json")
        assert (found.provenance["votes"], found.provenance["blind_votes"]) == (2, 1)
        assert f"b1={float(settings['b1']):g}" in str(found.config)
        watched.screenshot("studio-votes-1280-light")
        # Settings that votes do not search.
        fill(page, "b1", 1.9)
        before = page.locator("#said").inner_html()
        page.locator("#generate").click()
        page.locator("#vote_told .note").wait_for()
        assert page.locator("#said").inner_html() != before
        assert page.locator("#vote_left").is_disabled()
        # Another visitor has no votes; his are his own.
        phone = other.page
        assert votes(phone) == 0
        fill(phone, "steps", 2)
        press(phone, "vote_next")
        vote(phone, "2")
        assert other.fits()
        other.screenshot("studio-votes-390-dark")
        opened(page, address)
        assert votes(page) == 2
        page.context.storage_state(path=state)
    with studio(tmp_path, *kept) as address:
        # A browser keeps what a page stores by its address, whose port is another one here.
        host = re.search(r"http://[^/]+", address)[0]
        moved = re.sub(r"http://127\.0\.0\.1:\d+", host, state.read_text())
        state.write_text(moved)
        with visit(chromium, address, storage_state=state, color_scheme="dark") as again:
            assert votes(again.page) == 2
            again.screenshot("studio-votes-1280-dark")
