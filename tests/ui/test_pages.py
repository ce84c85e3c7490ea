"""The report and the page of a sweep in a real browser."""

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
