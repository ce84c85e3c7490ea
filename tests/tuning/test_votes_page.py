"""The page of a search by votes: its application in process, and a real session on the embedded model in a browser."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Watched
from command_line import run_cli as run
from PIL import Image
from simulated_voters import new_search
from starlette.testclient import TestClient

from freeu.errors import FreeURuntimeError
from freeu.presets.files import read_preset
from freeu.tuning.votes.ballots import DONE, FINAL, open_ballots
from freeu.tuning.web.app import create_app

TEXTS = tuple(f"a fox number {number} <b>" for number in range(120))
SMALL = ("--steps", "2", "--width", "64", "--height", "64", "--threads", "1")


class GreyImages:
    """Images that are there at once, or not at all."""

    def __init__(self, folder: Path, there: bool = True) -> None:
        self.folder, self.there, self.failure, self.woken = folder, there, None, 0
        Image.new("RGB", (8, 8), "grey").save(folder / "grey.png")

    def ready(self, pair: Any) -> bool:
        return self.there

    def path(self, pair: Any, side: str) -> Path:
        return self.folder / ("grey.png" if self.there else "none.png")

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[TestClient, Any, GreyImages, dict[str, str], list[int]]]:
    """A browser without script, the search, its images, headers of the page, and a mark for each end of it."""
    with open_ballots(tmp_path / "votes.sqlite", "x") as ballots:
        search, images, ends = new_search(ballots, 3, 0, 10), GreyImages(tmp_path), []
        app = create_app(search, images, TEXTS, (8, 8), when_done=lambda: ends.append(1))  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        token = re.search(r'data-token="([^"]+)"', client.get("/").text)
        assert token is not None
        yield client, search, images, {"x-csrf-token": token[1]}, ends


def test_votes_over_http(site: Any) -> None:
    client, search, images, headers, ends = site
    state = client.get("/api/state").json()
    assert (state["stage"], state["done"], state["total"], state["ready"]) == ("search", 0, 3, True)
    assert state["pair"]["prompt"].startswith("a fox number")
    assert not {"b1", "first", "second", "settings", "seed"} & set(re.findall(r"\w+", json.dumps(state)))
    image = client.get(state["pair"]["left"])
    assert image.headers["content-type"] == "image/png"
    assert "grey" not in str(image.headers)
    form = {"pair": state["pair"]["id"], "revision": 0, "choice": "left", "seconds": 1.0}
    assert client.post("/api/vote", json=form).status_code == 403  # not from the page
    assert client.post("/api/vote", json=form, headers=headers | {"sec-fetch-site": "cross-site"}).status_code == 403
    assert search.progress == (0, 3)
    answer = client.post("/api/vote", json=form, headers=headers).json()
    assert (answer["counted"], answer["state"]["done"], answer["state"]["undo"]) == (True, 1, True)
    assert client.post("/api/vote", json=form, headers=headers).json()["counted"] is False
    assert images.woken == 2
    assert client.post("/api/undo", json={}, headers=headers).json()["state"]["pair"]["revision"] == 2
    for wrong in ({"pair": 99}, {"choice": "both"}, {"seconds": -1}, {"pair": "x"}):
        assert client.post("/api/vote", json=form | wrong, headers=headers).status_code in (404, 422)
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/image/0/0/left").status_code == 404
    images.there = False
    assert client.get("/api/state").json()["ready"] is False
    assert client.get(state["pair"]["left"]).status_code == 404
    images.failure = FreeURuntimeError("out of memory")
    assert client.get("/api/state").json()["failure"] == "out of memory"
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
    assert ends == []


def test_a_stage_ends_once(site: Any) -> None:
    client, search, _, headers, ends = site
    for _ in range(2):  # a double click
        client.post("/api/finish", json={"stage": "search"}, headers=headers)
    assert search.stage == FINAL
    state = client.get("/api/state").json()
    form = {"pair": state["pair"]["id"], "revision": 0, "choice": "tie", "seconds": 1.0}
    assert client.post("/api/vote", json=form, headers=headers).json()["state"]["done"] == 1
    state = client.post("/api/finish", json={"stage": "final"}, headers=headers).json()["state"]
    assert search.stage == DONE
    assert state["verdict"].startswith("No verdict: 1 of the 10 final votes were given.")
    assert state["pair"] is None
    assert ends == [1]


# -- a real session ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("freeu_zoo")
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    colours, nouns = ("red", "blue", "green", "white"), ("fox", "cat", "car", "rocket")
    path.write_text("\n".join(f"a 3d {noun} on a {colour} background" for noun in nouns for colour in colours))
    return path


@contextlib.contextmanager
def voting(words: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command while it serves, and the address it printed."""
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "freeu", *words], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line + (folder / "errors.txt").read_text()
            yield process, found[0]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def ready(page: Any) -> str:
    """Wait until the pair can be voted on; its name."""
    page.wait_for_function("() => document.querySelector('main').dataset.ready")
    return str(page.locator("main").get_attribute("data-ready"))


