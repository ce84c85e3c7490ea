"""The studio in a real browser, as wide as a laptop and as a phone."""

import contextlib
import http.client
import re
from types import SimpleNamespace

import pytest

pytest.importorskip("freeu_zoo")
pytest.importorskip("gradio")

import made_add_ons as made
from PIL import Image

from freeu.metadata import read_png

LAPTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def fill(page, name, value):
    box = page.locator(f"#{name} input[type=number], #{name} textarea, #{name} input:not([type=range])").first
    box.fill(str(value))
    box.press("Tab")


def generate(page, steps=2):
    """Press the button, and wait for the image."""
    fill(page, "steps", steps)
    before = page.locator("#said").inner_html()
    page.locator("#generate").click()
    page.wait_for_function(f"(before) => {SAID} && {SAID}.innerHTML !== before", arg=before)
    page.wait_for_function("!document.querySelector('#pair .progress-text, #pair .eta-bar')")


SAID = "document.querySelector('#said')"


@pytest.mark.parametrize(("size", "theme"), [(LAPTOP, "light"), (PHONE, "dark")], ids=["laptop", "phone"])
def test_the_button_is_in_sight_and_images_come_first(visit, size, theme):
    watched = visit(viewport=size, color_scheme=theme)
    page = watched.page
    for name in ("prompt", "generate", "stop"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size["height"]
        assert box["x"] + box["width"] <= size["width"]
    pair, controls = (page.locator(f"#{name}").bounding_box() for name in ("pair", "controls"))
    assert page.locator("#prompt").bounding_box()["y"] < pair["y"] < size["height"]
    assert controls["y"] > pair["y"] or controls["x"] > pair["x"]
    assert watched.fits()
    page.locator("#prompt textarea").fill("a 3d wombat on a blue background")
    generate(page)
    assert "wombat" in page.locator("#said .note").inner_text()
    page.locator("#spectra .main-svg").first.wait_for()
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('#spectra text')).fill, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('#spectra .main-svg')).backgroundColor]"
    )
    assert colours[0] == colours[1]
    assert colours[2] == "rgba(0, 0, 0, 0)"
    page.wait_for_timeout(500)
    assert watched.fits()
    watched.screenshot(f"studio-{size['width']}-{theme}")
    assert not page.locator("[aria-label*='hare' i], [title*='hare' i]").count()


def test_sliders_settings_and_downloads(visit, tmp_path):
    watched = visit()
    page = watched.page
    page.locator("#prompt textarea").fill("a flat cat on a green background")
    fill(page, "b1", 1.4)
    page.wait_for_function("document.querySelector('#preset input').value === 'custom'")
    generate(page)
    assert "b1=1.4" in page.locator("#said code").inner_text()
    assert "2 of 2 images" in page.locator("#said").inner_text()
    page.locator("#pair img").first.wait_for()
    # Another factor, by dragging its slider: the image follows, and the one without FreeU is remembered.
    page.locator("#live").get_by_text("always").click()
    slider = page.locator("#b1 input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    # A slider's thumb does not reach its very edges; 1.4 of 2 is near 0.7 of its length.
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.7 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.85 * box["width"], y, steps=5)
    page.mouse.up()
    page.get_by_text("1 of 2 images").wait_for()
    dragged = float(page.locator("#b1 input[type=number]").input_value())
    assert 1.6 < dragged < 1.9
    assert f"b1={dragged:g}" in page.locator("#said code").inner_text()
    # A preset sets the sliders and generates, too; Enter in the prompt is the button.
    page.locator("#preset input").click()
    page.get_by_role("option", name="sd15", exact=True).click()
    page.locator("#said code", has_text="b1=1.5 b2=1.6").wait_for()
    page.locator("#prompt textarea").fill("a flat dog on a green background")
    page.locator("#prompt textarea").press("Enter")
    page.get_by_text("2 of 2 images").wait_for()
    page.locator("#copy button").first.click()
    page.wait_for_function("document.querySelector('#python')?.innerText.includes('freeu.enabled')")
    with page.expect_download() as download:
        page.locator("#save_on").click()
    download.value.save_as(tmp_path / "on.png")
    inside = read_png(tmp_path / "on.png")
    assert (inside["prompt"], inside["arm"], inside["steps"]) == ("a flat dog on a green background", "freeu", 2)
    assert inside["config"]["b"] == [1.5, 1.6]
    with page.expect_download() as download:
        page.locator("#save_off").click()
    download.value.save_as(tmp_path / "off.png")
    assert read_png(tmp_path / "off.png")["config"] is None
    watched.screenshot("studio-settings")


def test_an_error_is_one_line_in_one_place(visit, tmp_path):
    watched = visit()
    page = watched.page
    for name, value, text in (
        ("seed", "-5", "the seed must be 0 to"),
        ("width", "100", "must be a multiple of 8"),
        ("prompt", "  ", "the prompt is empty"),
    ):
        fill(page, name, value)
        page.locator("#generate").click()
        page.locator("#error p[role=alert]", has_text=text).wait_for()
        assert page.get_by_text(text).count() == 1
        fill(page, name, {"seed": 0, "width": 128, "prompt": "a 3d fox on a blue background"}[name])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page.locator("#group_start button").first.click()
    page.locator("#image input[type=file]").set_input_files(tmp_path / "broken.png")
    page.locator("#error p[role=alert]", has_text="cannot read broken.png: it ends early").wait_for()
    page.locator("#image").get_by_label("Remove Image").click()
    page.wait_for_function("!document.querySelector('#error p')")
    assert not page.locator(".error:visible, .toast-body:visible").count()
    watched.screenshot("studio-error")
    generate(page)
    assert not page.locator("#error p").count()


