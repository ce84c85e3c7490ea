"""Votes in the studio, in a real browser: blind and open, undone, kept by the browser, and as a preset."""

import re

import pytest

pytest.importorskip("freeu_zoo")
pytest.importorskip("gradio")
pytest.importorskip("sklearn")
pytest.importorskip("sqlalchemy")

from playwright.sync_api import expect

from freeu.presets.files import read_preset
from freeu.tuning.votes.outcome import VOTES

PHONE = {"width": 390, "height": 844}
OPEN = "!document.querySelector('#vote_left').disabled"
IDLE = "!document.querySelector('#pair .progress-text, #pair .eta-bar')"


def steps(page, count=2):
    box = page.locator("#steps input[type=number]")
    box.fill(str(count))
    box.press("Tab")


def pair(page, button):
    """Press a button that generates, and wait until the pair is there to be voted on; gives back its images."""
    before = page.locator("#said").inner_html()
    page.locator(f"#{button}").click()
    page.wait_for_function(f"(b) => document.querySelector('#said').innerHTML !== b && {IDLE} && {OPEN}", arg=before)
    return images(page)


def images(page):
    return page.locator("#pair img").evaluate_all("(images) => images.map((one) => one.src)")


def counted(page, count):
    """Wait until the page tells of so many votes, and no other vote on this pair is taken."""
    expect(page.locator("#votes")).to_contain_text(re.compile(rf"(model: |投票数：){count}\D"))
    expect(page.locator("#vote_left")).to_be_disabled()


def hidden(page, label="left | right (blind)"):
    """Whether nothing on the page tells which image is which."""
    shown = page.locator("#pair").get_by_text(label).count()
    told = page.locator("#said code, #spectra .main-svg").count() + page.locator("#save_on:enabled").count()
    return shown == 1 and told == 0 and all(one.endswith("/image.png") for one in images(page))


def test_votes_choose_the_next_pair_and_give_a_preset(visit, running, tmp_path):
    watched = visit(color_scheme="light")
    page = watched.page
    expect(page.locator("#vote_left")).to_be_disabled()
    steps(page)
    # The first pair compares the settings of the sliders with plain sampling. It is blind until the vote.
    files = pair(page, "vote_next")
    assert hidden(page)
    assert not page.locator("#gallery img").count()
    watched.screenshot("studio-votes-blind-1280-light")
    page.keyboard.press("3")
    counted(page, 1)
    expect(page.locator("#said code")).to_contain_text("b1=1.3 b2=1.4 s1=0.9 s2=0.2")
    expect(page.locator("#gallery img")).to_have_count(1)
    assert images(page) == files  # the sides stay
    assert not hidden(page)
    # A pair that was generated is not hidden; a vote can be taken back and given again.
    page.locator("#b1 input[type=number]").fill("1.5")
    pair(page, "generate")
    expect(page.locator("#said code")).to_contain_text("b1=1.5")
    page.keyboard.press("3")
    counted(page, 2)
    page.keyboard.press("u")
    expect(page.locator("#votes")).to_contain_text("model: 1.")
    expect(page.locator("#vote_left")).to_be_enabled()
    page.locator("#vote_right").click()
    counted(page, 2)
    # The next pair is another one, with another seed.
    seed = page.locator("#said b").inner_text()
    assert pair(page, "vote_next") != files
    assert hidden(page)
    assert page.locator("#said b").inner_text() != seed
    page.keyboard.press("2")
    counted(page, 3)
    # What is liked goes into the sliders, and into a preset.
    liked = dict(part.split("=") for part in page.locator("#votes code").inner_text().split())
    page.locator("#live").get_by_text("never").click()
    page.locator("#vote_take").click()
    expect(page.locator("#b1 input[type=number]")).to_have_value(f"{float(liked['b1']):g}")
    expect(page.locator("#preset input")).to_have_value("custom")
    with page.expect_download() as download:
        page.locator("#vote_save").click()
    download.value.save_as(tmp_path / "liked.json")
    found = read_preset(tmp_path / "liked.json")
    assert (found.provenance["votes"], found.provenance["blind_votes"]) == (3, 2)
    assert [stage.b for stage in found.config.stages] == [float(liked["b1"]), float(liked["b2"])]
    watched.screenshot("studio-votes-1280-light")
    # Settings that votes do not search.
    page.locator("#b1 input[type=number]").fill("1.9")
    page.locator("#generate").click()
    expect(page.locator("#vote_told .note")).to_contain_text("No vote on this pair")
    expect(page.locator("#vote_left")).to_be_disabled()
    # The votes are found again, and lie in the studio's folder.
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#votes")).to_contain_text("model: 3.")
    assert len(list(running.votes.glob(f"*/*/{VOTES}"))) >= 1


def test_votes_of_another_visitor_on_a_phone_in_chinese(visit):
    watched = visit(viewport=PHONE, color_scheme="dark", locale="zh-CN")
    page = watched.page
    expect(page.locator("#votes")).to_contain_text("此模型还没有投票")
    steps(page)
    # Generate is blind where the visitor wants it.
    page.locator("#vote_blind input").check()
    pair(page, "generate")
    assert hidden(page, "左 | 右（盲评）")
    assert watched.fits()
    for name in ("vote_left", "vote_tie", "vote_right", "vote_next", "vote_undo"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    watched.screenshot("studio-votes-blind-390-dark")
    page.locator("#vote_tie").click()
    counted(page, 1)
    expect(page.locator("#vote_told")).to_contain_text("您的投票：差不多")
    watched.screenshot("studio-votes-390-dark")
    page.get_by_text("English").click()
    expect(page.locator("#votes")).to_contain_text("Votes on this model: 1.")
    expect(page.locator("#vote_told")).to_contain_text("Your vote: alike")
    expect(page.locator("#vote_next")).to_have_text("Next pair (N)")
