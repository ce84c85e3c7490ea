"""What the page does with its values, without a web framework and without a model."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import freeu
from freeu.errors import FreeUValueError

pytest.importorskip("matplotlib")

from freeu.ui import actions
from freeu.ui.actions import OF_PRESETS, OWN, Running, Shown
from freeu.ui.texts import LANGUAGES, TEXTS, preferred, say

CONFIG = freeu.preset("sd14")
FORM = {
    **dict(zip(OF_PRESETS, actions.slider_values(CONFIG), strict=True)),
    "start": 0.0,
    "end": 1.0,
    "strength": 1.0,
    "b_start": 0.0,
    "b_end": 1.0,
    "s_start": 0.0,
    "s_end": 1.0,
    "model": "m",
    "prompt": "p",
    "negative_prompt": "",
    "seed": "5",
    "steps": 20,
    "guidance": 3,
    "width": 128,
    "height": 64,
    "batch": 1,
    "scheduler": OWN,
    "image": None,
    "denoising": 0.6,
    "control": "none",
    "control_image": None,
    "preprocessor": "canny",
    "control_weight": 1.0,
    "lora": None,
    "lora_weight": 1.0,
    "live": "auto",
}


def shown(seed="5", config=CONFIG):
    plan = SimpleNamespace(prompts=("p",), seeds=(int(seed),), config=config)
    return Shown({**FORM, "seed": seed}, plan, ("off.png", "on.png"), 1.0, 0, (), {}, None)


def test_values_of_the_page():
    asked = actions.request_from(FORM)
    assert asked.config == CONFIG
    assert (asked.seed, asked.scheduler, asked.control, asked.image) == (5, None, None, None)
    assert (asked.width, asked.height) == (128, 64)
    assert len(actions.config_from(FORM | {"b3": 1.1}).stages) == 3
    own = actions.config_from(FORM | {"gain_lowest": 0.5, "dc": "keep", "b_end": 0.5})
    assert own == CONFIG.replace(skip_gain_ends=(0.5, 1.0), dc="keep", b_window=(0.0, 0.5))
    for name, preset in freeu.presets().items():
        values = dict(zip(OF_PRESETS, actions.slider_values(preset.config), strict=True))
        assert actions.config_from(FORM | values) == preset.config, name
    files = actions.request_from(FORM | {"image": {"path": "/cache/a.png"}, "lora": "/cache/b.safetensors"})
    assert (files.image.name, files.lora.name) == ("a.png", "b.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b1": 99}, "b"),
        ({"b1": "x"}, "b1 must be a number"),
        ({"profile": "mine"}, "profile"),
        ({"seed": "-5"}, r"seed must be 0 to 18446744073709551615, or -1 for a random one, got '-5'"),
        ({"seed": "1.5"}, "seed must be"),
        ({"seed": str(2**64)}, "seed must be"),
        ({"seed": None}, "seed must be"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": float("inf")}, "steps must be a whole number"),
        ({"width": None}, "width must be a number"),
        ({"batch": 17}, "batch size must lie in 1 to 16"),
    ],
)
def test_values_that_cannot_be_used(change, message):
    with pytest.raises(FreeUValueError, match=message):
        actions.requests_from(FORM | change)


def test_a_batch_has_seeds_that_follow_each_other():
    found = actions.requests_from(FORM | {"batch": 3, "seed": "7"})
    assert [asked.seed for _, asked in found] == [7, 8, 9]
    assert [(form["seed"], form["batch"]) for form, _ in found] == [("7", 1), ("8", 1), ("9", 1)]
    assert actions.parse_seed(str(2**64 - 1)) == 2**64 - 1


def test_random_seeds_are_drawn_and_kept():
    drawn = {actions.requests_from(FORM | {"seed": "-1"})[0][1].seed for _ in range(8)}
    assert len(drawn) > 1
    ((form, asked),) = actions.requests_from(FORM | {"seed": " -1 "})
    assert form["seed"] == str(asked.seed)


def test_an_image_is_in_the_gallery_once():
    first, second = shown("1"), shown("2")
    gallery = actions.entered(actions.entered([], first), second)
    assert [one.form["seed"] for one in gallery] == ["2", "1"]
    again = actions.entered(gallery, replace(first, remembered=2))
    assert [one.form["seed"] for one in again] == ["1", "2"]
    for seed in range(40):
        gallery = actions.entered(gallery, shown(str(seed)))
    assert len(gallery) == actions.GALLERY


def test_history_of_prompts():
    history = actions.remembered_prompts(["b", "a", 5, None], " a ")
    assert history == ["a", "b"]
    for number in range(30):
        history = actions.remembered_prompts(history, str(number))
    assert len(history) == actions.HISTORY
    assert history[0] == "29"
    assert actions.remembered_prompts(None, "a") == ["a"]


def test_when_a_released_slider_generates():
    gallery = [shown("41")]
    assert actions.live(FORM, [], 1.0) is None
    assert actions.live(FORM, gallery, 3.5) is None
    assert actions.live(FORM, gallery, None) is None
    assert actions.live(FORM | {"live": "never"}, gallery, 1.0) is None
    assert actions.live(FORM | {"live": "always"}, gallery, 60.0)["seed"] == "5"
    assert actions.live(FORM | {"seed": "-1", "batch": 4}, gallery, 1.0) == FORM | {"seed": "41", "batch": 1}


def test_a_visitor_stops_his_own_run():
    running = Running()
    first, other = running.begin("a"), running.begin("b")
    running.stop("a")
    assert first.is_set()
    assert not other.is_set()
    second = running.begin("a")
    assert not second.is_set()
    running.stop("nobody")


def test_errors_are_one_line_in_words_of_the_page():
    text = "--denoising-strength 0.01 leaves\nnone of 20 steps to do: raise --steps"
    told = actions.one_line(FreeUValueError(text))
    assert told == "denoising strength 0.01 leaves none of 20 steps to do: raise steps"
    error = FreeUValueError("cannot read the image /tmp/gradio/0a1b/fox.png: it ends early")
    assert actions.one_line(error, Path("/tmp/gradio")) == "cannot read the image fox.png: it ends early"


def test_texts_are_whole():
    import string

    for key, (english, chinese) in TEXTS.items():
        assert english, key
        assert chinese, key
        fields = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, chinese)]
        assert fields[0] == fields[1], key
    assert say("generate", "zh") == "生成"
    assert say("generate", "fr") == "Generate"
    assert set(LANGUAGES) == {"en", "zh"}


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("de,zh-TW;q=0.7,en;q=0.3", "zh"),
        ("de", "en"),
        ("", "en"),
        ("zh;q=x, ;;", "en"),
    ],
)
def test_the_language_of_a_browser(header, language):
    assert preferred(header) == language
