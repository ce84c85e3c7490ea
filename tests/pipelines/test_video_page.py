"""``video.html`` in a headless browser: videos play to their end, in step, by button and by keyboard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from browser import until

from freeu.pipelines.pages import clip_page
from freeu.pipelines.pages.video_page import make_video_page
from freeu.pipelines.runs.manifest import read_manifest

TIMES = "[...document.querySelectorAll('video')].map((clip) => clip.currentTime)"
ENDED = "[...document.querySelectorAll('video')].every((clip) => clip.ended)"
READY = "[...document.querySelectorAll('video')].every((clip) => clip.readyState >= 2)"


def _open(watched: Any, path: Path, width: int = 1280, theme: str = "light") -> Any:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 2400})
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # it begins to play only when it is told to
    page.goto(path.as_uri())
    until(page, READY)
    return page


@pytest.mark.parametrize("inside", [True, False])
def test_clips_play_to_their_end_together(
    filmed: tuple[Path, Any], watched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    folder = filmed[0]
    path = folder / "video.html"
    if not inside:
        folder = shutil.copytree(folder, tmp_path / "beside")
        monkeypatch.setattr(clip_page, "MAX_INSIDE", 0)
        path = folder / "video.html"
        path.write_text(make_video_page(folder, read_manifest(folder)), encoding="utf-8")
        assert "data:video" not in path.read_text(encoding="utf-8")
    page = _open(watched, path)
    assert page.locator("video").count() == 8
    assert page.evaluate(TIMES) == [0] * 8
    page.locator("#loop").click()
    page.locator("[data-rate='2']").click()
    assert page.evaluate("document.querySelector('video').playbackRate") == 2
    page.locator("#play").click()
    until(page, ENDED)
    until(page, "document.getElementById('play').textContent === 'Play'")
    assert page.evaluate("document.querySelector('video').videoWidth") == 16
    assert page.locator("#where").text_content() == "frame 5 of 5"
    # Once more, now over and over: both sides begin anew together.
    page.keyboard.press("l")
    page.locator("#play").click()
    until(page, f"!{ENDED}")
    page.locator("#play").click()
    assert page.locator("#play").text_content() == "Play"
    off, on = page.evaluate("[...document.querySelector('.pair').querySelectorAll('video')].map((c) => c.currentTime)")
    assert abs(off - on) < 1 / 7 + 0.05
    assert not watched.errors
    assert not watched.outside


def test_keys_step_and_seek_and_wipe(filmed: tuple[Path, Any], watched: Any) -> None:
    page = _open(watched, filmed[0] / "video.html")
    page.keyboard.press(".")
    page.keyboard.press(".")
    until(page, f"{TIMES}.every((time) => Math.abs(time - 2.5 / 7) < 0.01)")
    assert page.locator("#where").text_content() == "frame 3 of 5"
    page.keyboard.press(",")
    until(page, f"{TIMES}.every((time) => Math.abs(time - 1.5 / 7) < 0.01)")
    page.locator("#frame").focus()
    page.keyboard.press("End")
    until(page, f"{TIMES}.every((time) => Math.abs(time - 4.5 / 7) < 0.01)")
    page.keyboard.press("]")
    assert page.evaluate("document.querySelector('video').playbackRate") == 2
    page.keyboard.press("v")
    assert page.locator("[data-view=slider]").get_attribute("aria-pressed") == "true"
    # Under the slider the left part is the video without FreeU.
    page.locator(".pair input").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".pair").first.evaluate("(pair) => pair.style.getPropertyValue('--cut')") == "53%"
    clip = "(clip) => getComputedStyle(clip).clipPath"
    assert "47%" in page.locator(".pair .off").first.evaluate(clip)
    assert page.locator(".pair .on").first.evaluate(clip) == "none"
    box = page.locator(".pair").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert page.locator(".pair input").first.input_value() == "25"
    page.keyboard.press("Space")
    assert page.locator("#play").text_content() == "Pause"
    assert not watched.errors


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible_in_both_themes_and_on_a_phone(
    filmed: tuple[Path, Any], watched: Any, theme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = _open(watched, filmed[0] / "video.html", width, theme)
    assert watched.fits()
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    watched.screenshot(f"video-{theme}-{width}")
    assert "ein grüner Apfel &lt;b&gt;" in (filmed[0] / "video.html").read_text(encoding="utf-8")
    assert not watched.errors
    assert not watched.outside
