"""The report, the page of a sweep, and the studio, in a real browser."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("freeu_zoo")

from freeu.cli import main

PROMPTS = ("a 3d fox on a blue background", "a flat cat on a red background")


def test_the_report(watched, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    words = [
        "analyze",
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--steps",
        "2",
        "--threads",
        "1",
        "--random-baseline",
    ]
    words += ["--figure", "7", "--figure", "14", "--figure", "16", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    page = watched.page
    page.goto((tmp_path / "out" / "report.html").as_uri())
    page.wait_for_selector("[data-plot] .main-svg")
    watched.screenshot("report-light")
    assert page.locator("[data-plot] .main-svg").count() >= 3
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    watched.screenshot("report-dark")
    page.locator("[data-zoom]").first.click()
    assert page.locator("dialog").is_visible()
    assert page.locator("dialog img").evaluate("(image) => image.naturalWidth > 0")
    page.get_by_role("button", name="Close").click()
    page.get_by_text("The same with random weights").first.click()
    page.wait_for_selector("details[open] [data-plot] .main-svg")
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(1_000)  # plots follow the window with a delay
    assert watched.fits()
    legend, title = (page.locator(f"[data-plot] .{part}").first.bounding_box() for part in ("legend", "xtitle"))
    assert legend["y"] >= title["y"] + title["height"]
    watched.screenshot("report-phone")
    assert (watched.errors, watched.outside) == ([], [])


def test_the_page_of_a_sweep(watched, tmp_path):
    words = ["sweep", PROMPTS[0], "--x", "b=1,1.4", "--y", "seed=0-1", "--z", "end=0.5,1", "--steps", "2"]
    assert main([*words, "--threads", "1", "--output", str(tmp_path / "out")]) == 0
    page = watched.page
    page.goto((tmp_path / "out" / "sweep.html").as_uri())
    shown = page.locator("[data-page]:not([hidden]) img")
    assert shown.count() == 4
    assert shown.first.evaluate("(image) => image.naturalWidth") == 128
    width = shown.first.bounding_box()["width"]
    page.locator("#size").fill("320")
    assert shown.first.bounding_box()["width"] > width
    page.select_option("#page", "1")
    assert page.locator("[data-page]:not([hidden])").get_attribute("data-page") == "1"
    page.locator("[data-page]:not([hidden]) [data-file]").nth(1).click()
    assert page.locator("#second-name").inner_text() == "b = 1.4, seed = 0, end = 1"
    page.locator("#cut").fill("20")
    assert page.locator(".pair").evaluate("(pair) => pair.style.getPropertyValue('--cut')") == "20%"
    assert page.locator(".pair img").evaluate_all("(all) => all.every((image) => image.naturalWidth === 128)")
    watched.screenshot("sweep-large")
    page.get_by_role("button", name="Mark this one").click()
    assert page.locator("#first-name").inner_text() == "b = 1.4, seed = 0, end = 1"
    page.get_by_role("button", name="Close").click()
    page.locator("#theme").click()
    watched.screenshot("sweep")
    page.set_viewport_size({"width": 390, "height": 800})
    assert watched.fits()
    watched.screenshot("sweep-phone")
    assert (watched.errors, watched.outside) == ([], [])


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """The address of a running studio, which takes its images with it when it ends."""
    command = [sys.executable, "-m", "freeu", "ui", "--port", "0", "--threads", "1"]
    cache = tmp_path_factory.mktemp("cache")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"GRADIO_TEMP_DIR": str(cache)},
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stdout.read()
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_the_studio(watched, studio):
    page = watched.page
    page.goto(studio, wait_until="domcontentloaded")
    page.locator("#generate").wait_for()
    page.locator("#prompt textarea").fill("a flat cat on a green background")
    page.locator("#b1 input[type=number]").fill("1.4")
    page.locator("#b1 input[type=number]").press("Enter")
    page.wait_for_function("document.querySelector('#preset input').value === 'custom'")
    page.locator("#generate").click()
    said = page.locator("#said code")
    said.wait_for()
    assert "b1=1.4" in said.inner_text()
    assert "generated 2 of 2" in page.locator("#said").inner_text()
    page.locator("#pair img").first.wait_for()
    page.locator("#spectra .main-svg").first.wait_for()
    watched.screenshot("studio")
    # Another factor, by dragging its slider: the image without FreeU is remembered.
    slider = page.locator("#b1 input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    # A slider's thumb does not reach its very edges; 1.4 of 2 is near 0.7 of its length.
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.7 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.85 * box["width"], y, steps=5)
    page.mouse.up()
    dragged = float(page.locator("#b1 input[type=number]").input_value())
    assert 1.6 < dragged < 1.9
    page.locator("#generate").click()
    page.get_by_text("generated 1 of 2 images").wait_for()
    assert f"b1={dragged:g}" in page.locator("#said code").inner_text()
    page.get_by_text("Settings to copy").click()
    assert "freeu.enabled" in page.locator("#python").inner_text()
    page.locator("#prompt textarea").fill("  ")
    page.locator("#generate").click()
    page.get_by_text("the prompt is empty").wait_for()
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(500)
    assert watched.fits()
    watched.screenshot("studio-phone")
    assert (watched.errors, watched.outside) == ([], [])


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/static/../../../../etc/passwd",
    ],
)
def test_the_studio_shows_no_files(studio, path):
    import http.client

    host, _, port = studio.removeprefix("http://").partition(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status >= 400
    assert b"root:" not in body
    assert b"[project]" not in body
