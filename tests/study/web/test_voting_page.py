"""The pages in a real browser: by keyboard, by touch, without script, offline, in both themes, over both databases."""

from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import Watched
from playwright.sync_api import expect
from study.handmade import make_study
from study.webapp import KEYS, PASSWORD, served

from freeu.study.plan.plan import CHECK_ARM
from freeu.study.store.database import database_url
from freeu.study.store.store import Store
from freeu.study.web.app import create_app

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
DESK = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture
def site(folder, url):
    """Address and store of a served study, over either database."""
    with Store(url, folder.plan) as store, served(create_app(folder, store, KEYS)) as address:
        yield address, store


class Contexts:
    """Makes pages in contexts of their own."""

    def __init__(self, browser):
        self.browser = browser
        self.made = []

    def __call__(self, **settings):
        context = self.browser.new_context(**(DESK | settings))
        context.set_default_timeout(20_000)
        seen = Watched(context.new_page())
        self.made.append((context, seen))
        return seen

    def close(self):
        """Close them all; nothing went wrong on any of their pages."""
        made, self.made = self.made, []
        for context, _ in made:
            context.close()
        assert [(seen.errors, seen.outside) for _, seen in made] == [([], [])] * len(made)


@pytest.fixture
def contexts(chromium):
    """Makes pages in contexts of their own; at the end nothing went wrong on any of them."""
    made = Contexts(chromium)
    yield made
    made.close()


@contextmanager
def visited(app, contexts):
    """Address of a served study, whose pages are closed before the server stops.

    A page that outlives its server reports a refused connection as an error whenever it happens to ask for something.
    """
    with served(app) as address:
        yield address
        contexts.close()


def ready(page, place):
    """Wait until the task at a place (from 0) can be answered."""
    page.wait_for_function(
        "([at]) => document.title.startsWith(`${at + 1} /`) && "
        "document.querySelector('[data-vote]')?.dataset.ready && "
        "document.querySelector('button[value=left]')?.getAttribute('aria-disabled') === 'false'",
        arg=[place],
    )


def serious(page):
    """Serious and critical violations that axe-core finds."""
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def start(page, address, nickname=""):
    page.goto(address)
    page.get_by_label("Nickname").fill(nickname)
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Start").click()
    ready(page, 0)


def clean_side(plan, task):
    """The key that answers a check rightly, or the left one."""
    pair = plan.pair(task.pair)
    if pair.check:
        assert plan.item(pair.second).arm == CHECK_ARM
        return "left" if task.first_left else "right"
    return "left"


def test_a_rater_completes_the_study_by_keyboard(site, contexts, folder):
    address, store = site
    seen = contexts()
    page = seen.page
    page.goto(address)
    assert serious(page) == []
    seen.screenshot("study-first")
    # With the keyboard alone: nickname, consent, start.
    page.get_by_label("Nickname").focus()
    page.keyboard.type("Ada <b>")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    ready(page, 0)
    seen.screenshot("study-vote")
    assert serious(page) == []
    (rater,) = store.raters()
    assert (rater.nickname, rater.slot) == ("Ada <b>", 0)
    tasks = folder.plan.slots[0]
    wanted = [clean_side(folder.plan, task) for task in tasks]
    wanted[1], wanted[3] = "tie", "right"
    keys = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "t"}
    for place, choice in enumerate(wanted):
        ready(page, place)
        if place == 4:  # a change of mind
            page.keyboard.press("u")
            ready(page, 3)
            assert page.locator("#status").inner_text().startswith("The last answer was undone.")
            page.keyboard.press("ArrowLeft")
            wanted[3] = "left"
            ready(page, 4)
        if place == 5:  # the page is reloaded midway
            page.reload()
            ready(page, 5)
        if place == 6:
            page.keyboard.press("z")
            width = page.locator("[data-side=left] img").bounding_box()["width"]
            assert width > 500
            seen.screenshot("study-zoomed")
            page.keyboard.press("Escape")
            assert page.locator("[data-side=left] img").bounding_box()["width"] < width
        page.keyboard.press(keys[choice])
    page.wait_for_url("**/done")
    seen.screenshot("study-done")
    assert serious(page) == []
    votes = store.counted_votes()
    assert [(vote.task, vote.choice) for vote in votes] == [
        (task.id, choice) for task, choice in zip(tasks, wanted, strict=True)
    ]
    assert all(0.0 < vote.seconds < 60.0 for vote in votes)
    assert [event.kind for event in store.events()].count("undo") == 1