def test_a_session_in_the_browser(chromium: Any, prompts: Path, tmp_path: Path) -> None:
    """Votes by key, click and touch; the process is killed in between; the verdict is on the page and on the disk."""
    folder = tmp_path / "out"
    words = ["tune", "--objective", "votes", "--prompts", str(prompts), *SMALL, "--votes", "4", "--final-votes", "10"]
    words += ["--port", "0", "--output", str(folder)]
    desk = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    phone = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    for context in (desk, phone):
        context.set_default_timeout(120_000)
    seen = Watched(desk.new_page())
    with voting(words, tmp_path) as (process, address):
        page = seen.page
        page.goto(address)
        assert ready(page) == "search:0:0"
        assert page.locator(".frame img").evaluate_all("(all) => all.every((one) => one.naturalWidth === 64)")
        sources = page.locator(".frame img").evaluate_all("(all) => all.map((one) => one.src)")
        assert len(set(sources)) == 2
        seen.screenshot("votes-desk")
        assert seen.fits()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => document.querySelector('#count').textContent === 'Search: vote 2 of 4'")
        ready(page)
        page.keyboard.press("u")
        page.wait_for_function("() => document.querySelector('main').dataset.ready === 'search:0:2'")
        page.keyboard.press("ArrowDown")
        page.wait_for_function("() => document.querySelector('#count').textContent === 'Search: vote 2 of 4'")
        ready(page)
        page.goto("about:blank")
        process.send_signal(signal.SIGKILL)
    with open_votes_of(folder) as kept:
        assert [(one.id, one.choice) for one in kept if one.choice is not None] == [(0, "tie")]
    touched = Watched(phone.new_page())
    with voting(words, tmp_path) as (process, address):
        page = touched.page
        page.goto(address)
        ready(page)
        assert page.locator("#count").inner_text() == "Search: vote 2 of 4"
        assert touched.fits()
        touched.screenshot("votes-phone")
        page.locator("[data-side=right]").tap()
        page.wait_for_function("() => document.querySelector('#count').textContent === 'Search: vote 3 of 4'")
        ready(page)
        page.locator("#finish").tap()
        page.locator("#sure-yes").tap()
        page.wait_for_function("() => document.querySelector('#count').textContent.includes('vote 1 of 10')")
        assert "which decides" in page.locator("#count").inner_text()
        for number in range(10):
            name = ready(page)
            assert name.startswith("final:")
            page.locator("button[value=left]" if number % 2 else "button[value=right]").tap()
            page.wait_for_function(f"() => document.querySelector('main').dataset.ready !== '{name}'")
        assert ready(page) == "done"
        touched.screenshot("votes-done")
        verdict = page.locator("#verdict").inner_text()
        assert process.wait(120) == 0
        said = process.stdout.read()
    assert verdict in said
    assert "preset.json" in said
    for one in (seen, touched):
        assert (one.errors, one.outside) == ([], [])
    desk.close()
    phone.close()
    preset = read_preset(folder / "preset.json")
    assert preset.verdict == verdict
    data = json.loads((folder / "tuning.json").read_text())
    assert [one["choice"] for one in data["shown"]][:2] == ["tie", "right"]
    assert (data["result"]["search_votes"], data["result"]["final_votes"]) == (2, 10)
    assert (preset.config is None) == (data["result"]["best"] == "none")
    report = (folder / "report.html").read_text()
    assert report.count("data:image/png") == 20
    assert "<svg" in report
    code, out, _ = run(*words)  # nothing is left to vote on
    assert code == 0
    assert verdict in out
    code, _, err = run(*words[:-4], "--votes", 5, *words[-4:])
    assert code == 2
    assert "holds another search (other votes)" in err


@contextlib.contextmanager
def open_votes_of(folder: Path) -> Iterator[Any]:
    """The pairs of a folder's search, read as a copy of it is."""
    import shutil

    from freeu.tuning.search import identity_of

    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    record = json.loads((copy / "manifest.json").read_text())
    with open_ballots(copy / "votes.sqlite", identity_of(record)) as ballots:
        yield ballots.pairs()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trials", 5), "--objective votes measures nothing and asks you instead: leave --trials out"),
        (("--judge", "none"), "leave --judge out"),
        (("--ray",), "leave --ray out"),
        (("--batch", 2), "leave --batch out"),
        (("--final-votes", 9), "--final-votes must lie in 10 to 10000, got 9"),
        (("--final-votes", 16), "a search by votes needs 20 prompts or more (16 for the final votes"),
        (("--port", 70_000), "--port must lie in 0 to 65535"),
        (("--held-out", "{prompts}"), "which --prompts has too"),
        (("--final-votes", 10, "--earlier-votes", "{prompts}"), "prompts.txt is no folder: name that of freeu ui"),
        (("--final-votes", 10, "--earlier-votes", "."), "--earlier-votes . holds no votes on this model"),
    ],
)
def test_bad_input_is_one_line(prompts: Path, tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    words = tuple(str(word).replace("{prompts}", str(prompts)) for word in words)
    given = ("tune", "--objective", "votes", "--prompts", prompts, *SMALL, "--output", tmp_path / "out", *words)
    outcome = run(*given)
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_options_of_votes_need_votes(prompts: Path, tmp_path: Path) -> None:
    for words in (("--votes", 5), ("--port", 9000), ("--host", "0.0.0.0")):
        outcome = run("tune", "--prompts", prompts, *SMALL, "--output", tmp_path / "out", *words)
        assert outcome.code == 2
        assert f"{words[0]} is for a search by votes: give --objective votes too" in outcome.one_line()