def test_seeds_batches_and_the_gallery(visit):
    watched = visit()
    page = watched.page
    page.locator("#dice").click()
    page.wait_for_function("document.querySelector('#seed textarea, #seed input').value === '-1'")
    fill(page, "batch", 2)
    generate(page)
    page.locator("#gallery img").nth(1).wait_for()
    last = int(page.locator("#said b").inner_text())
    page.locator("#reuse").click()
    page.wait_for_function(f"document.querySelector('#seed textarea, #seed input').value === '{last}'")
    fill(page, "batch", 1)
    page.locator("#generate").click()
    page.get_by_text("both images were there").wait_for()
    assert page.locator("#gallery img").count() == 2
    # An older image brings its settings back.
    page.locator("#live").get_by_text("never").click()
    fill(page, "b1", 1.1)
    page.locator("#prompt textarea").fill("something else")
    page.locator("#gallery button:has(img)").nth(1).click()
    page.get_by_text("settings restored").wait_for()
    assert page.locator("#said b").inner_text() == str(last - 1)
    page.wait_for_function(f"document.querySelector('#seed textarea, #seed input').value === '{last - 1}'")
    assert page.locator("#prompt textarea").input_value() == "a 3d fox on a blue background"
    assert page.locator("#b1 input[type=number]").input_value() == "1.3"
    # The browser keeps the prompts.
    page.reload(wait_until="domcontentloaded")
    page.locator("#history input").click()
    page.get_by_role("option", name="a 3d fox on a blue background").click()
    watched.screenshot("studio-gallery")


def test_stop_and_two_visitors(visit):
    first, second = visit().page, visit(viewport=PHONE).page
    fill(first, "steps", 150)
    first.locator("#generate").click()
    first.locator("#pair .progress-text, #pair .progress-level").first.wait_for()
    # Progress is shown on the image that is being made, and nowhere else.
    assert not first.locator(".progress-text:visible").locator("xpath=ancestor::*[@id='gallery']").count()
    fill(second, "steps", 2)
    second.locator("#generate").click()
    second.get_by_text(re.compile("queue: 1/1")).wait_for()
    first.locator("#stop").click()
    first.get_by_text("Stopped.").wait_for()
    second.locator("#said code").wait_for()
    assert not first.locator("#said code").count()


def test_images_of_a_visitor_a_controlnet_and_a_lora(visit, tmp_path):
    import freeu_zoo
    from diffusers import UNet2DConditionModel

    picture = Image.new("RGB", (256, 128), "white")
    picture.paste("red", (60, 20, 190, 110))
    picture.save(tmp_path / "square.png")
    config = UNet2DConditionModel.load_config(freeu_zoo.model_path(), subfolder="unet")
    state = made.lora_state(SimpleNamespace(unet=UNet2DConditionModel.from_config(config)), seed=1, text=())
    made.save_kohya({name: 0.2 * tensor for name, tensor in state.items()}, tmp_path / "style.safetensors")
    watched = visit()
    page = watched.page
    for group in ("group_start", "group_control", "group_lora"):
        page.locator(f"#{group} button").first.click()
    page.locator("#image input[type=file]").set_input_files(tmp_path / "square.png")
    page.wait_for_function("document.querySelector('#width input').value === '184'")
    page.locator("#control input").click()
    page.get_by_role("option", name="mini-canny").click()
    page.locator("#generate").click()
    page.locator("#error p[role=alert]", has_text="needs a control image").wait_for()
    page.locator("#control_image input[type=file]").set_input_files(tmp_path / "square.png")
    page.locator("#lora input[type=file]").set_input_files(tmp_path / "style.safetensors")
    page.locator("#control_image img").wait_for()
    page.locator("#lora").get_by_text("style").first.wait_for()
    fill(page, "lora_weight", 0.5)
    generate(page, 3)
    page.locator("#copy button").first.click()
    page.wait_for_function(
        "document.querySelector('#command textarea')?.value.includes('--lora style.safetensors:0.5')"
    )
    command = page.locator("#command textarea").input_value()
    assert "--image square.png --denoising-strength 0.6" in command
    assert "--controlnet mini-canny --control-image square.png" in command
    watched.screenshot("studio-inputs")
    page.locator("#gallery button:has(img)").first.click()
    page.get_by_text("settings restored").wait_for()
    assert page.locator("#control input").input_value() == "mini-canny"


def test_chinese(visit):
    watched = visit(locale="zh-CN", viewport=PHONE)
    page = watched.page
    page.get_by_role("button", name="生成", exact=True).wait_for()
    assert "提示词" in page.locator("#prompt").inner_text()
    assert page.locator("#preset input").input_value() == "推荐"
    generate(page)
    assert "种子" in page.locator("#said").inner_text()
    assert watched.fits()
    page.get_by_text("English").click()
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    assert page.locator("#preset input").input_value() == "recommended"
    page.reload(wait_until="domcontentloaded")
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    page.wait_for_timeout(1_000)
    assert "Prompt" in page.locator("#prompt").inner_text()


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
    host, _, port = studio.removeprefix("http://").partition(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status >= 400
    assert b"root:" not in body
    assert b"[project]" not in body