def test_a_rater_goes_on_by_touch_on_another_device(site, contexts, folder):
    address, store = site
    desk = contexts()
    start(desk.page, address)
    desk.page.keyboard.press("ArrowRight")
    ready(desk.page, 1)
    desk.page.get_by_role("link", name="Switch device").click()
    expect(desk.page.locator("[data-address]")).to_be_visible()  # a click does not wait for the page it leads to
    assert serious(desk.page) == []
    desk.screenshot("study-link")
    personal = desk.page.locator("[data-address]").inner_text()
    assert personal.startswith(f"{address}/resume#")

    seen = contexts(**PHONE)
    page = seen.page
    page.goto(personal)
    assert "#" not in page.url  # the code leaves the address bar
    page.get_by_role("button", name="Continue").tap()
    ready(page, 1)
    assert seen.fits()
    for button in page.locator("button:visible, a:visible:not(.skip)").all():
        assert button.bounding_box()["height"] >= 44, button.inner_text()
    for side in ("left", "right"):
        assert page.locator(f"[data-side={side}] img").bounding_box()["width"] > 150
    seen.screenshot("study-phone")
    assert serious(page) == []
    page.get_by_role("button", name="Enlarge").tap()
    assert page.locator("[data-side=left] img").bounding_box()["width"] > 330
    assert seen.fits()
    seen.screenshot("study-phone-zoomed")
    page.get_by_role("button", name="Reduce").tap()
    for place in range(1, len(folder.plan.slots[0])):
        ready(page, place)
        if place == 2:
            page.locator("[data-side=right]").tap()
        elif place == 3:
            page.get_by_role("button", name="No difference").tap()
        else:
            page.get_by_role("button", name="Left", exact=True).tap()
    page.wait_for_url("**/done")
    seen.screenshot("study-phone-done")
    votes = store.counted_votes()
    assert [vote.choice for vote in votes] == ["right", "left", "right", "tie"] + ["left"] * 6
    assert len({vote.rater for vote in votes}) == 1


def test_every_page_in_both_themes_and_languages(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        seen = contexts(locale="zh-CN", reduced_motion="reduce")
        page = seen.page

        def look(name):
            for scheme in ("dark", "light"):
                page.emulate_media(color_scheme=scheme)
                assert serious(page) == [], f"{name}, {scheme}"
                seen.screenshot(f"study-{name}-{scheme}")
            assert seen.fits()

        page.goto(address)
        assert page.locator("html").get_attribute("lang") == "zh-Hans"
        look("first-zh")
        page.goto(f"{address}/resume")
        look("resume")
        page.get_by_label("个人代码").fill("nothing")
        page.get_by_role("button", name="继续").click()
        page.get_by_role("alert").wait_for()
        look("resume-wrong")
        seen.errors.clear()  # the 422 of the wrong code
        page.goto(address)
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="开始").click()
        ready(page, 0)
        look("vote-zh")
        page.get_by_role("link", name="English").click()
        expect(page.locator("html")).to_have_attribute("lang", "en")
        ready(page, 0)
        assert page.locator("#question").inner_text() in [one.text["en"] for one in folder.plan.questions]
        page.keyboard.press("ArrowLeft")
        ready(page, 1)
        look("vote")
        page.goto(f"{address}/link")
        look("link")
        page.goto(f"{address}/privacy")
        look("privacy")
        page.goto(f"{address}/admin")
        look("admin-login")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Progress").wait_for()
        look("admin")
        page.get_by_label("Reserve slots for").fill("2")
        page.get_by_role("button", name="Create links").click()
        expect(page.locator("main li")).to_have_count(2)
        look("admin-links")
        page.goto(f"{address}/admin/report")
        page.locator("h1").wait_for()
        seen.screenshot("study-report")
        page.goto(f"{address}/privacy")
        page.get_by_role("button", name="Delete my data").click()
        page.get_by_role("heading", name="Your data is deleted").wait_for()
        look("forgotten")


