"""``compare.html`` and ``sweep.html`` in a headless browser: one viewer, by wheel, finger, mouse and keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import until
from PIL import Image
from playwright.sync_api import expect

from freeu.pipelines.runs.manifest import read_manifest

SIZES = [(1280, 900), (390, 844)]


@pytest.fixture(scope="module")
def swept(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from command_line import run_cli

    folder = tmp_path_factory.mktemp("runs") / "swept"
    words = ("sweep", "a fox", "--model", sd_dir, "--steps", "2", "--threads", "1", "--output", folder)
    assert run_cli(*words, "--x", "b=1,1.2,1.6", "--y", "seed=3-4", "--z", "strength=0,1").code == 0
    return folder


def opened(watched: Any, path: Path, size: tuple[int, int] = SIZES[0], theme: str = "light") -> Any:
    page = watched.page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.context.set_offline(True)
    page.goto(path.as_uri())
    return page


def moves(page: Any) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('#stage .pane img')].map((image) => image.style.transform)")


def zoom(page: Any) -> float:
    return float(re.search(r"scale\(([\d.]+)\)", moves(page)[0])[1])


def at(page: Any) -> tuple[float, float]:
    found = re.search(r"translate\(([-\d.]+)px, ([-\d.]+)px\)", moves(page)[0])
    return float(found[1]), float(found[2])


def pressed(page: Any) -> str:
    return page.evaluate("document.getElementById('stage').dataset.view")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_fit_and_tell_no_errors(
    compared: tuple[Path, Any], swept: Path, watched: Any, size: tuple[int, int], theme: str
) -> None:
    for name, path in (("compare", compared[0] / "compare.html"), ("sweep", swept / "sweep.html")):
        page = opened(watched, path, size, theme)
        assert watched.fits(), name
        watched.screenshot(f"{name}-{size[0]}-{theme}")
        page.locator("[data-enlarge], [data-file]").first.click()
        for view in ("slider", "beside", "flip", "difference"):
            page.locator(f"[data-view-to={view}]").click()
            expect(page.locator("#stage")).to_have_attribute("data-view", view)
            stage = page.locator("#stage").bounding_box()
            assert stage["height"] > size[1] / 2, view
            watched.screenshot(f"{name}-{view}-{size[0]}-{theme}")
        assert watched.fits()
        page.keyboard.press("Escape")
        expect(page.locator("#viewer")).to_be_hidden()
    assert not watched.errors
    assert not watched.outside


def test_zoom_is_linked(compared: tuple[Path, Any], watched: Any) -> None:
    page = opened(watched, compared[0] / "compare.html")
    page.keyboard.press("b")
    expect(page.locator("#viewer")).to_be_visible()
    until(page, "document.querySelector('#stage .first img').style.transform !== ''")
    fitted = zoom(page)
    box = page.locator("#stage .second").bounding_box()
    assert abs(16 * fitted - min(box["width"], box["height"])) < 1
    # The wheel zooms both about the point under the mouse, which stays where it is.
    page.mouse.move(box["x"] + 200, box["y"] + 300)
    before = [(200 - at(page)[0]) / fitted, (300 - at(page)[1]) / fitted]
    page.mouse.wheel(0, -400)
    until(page, f"parseFloat(document.getElementById('viewer-zoom').value) > {100 * fitted + 1}")
    now = zoom(page)
    assert now == pytest.approx(min(64, fitted * np.exp(0.8)), rel=1e-3)
    assert [(200 - at(page)[0]) / now, (300 - at(page)[1]) / now] == pytest.approx(before, abs=0.5)
    assert len(set(moves(page))) == 1
    # Dragging one moves both.
    place = at(page)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 260)
    page.mouse.up()
    assert at(page) == pytest.approx((place[0] - 50, place[1] - 40), abs=1)
    assert len(set(moves(page))) == 1
    page.keyboard.press("1")
    assert zoom(page) == 1
    page.keyboard.press("0")
    assert zoom(page) == pytest.approx(fitted, rel=1e-4)
    page.keyboard.press("+")
    assert zoom(page) == pytest.approx(1.25 * fitted, rel=1e-4)
    assert not watched.errors


def test_two_fingers_zoom(compared: tuple[Path, Any], watched: Any) -> None:
    page = opened(watched, compared[0] / "compare.html", SIZES[1])
    page.locator("[data-enlarge]").first.click()
    until(page, "document.querySelector('#stage .first img').style.transform !== ''")
    fitted = zoom(page)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        found = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": found})

    touch("touchStart", (150, 500), (250, 500))
    for spread in range(10, 60, 10):
        touch("touchMove", (150 - spread, 500), (250 + spread, 500))
    touch("touchEnd")
    until(page, f"parseFloat(document.getElementById('viewer-zoom').value) > {150 * fitted}")
    assert zoom(page) == pytest.approx(2 * fitted, rel=0.15)
    assert page.evaluate("visualViewport.scale") == 1
    assert not watched.errors


def test_the_slider_is_dragged_and_moved_by_keys(compared: tuple[Path, Any], watched: Any) -> None:
    page = opened(watched, compared[0] / "compare.html")
    page.keyboard.press("Enter")
    box = page.locator("#stage").bounding_box()
    cut = "document.getElementById('stage').style.getPropertyValue('--cut')"
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 100)
    page.mouse.up()
    assert float(page.evaluate(cut)[:-1]) == pytest.approx(25, abs=0.5)
    page.keyboard.press("Shift+ArrowRight")
    assert float(page.evaluate(cut)[:-1]) == pytest.approx(30, abs=0.5)
    # Zoomed in, the images are moved; the slider stays, but at its handle.
    page.keyboard.press("+")
    page.keyboard.press("+")
    place = at(page)
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 150)
    page.mouse.up()
    assert at(page)[1] == pytest.approx(place[1] - 50, abs=1)
    assert float(page.evaluate(cut)[:-1]) == pytest.approx(30, abs=0.5)
    page.mouse.move(box["x"] + 0.3 * box["width"] + 5, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 200)
    page.mouse.up()
    assert float(page.evaluate(cut)[:-1]) == pytest.approx(60, abs=0.5)


def test_keys_of_the_viewer(compared: tuple[Path, Any], watched: Any) -> None:
    page = opened(watched, compared[0] / "compare.html")
    what = page.locator("#viewer-what")
    page.keyboard.press("Enter")
    expect(what).to_have_text("a red fox, seed 3")
    page.keyboard.press("ArrowRight")
    expect(what).to_have_text("a red fox, seed 4")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(what).to_have_text("ein grüner Apfel <b>&</b> 日本, seed 4")
    shown = page.locator("#stage")
    page.keyboard.press(" ")
    expect(shown).to_have_attribute("data-shown", "first")
    expect(page.locator("#stage .second")).to_have_css("visibility", "hidden")
    page.keyboard.press(" ")
    expect(shown).to_have_attribute("data-shown", "second")
    for key, view in (("d", "difference"), ("s", "slider"), ("b", "beside")):
        page.keyboard.press(key)
        assert pressed(page) == view
    page.keyboard.press("f")
    until(page, "document.fullscreenElement !== null")
    page.keyboard.press("f")
    until(page, "document.fullscreenElement === null")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    assert not watched.errors


def test_keys_of_the_page(compared: tuple[Path, Any], watched: Any) -> None:
    page = opened(watched, compared[0] / "compare.html")
    focused = "[...document.querySelectorAll('figure')].indexOf(document.activeElement)"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == 1
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == 2
    slider = page.locator("figure input").nth(2)
    page.keyboard.press(" ")
    assert slider.input_value() == "100"
    page.keyboard.press(" ")
    assert slider.input_value() == "0"
    page.keyboard.press("d")
    expect(page.locator("#viewer-what")).to_have_text("ein grüner Apfel <b>&</b> 日本, seed 3")
    assert pressed(page) == "difference"
    page.keyboard.press("Escape")
    # In a slider the arrows are its own.
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "1"


def test_the_difference_is_that_of_the_files(compared: tuple[Path, Any], watched: Any) -> None:
    page = opened(watched, compared[0] / "compare.html")
    page.keyboard.press("d")
    tag = page.locator("#stage .apart .tag")
    expect(tag).to_contain_text("difference ×4")
    off, on = (
        np.asarray(Image.open(compared[0] / f"p000-s0003-{arm}.png").convert("RGB"), dtype=int)
        for arm in ("baseline", "freeu")
    )
    by = np.abs(off - on)
    expect(tag).to_contain_text(f"mean {by.mean():.2f} of 255")
    read = "[...document.querySelector('#stage canvas').getContext('2d').getImageData(0, 0, 16, 16).data]"
    assert (np.array(page.evaluate(read)).reshape(16, 16, 4)[..., :3] == np.minimum(255, 4 * by)).all()
    page.locator("[data-factor='16']").click()
    expect(tag).to_contain_text("difference ×16")
    assert (np.array(page.evaluate(read)).reshape(16, 16, 4)[..., :3] == np.minimum(255, 16 * by)).all()
    page.keyboard.press("ArrowRight")
    other = [
        np.asarray(Image.open(compared[0] / f"p000-s0004-{arm}.png").convert("RGB"), int)
        for arm in ("baseline", "freeu")
    ]
    expect(tag).to_contain_text(f"mean {np.abs(other[0] - other[1]).mean():.2f} of 255")


def test_measures_stand_under_each_pair(compared: tuple[Path, Any], watched: Any) -> None:
    from freeu.evaluate.metrics.statistics import image_statistics

    folder = compared[0]
    page = opened(watched, folder / "compare.html")
    assert page.locator(".strip").count() == 4
    rows = page.locator(".strip").first.locator("tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["", "saturation", "sharpness"]  # no judge of another's model
    off, on = (
        image_statistics(Image.open(folder / f"p000-s0003-{arm}.png"))["saturation"] for arm in ("baseline", "freeu")
    )
    cells = rows[1].split("\t")
    assert float(cells[1]) == pytest.approx(off, rel=0.01)
    assert float(cells[2]) == pytest.approx(on, rel=0.01)
    assert float(cells[3]) == pytest.approx(on - off, abs=0.01 * off)


def test_without_the_extra_the_page_says_so(compared: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from freeu.cli.measures import measure

    monkeypatch.setattr("freeu.extras.importlib.util.find_spec", lambda name: None)
    found = measure(compared[0], read_manifest(compared[0]))
    assert not found.values
    assert "pip install 'freeu[eval]'" in found.text


def test_the_embedded_model_is_judged(cli: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    words = ("compare", "a 3d fox on a blue background", "--steps", "2", "--threads", "1", "--output", tmp_path / "out")
    assert cli(*words).code == 0
    text = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert re.search(r'<th scope="row">CLIP score</th><td>[\d.]+</td><td>[\d.]+</td><td>[+-][\d.]+</td>', text)
    assert "by the embedded judge" in text


def test_without_script_both_images_are_seen(compared: tuple[Path, Any], chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((compared[0] / "compare.html").as_uri())
    boxes = [page.locator(f"figure img.{arm}").first.bounding_box() for arm in ("off", "on")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"] + 1
    assert page.locator("[data-enlarge]").first.is_hidden()
    context.close()


def test_cells_of_a_sweep_are_compared(swept: Path, watched: Any, tmp_path: Path) -> None:
    alone = tmp_path / "sent.html"
    alone.write_bytes((swept / "sweep.html").read_bytes())
    page = opened(watched, alone)
    cells = page.locator("[data-page='0'] [data-file] img")
    assert cells.count() == 6
    assert all(
        page.evaluate("[...document.querySelectorAll('[data-file] img')].map((image) => image.naturalWidth === 16)")
    )
    page.locator("#page").select_option("1")
    page.locator("[data-page='1'] [data-file]").nth(2).click()
    expect(page.locator("#stage .first .tag")).to_have_text("b = 1, seed = 3, strength = 0")
    expect(page.locator("#stage .second .tag")).to_have_text("b = 1.6, seed = 3, strength = 1")
    page.get_by_role("button", name="Mark").click()
    expect(page.locator("#stage .first .tag")).to_have_text("b = 1.6, seed = 3, strength = 1")
    page.keyboard.press("d")
    expect(page.locator("#stage .apart .tag")).to_contain_text("mean 0.00 of 255")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#stage .second .tag")).to_have_text("b = 1, seed = 4, strength = 1")
    assert not watched.errors
    assert not watched.outside


def test_both_pages_have_one_viewer(compared: tuple[Path, Any], swept: Path) -> None:
    templates = Path(__file__).parents[2] / "src" / "freeu" / "pipelines" / "pages" / "templates"
    script = (templates / "viewer.js").read_text(encoding="utf-8").splitlines()[2:40]
    for page in (compared[0] / "compare.html", swept / "sweep.html"):
        text = page.read_text(encoding="utf-8")
        assert all(line in text for line in script)
    assert read_manifest(compared[0]).plan.command == "compare"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_accessible(compared: tuple[Path, Any], swept: Path, chromium: Any, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = chromium.new_context(bypass_csp=True, color_scheme=theme)  # what looks at the page is put into it
    page = context.new_page()
    for path in (compared[0] / "compare.html", swept / "sweep.html"):
        page.goto(path.as_uri())
        for view in ("page", "slider", "difference"):
            if view == "slider":
                page.locator("[data-enlarge], [data-file]").first.click()
            elif view == "difference":
                page.keyboard.press("d")
            found = Axe().run(page).response["violations"]
            assert not [(one["id"], one["nodes"][0]["html"]) for one in found], (path.name, view)
    context.close()


def test_labels_can_be_read_on_both_pages(compared: tuple[Path, Any], swept: Path, watched: Any) -> None:
    for path in (compared[0] / "compare.html", swept / "sweep.html"):
        page = opened(watched, path)
        page.locator("[data-enlarge], [data-file]").first.click()
        for pane in ("first", "second"):
            tag = page.locator(f"#stage .{pane} .tag")
            expect(tag).to_have_css("color", "rgb(255, 255, 255)")
            expect(tag).to_have_css("position", "absolute")
