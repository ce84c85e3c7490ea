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
    plot = page.locator("figure.plot:has(.legend button)").first
    legend, title = (plot.locator(f".{part}").first.bounding_box() for part in ("legend", "xtitle"))
    assert legend["y"] >= title["y"] + title["height"]
    watched.screenshot("report-phone")
    assert (watched.errors, watched.outside) == ([], [])
