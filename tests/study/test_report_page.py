"""The report: one page without scripts or requests, marked wherever raters are simulated, in a real browser too."""

import base64
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image
from study.handmade import make_study

from freeu.study.plan.plan import Arm
from freeu.study.results.report import make_report, thumbnails
from freeu.study.results.results import results
from freeu.study.statistics.simulate import Behaviour, bare_plan, simulate_votes

PROMPTS = (
    "a <b>bold</b> fox & a 'dog'",
    "宇航员骑马",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
)
ARMS = (Arm("arm 0", "SD"), Arm("arm 1", "SD <+> FreeU", {"b": [1.2]}), Arm("arm 2", "SD, CFG scale 11"))


def made(arms=2, *, demonstration=True, ties=True, first=None, media="image"):
    plan = bare_plan(12, 4, arms, seeds=2, checks=2, repeats=1, ties=ties)
    plan = replace(
        plan,
        title="Which <i>one</i>?",
        arms=ARMS[:arms],
        prompts=PROMPTS,
        demonstration=demonstration,
        items=tuple(replace(item, media=media) for item in plan.items),
    )
    behaviour = Behaviour({"arm 1": 1.5, "arm 2": 0.5}, ties=0.1, spammers=0.2, rater_spread=0.3)
    return plan, results(plan, simulate_votes(plan, behaviour, 2)[:first], draws=200)


@pytest.fixture(scope="module")
def page():
    return make_report(made()[1])


class Reader(HTMLParser):
    """Texts of headings and captions, names of tags, and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.marked, self.tags, self.attributes, self._open = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attributes]
        if tag in ("h2", "h3", "caption"):
            self._open, self.text = tag, ""

    def handle_endtag(self, tag):
        if tag == self._open:
            self.marked.append(" ".join(self.text.split()))
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.text += data


@pytest.mark.parametrize(("arms", "first"), [(2, None), (3, None), (2, 0), (3, 5)])
def test_every_heading_and_caption_says_that_raters_are_simulated(arms, first):
    found = made(arms, first=first)[1]
    page = make_report(found)
    marked = Reader(page).marked
    assert len(marked) >= 12
    assert [text for text in marked if "simulated raters" not in text] == []
    assert "<title>Simulated raters: " in page
    assert "Nothing here is evidence about people" in page
    if first is None:
        assert "No conclusions about people" in page
    # The same study of people says it nowhere.
    people = make_report({**found, "demonstration": False})
    assert "simulated raters" not in people.replace('class="simulated"', "").lower()
    assert "No conclusions about people" not in people


def test_it_runs_nothing_and_asks_for_nothing(page):
    read = Reader(page)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(read.tags)
    assert not [one for one in read.attributes if one[1].startswith("on") or one[1] == "style"]
    sources = [value for _, name, value in read.attributes if name in ("src", "href", "srcset", "action")]
    assert all(value.startswith(("#", "data:image/webp")) for value in sources)
    assert "default-src 'none'" in page
    assert "url(" not in page
    for prompt in PROMPTS:
        assert html.escape(prompt, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_the_numbers_on_it_are_those_of_the_results():
    _, found = made()
    page = make_report(found)
    for one in found["main"]["comparisons"]:
        share = one["preference"]["share"]
        assert f"{100 * share:.2f}\N{NO-BREAK SPACE}%" in page
        assert f"{100 * (1 - share):.2f}\N{NO-BREAK SPACE}%" in page
        low, high = one["preference"]["clustered"]
        assert f"[{100 * low:.1f}, {100 * high:.1f}]" in page
        assert f'cx="{100 * share:.2f}%"' in page
    for text in ("15.42", "84.58", "13.73", "86.27", "85.88", "85.34"):
        assert f"{text}\N{NO-BREAK SPACE}%" in page
    out = [one for one in found["conduct"] if one["excluded"]]
    assert len(out) == found["raters"]["excluded"] > 0
    for one in out:
        assert one["rater"] in page
        assert one["reasons"][0]["text"] in page


def test_videos_stand_beside_the_papers_videos():
    page = make_report(made(media="video")[1])
    for text in ("15.32", "84.68", "14.25", "85.75", "Table 2", "ModelScope + FreeU"):
        assert text in page


def test_the_papers_mark_stands_where_freeu_is_known():
    _, found = made()
    assert make_report(found).count('<path class="theirs" d="M0-6') == 2
    turned = [{**arm, "freeu": not arm["freeu"]} for arm in found["arms"]]
    assert '<svg x="15.42%"' in make_report(
        {**found, "arms": turned}
    )  # FreeU is the first: the axis runs the other way
    unknown = [{**arm, "freeu": False} for arm in found["arms"]]
    assert '<path class="theirs"' not in make_report({**found, "arms": unknown})
    assert '<path class="theirs"' not in make_report(made(3)[1])


def test_thumbnails_are_small_and_of_every_arm(tmp_path):
    study = make_study(tmp_path / "study")
    found = thumbnails(study.plan, lambda item: study.media(item.id))
    assert {prompt: set(arms) for prompt, arms in found.items()} == {0: {"off", "on"}, 1: {"off", "on"}}
    page = make_report(results(study.plan, []), found)
    assert "data:image/webp" not in page  # no prompt has a vote yet
    sources = {source for arms in found.values() for source in arms.values()}
    assert len(sources) == 4
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert max(image.size) <= 160


def test_the_first_frame_of_a_video(tmp_path):
    study = make_study(tmp_path / "study", media="video", seeds=1)
    found = thumbnails(study.plan, lambda item: study.media(item.id))
    assert all(source.startswith("data:image/webp;base64,") for arms in found.values() for source in arms.values())


@pytest.mark.parametrize("arms", [2, 3])
def test_in_a_browser(watched, tmp_path, arms):
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "report.html"
    found = made(arms)[1]
    buffer = io.BytesIO()
    Image.new("RGB", (160, 160), (90, 90, 120)).save(buffer, "WEBP")
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    path.write_text(make_report(found, {0: {"arm 0": source, "arm 1": source}}), encoding="utf-8")
    page = watched.page
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(path.as_uri())
            assert watched.fits(), (scheme, width)
            if (scheme == "dark") == (width == 390):
                violations = Axe().run(page).response["violations"]
                assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
            watched.screenshot(f"study-report-{arms}-{scheme}-{width}")
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')").strip() == "#1c1c1e"
    # Images are shown, the dots stand where the numbers say, and the text of a prompt is text.
    assert page.locator(".thumbs img").first.evaluate("(image) => image.naturalWidth") == 160
    page.emulate_media(media="screen")
    axis = page.locator(".forest svg.plot").first.bounding_box()
    dot = page.locator(".forest .dot").first.bounding_box()
    share = found["main"]["comparisons"][0]["preference"]["share"]
    assert (dot["x"] + dot["width"] / 2 - axis["x"]) / axis["width"] == pytest.approx(share, abs=0.02)
    assert page.get_by_text(re.compile("alert")).count() >= 1
    assert (watched.errors, watched.outside) == ([], [])
