"""What the studio generates, remembers and refuses, without a browser."""

from dataclasses import replace

import numpy as np
import pytest

import freeu
from freeu.errors import FreeUValueError, NoEffectWarning

pytest.importorskip("freeu_zoo")
pytest.importorskip("gradio")

from freeu.analysis import plotly_figure
from freeu.pipelines.models.addons.add_ons import AddOns
from freeu.pipelines.options.run import RunOptions
from freeu.ui.page import OF_PRESETS, OWN, request_from, slider_values
from freeu.ui.studio import Studio, StudioRequest, check_models

CONFIG = freeu.preset("sd14")


@pytest.fixture(scope="module")
def studio():
    return Studio(check_models([]), RunOptions(threads=1))


@pytest.fixture
def asked(studio):
    return StudioRequest(studio.models[0], "a 3d fox on a blue background", 0, 2, 3.0, CONFIG)


def test_the_pictures_are_those_of_compare(studio, asked, tmp_path):
    from PIL import Image

    from freeu.cli import main

    pair = studio.pair(asked)
    words = ["compare", asked.prompt, "--steps", "2", "--guidance-scale", "3", "--preset", "sd14", "--threads", "1"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    for arm, picture in (("baseline", pair.off), ("freeu", pair.on)):
        with Image.open(tmp_path / "out" / f"p000-s0000-{arm}.png") as other:
            assert np.array_equal(np.asarray(picture), np.asarray(other))


def test_loras_and_embeddings_of_the_studio(studio, asked, tmp_path):
    import made_add_ons as made
    import torch
    from safetensors.torch import save_file

    from freeu.pipelines.models.addons.add_ons import find_embedding, find_lora
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    pipe = load(find_model(None)).pipe
    state = made.lora_state(pipe, seed=1, text=())
    made.save_kohya({name: 0.2 * tensor for name, tensor in state.items()}, tmp_path / "style.safetensors")
    save_file({"<R>": torch.randn(pipe.text_encoder.config.hidden_size)}, tmp_path / "word.safetensors")
    added = AddOns((find_lora(tmp_path / "style.safetensors", 0.5),), (find_embedding(tmp_path / "word.safetensors"),))
    other = Studio(check_models([], added), RunOptions(threads=1), added)
    pair = other.pair(replace(asked, prompt="a 3d <R> on a blue background"))
    assert not np.array_equal(np.asarray(pair.off), np.asarray(studio.pair(asked).off))
    texts = pair.texts()
    assert "--lora style.safetensors:0.5 --embedding 'word.safetensors:<R>'" in texts["command"]
    assert 'pipe.set_adapters(["lora_0"], [0.5])' in texts["python"]
    save_file({"<R>": torch.randn(8)}, tmp_path / "word.safetensors")
    with pytest.raises(FreeUValueError, match="has the width 8"):
        check_models([], AddOns(embeddings=(find_embedding(tmp_path / "word.safetensors"),)))


def test_what_was_drawn_is_remembered(studio, asked):
    first = studio.pair(asked)
    again = studio.pair(asked)
    assert again.remembered == 2
    assert again.on is first.on
    other = studio.pair(replace(asked, config=CONFIG.replace(end=0.5)))
    assert other.remembered == 1
    assert other.off is first.off
    assert studio.pair(replace(asked, seed=1)).remembered == 0


def test_the_identity_is_one_picture(studio, asked):
    pair = studio.pair(replace(asked, config=freeu.FreeUConfig()))
    assert pair.off is pair.on


def test_settings_without_effect_are_told(studio, asked):
    # This profile has no third stage.
    nothing = freeu.FreeUConfig(b=(1.0, 1.0, 1.3), s=(1.0, 1.0, 1.0), profile="diffusers")
    with pytest.warns(NoEffectWarning):
        studio.pair(replace(asked, config=nothing))


def test_texts_lead_back(studio, asked):
    texts = studio.pair(asked).texts()
    assert freeu.FreeUConfig.from_json(texts["json"]) == CONFIG
    assert freeu.FreeUConfig.parse(texts["short"]) == CONFIG
    assert "freeu.FreeUConfig.parse" in texts["python"]
    assert texts["command"].startswith("freeu compare 'a 3d fox")


def test_spectra_of_both(studio, asked):
    panel = studio.pair(asked).spectra()
    off, on = panel.series
    assert off.y != on.y
    assert off.x == on.x
    assert len(plotly_figure(panel).data) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "/etc/passwd"}, "no model '/etc/passwd' here"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": "a" * 2001}, "2001 letters"),
        ({"negative_prompt": "a" * 2001}, "negative prompt has 2001"),
        ({"seed": -1}, "seed must lie in"),
        ({"steps": 151}, "steps must lie in 1 to 150"),
        ({"guidance": float("nan")}, "CFG scale must lie in"),
        ({"scheduler": "../x"}, "no scheduler"),
    ],
)
def test_what_cannot_be_is_refused(studio, asked, change, message):
    with pytest.raises(FreeUValueError, match=message):
        studio.pair(replace(asked, **change))


def test_values_of_the_page():
    given = {
        "b1": 1.3,
        "b2": 1.4,
        "b3": 1.0,
        "s1": 0.9,
        "s2": 0.2,
        "s3": 1.0,
        "version": 2,
        "profile": "official",
        "start": 0.0,
        "end": 1.0,
        "strength": 1.0,
        "dc": "scale",
        "gain_lowest": 1.0,
        "gain_highest": 1.0,
        "b_start": 0.0,
        "b_end": 1.0,
        "s_start": 0.0,
        "s_end": 1.0,
        "model": "m",
        "prompt": "p",
        "negative_prompt": "",
        "seed": 5,
        "steps": 20,
        "guidance": 3,
        "scheduler": OWN,
    }
    asked = request_from(given)
    assert asked.config == CONFIG
    assert (asked.seed, asked.scheduler) == (5, None)
    assert len(request_from(given | {"b3": 1.1}).config.stages) == 3
    own = request_from(given | {"gain_lowest": 0.5, "dc": "keep", "b_end": 0.5}).config
    assert own == CONFIG.replace(skip_gain_ends=(0.5, 1.0), dc="keep", b_window=(0.0, 0.5))
    for name, preset in freeu.presets().items():
        values = dict(zip(OF_PRESETS, slider_values(preset.config), strict=True))
        assert request_from(given | values).config == preset.config, name
    with pytest.raises(FreeUValueError, match="b"):
        request_from(given | {"b1": 99})
    with pytest.raises(FreeUValueError, match="profile"):
        request_from(given | {"profile": "mine"})


def test_models_of_one_name_are_refused():
    with pytest.raises(FreeUValueError, match="two models have one name"):
        Studio(check_models([]) * 2)
    with pytest.raises(FreeUValueError, match="no model 'nowhere'"):
        check_models(["nowhere"])