def test_without_script(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        vote_without_script(contexts(java_script_enabled=False).page, address, folder)
    votes = store.counted_votes()
    assert [vote.choice for vote in votes] == ["tie"] * 10
    assert all(0.0 < vote.seconds < 30.0 for vote in votes)


def vote_without_script(page, address, folder):
    page.goto(address)
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Right").click()
    page.get_by_text("1 of 10 answered").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("0 of 10 answered").wait_for()
    for place in range(len(folder.plan.slots[0])):
        page.get_by_text(f"{place} of 10 answered").wait_for()
        page.get_by_role("button", name="No difference").click()
    page.get_by_role("heading", name="Done").wait_for()


def test_an_answer_survives_a_lost_connection(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        seen = contexts()
        page = seen.page
        start(page, address)
        page.context.set_offline(True)
        page.keyboard.press("ArrowRight")
        page.get_by_text("No connection.").wait_for()
        page.keyboard.press("ArrowLeft")  # the answer is on its way: this is not another one
        assert store.counted_votes() == []
        page.context.set_offline(False)
        ready(page, 1)
        assert [vote.choice for vote in store.counted_votes()] == ["right"]
        # An answer that arrived, but whose acknowledgement got lost.
        # One route for all of it: between two of them the browser may let a request through.
        fate = ["arrives, unacknowledged"]

        def route(request):
            if fate[0] == "arrives, unacknowledged":
                fate[0] = "passes"
                request.fetch()
                request.abort()
            elif fate[0] == "fails":
                request.abort()
            else:
                request.continue_()

        page.route("**/api/vote", route)
        page.keyboard.press("ArrowLeft")
        ready(page, 2)
        assert [vote.choice for vote in store.counted_votes()] == ["right", "left"]
        assert len(store.events()) == 2
        # The page is closed before the answer is sent; it is sent by the next one in that window.
        fate[0] = "fails"
        page.keyboard.press("t")
        page.get_by_text("No connection.").wait_for()
        fate[0] = "passes"
        page.reload()
        ready(page, 3)
        assert [vote.choice for vote in store.counted_votes()] == ["right", "left", "tie"]
        seen.errors.clear()  # the browser's own messages about the connection


def test_two_windows_and_double_clicks_count_once(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        seen = contexts()
        first = seen.page
        start(first, address)
        second = first.context.new_page()
        second.goto(address)
        ready(second, 0)
        first.locator("button[value=left]").dblclick()
        ready(first, 1)
        second.keyboard.press("ArrowRight")
        second.get_by_text("answered in another window").wait_for()
        ready(second, 1)
        assert [vote.choice for vote in store.counted_votes()] == ["left"]
        seen.errors.clear()  # the 409


def test_answers_wait_for_both_images(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        seen = contexts()
        page = seen.page
        held = []
        page.route("**/media/*", lambda route: held.append(route) if len(held) < 1 else route.continue_())
        page.goto(address)
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Start").click()
        page.get_by_text("Loading").wait_for()
        page.keyboard.press("ArrowLeft")
        page.locator("button[value=left]").click(force=True)
        page.locator("[data-side=right]").click(force=True)
        page.wait_for_timeout(300)
        assert store.counted_votes() == []
        held[0].continue_()
        ready(page, 0)
        page.wait_for_timeout(400)
        page.keyboard.press("ArrowLeft")
        ready(page, 1)
        (vote,) = store.counted_votes()
        assert 0.4 <= vote.seconds < 5.0


def test_the_next_pair_is_loaded_ahead(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        seen = contexts()
        page = seen.page
        asked = []
        page.on("requestfinished", lambda request: asked.append(request.url.rpartition("/")[2]))
        start(page, address)
        pairs = [folder.plan.pair(task.pair) for task in folder.plan.slots[0]]
        wanted = [{pair.first, pair.second} for pair in pairs]
        page.wait_for_load_state("networkidle")
        assert {name for name in asked if name in {item.id for item in folder.plan.items}} == wanted[0] | wanted[1]
        page.route("**/media/*", lambda route: route.abort())
        page.keyboard.press("ArrowLeft")
        ready(page, 1)
        assert page.evaluate("[...document.querySelectorAll('.frame img')].every((one) => one.naturalWidth > 0)")
        # The requests that were cut off; of those for the pair after, the last may be told only now.
        page.context.close()
        seen.errors.clear()


def test_the_shortcuts_can_be_switched_off(folder, store, contexts):
    with visited(create_app(folder, store, KEYS), contexts) as address:
        page = contexts().page
        start(page, address)
        page.get_by_label("Keyboard shortcuts").uncheck()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("t")
        page.wait_for_timeout(300)
        page.reload()
        ready(page, 0)
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(300)
        assert store.events() == []
        page.locator("button[value=right]").press("Enter")
        ready(page, 1)
        assert [vote.choice for vote in store.counted_votes()] == ["right"]


def test_videos_loop_and_stand_still_for_those_who_wish(tmp_path, contexts):
    pytest.importorskip("av")
    study = make_study(tmp_path / "study", media="video", seeds=1, demonstration=True)
    with (
        Store(database_url(study.path), study.plan) as store,
        visited(create_app(study, store, KEYS), contexts) as address,
    ):
        seen = contexts()
        page = seen.page
        start(page, address)
        assert page.get_by_text("Demonstration with simulated raters").is_visible()
        page.wait_for_function(
            "[...document.querySelectorAll('video')].every((one) => !one.paused && one.loop && one.muted)"
        )
        seen.screenshot("study-video")
        assert serious(page) == []
        page.get_by_role("button", name="Pause").click()
        assert page.evaluate("[...document.querySelectorAll('video')].every((one) => one.paused)")
        page.keyboard.press("ArrowLeft")
        ready(page, 1)
        calm = contexts(reduced_motion="reduce", **PHONE)
        start(calm.page, address)
        assert calm.page.evaluate("[...document.querySelectorAll('video')].every((one) => one.paused)")
        calm.screenshot("study-video-phone")
        calm.page.get_by_role("button", name="Play").tap()
        calm.page.wait_for_function("[...document.querySelectorAll('video')].every((one) => !one.paused)")
