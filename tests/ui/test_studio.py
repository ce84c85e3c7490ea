"""What the studio generates, remembers and refuses, without a browser."""

from dataclasses import replace

import numpy as np
import pytest

import freeu
from freeu.errors import FreeUValueError

pytest.importorskip("freeu_zoo")

import made_add_ons as made
from PIL import Image
from safetensors.torch import save_file

import freeu.ui.models
from freeu.analysis import plotly_figure
from freeu.metadata import read_png
from freeu.pipelines.io.inputs import open_image
from freeu.pipelines.models.addons.add_ons import AddOns, find_embedding, find_lora
from freeu.pipelines.options.run import RunOptions
from freeu.ui.request import StudioRequest
from freeu.ui.studio import Studio, check_controls, check_models

CONFIG = freeu.preset("sd14")
LOADED = []


@pytest.fixture(scope="module")
def studio():
    """The embedded model and its ControlNet; every load of a model is counted in LOADED."""
    load = freeu.ui.models.load

    def counted(*args, **kwargs):
        LOADED.append(args)
        return load(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freeu.ui.models, "load", counted)
        sources = check_models([])
        yield Studio(sources, RunOptions(threads=1), controls=check_controls([], sources))


@pytest.fixture
def asked(studio):
    return StudioRequest(studio.models[0], "a 3d fox on a blue background", 0, 2, 3.0, CONFIG)


@pytest.fixture(scope="module")
def files(studio, tmp_path_factory):
    """An image and a LoRA of a visitor."""
    folder = tmp_path_factory.mktemp("files")
    picture = Image.new("RGB", (128, 128), "white")
    picture.paste("red", (30, 40, 90, 100))
    picture.save(folder / "square.png")
    state = made.lora_state(studio._models.loaded(studio.models[0]).pipe, seed=1, text=())
    made.save_kohya({name: 0.2 * tensor for name, tensor in state.items()}, folder / "style.safetensors")
    return folder


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def compared(asked, folder, *words):
    """What ``freeu compare`` makes of the same, without and with FreeU: the images, and what is inside the second."""
    from freeu.cli import main

    words = ["compare", asked.prompt, "--steps", "2", "--guidance-scale", "3", "--preset", "sd14", *words]
    assert main([*words, "--threads", "1", "--output", str(folder)]) == 0
    names = [folder / f"p000-s0000-{arm}.png" for arm in ("baseline", "freeu")]
    return *(open_image(name) for name in names), read_png(names[1])


def test_the_images_and_files_are_those_of_compare(studio, asked, tmp_path):
    pair = studio.pair(asked)
    off, on, inside = compared(asked, tmp_path / "out")
    assert same(pair.off, off)
    assert same(pair.on, on)
    (tmp_path / "download.png").write_bytes(pair.png("freeu"))
    assert read_png(tmp_path / "download.png") == inside
    (tmp_path / "download.png").write_bytes(pair.png("baseline"))
    assert read_png(tmp_path / "download.png")["config"] is None


def test_everything_that_is_added_is_that_of_compare_and_leaves_no_trace(studio, asked, files, tmp_path):
    before, loads = studio.pair(asked), len(LOADED)
    full = replace(
        asked,
        scheduler="euler",
        image=files / "square.png",
        denoising=0.7,
        control="mini-canny",
        control_image=files / "square.png",
        control_weight=0.8,
        lora=files / "style.safetensors",
        lora_weight=0.5,
    )
    pair = studio.pair(full)
    words = ["--scheduler", "euler", "--image", str(files / "square.png"), "--denoise", "0.7"]
    words += ["--controlnet", "canny", "--control-image", str(files / "square.png"), "--controlnet-weight", "0.8"]
    off, on, _ = compared(asked, tmp_path / "out", *words, "--lora", f"{files / 'style.safetensors'}:0.5")
    assert same(pair.off, off)
    assert same(pair.on, on)
    command = pair.texts()["command"]
    for part in ("--image square.png", "--control-image square.png", "--lora style.safetensors:0.5"):
        assert part in command
    assert "--preprocessor" not in command
    weaker = studio.pair(replace(full, lora_weight=0.1))
    assert weaker.remembered == 0
    assert not same(weaker.off, pair.off)
    studio._images.clear()
    again = studio.pair(asked)
    assert same(again.off, before.off)
    assert same(again.on, before.on)
    assert len(LOADED) == loads == 1


def test_a_stable_diffusion_xl(tmp_path, files):
    from tiny_pipelines import save_pipeline, tiny_text_encoder, tiny_tokenizer, tiny_unet

    unet = tiny_unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
    )
    second = tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16)
    place = save_pipeline(
        tmp_path / "xl", "StableDiffusionXLPipeline", unet=unet, text_encoder_2=second, tokenizer_2=tiny_tokenizer()
    )
    studio = Studio(check_models([str(place)]), RunOptions(threads=1))
    asked = StudioRequest("xl", "a fox", 0, 2, 3.0, CONFIG)
    plain = studio.pair(asked)
    words = ["--model", str(place), "--scheduler", "euler"]
    off, on, _ = compared(asked, tmp_path / "text", *words)
    pair = studio.pair(replace(asked, scheduler="euler"))
    assert same(pair.off, off)
    assert same(pair.on, on)
    _, on, _ = compared(asked, tmp_path / "image", *words, "--image", str(files / "square.png"))
    assert same(studio.pair(replace(asked, scheduler="euler", image=files / "square.png")).on, on)
    studio._images.clear()
    assert same(studio.pair(asked).on, plain.on)


def test_a_lora_that_does_not_fit_ends_nothing_else(studio, asked, files):
    state = {"unet.nowhere.lora_A.weight": np.zeros((4, 8)), "unet.nowhere.lora_B.weight": np.zeros((8, 4))}
    import torch

    save_file({name: torch.from_numpy(value).float() for name, value in state.items()}, files / "other.safetensors")
    with pytest.raises(FreeUValueError, match=r"other\.safetensors"):
        studio.pair(replace(asked, lora=files / "other.safetensors"))
    (files / "no.safetensors").write_text("no")
    with pytest.raises(FreeUValueError, match=r"no\.safetensors"):
        studio.pair(replace(asked, lora=files / "no.safetensors"))
    studio.pair(replace(asked, seed=7))


def test_loras_and_embeddings_of_the_studio(studio, asked, files, tmp_path):
    import torch

    width = studio._models.loaded(studio.models[0]).pipe.text_encoder.config.hidden_size
    save_file({"<R>": torch.randn(width)}, tmp_path / "word.safetensors")
    loras = (find_lora(files / "style.safetensors", 0.5),)
    added = AddOns(loras, (find_embedding(tmp_path / "word.safetensors"),))
    other = Studio(check_models([], added), RunOptions(threads=1), added)
    pair = other.pair(replace(asked, prompt="a 3d <R> on a blue background"))
    assert not same(pair.off, studio.pair(asked).off)
    texts = pair.texts()
    assert "--lora style.safetensors:0.5 --embedding 'word.safetensors:<R>'" in texts["command"]
    assert 'pipe.set_adapters(["lora_0"], [0.5])' in texts["python"]
    with pytest.raises(FreeUValueError, match="is given twice"):
        other.pair(replace(asked, lora=files / "style.safetensors"))
    save_file({"<R>": torch.randn(8)}, tmp_path / "word.safetensors")
    with pytest.raises(FreeUValueError, match="has the width 8"):
        check_models([], AddOns(embeddings=(find_embedding(tmp_path / "word.safetensors"),)))


def test_images_and_encoded_prompts_are_remembered(studio, asked):
    encoder, calls = studio._models.loaded(studio.models[0]).pipe.text_encoder, []
    hook = encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        fresh = replace(asked, prompt="a flat cat on a red background")
        first = studio.pair(fresh)
        assert len(calls) == 2  # the prompt and the empty one, once each
        again = studio.pair(fresh)
        assert again.remembered == 2
        assert again.on is first.on
        other = studio.pair(replace(fresh, config=CONFIG.replace(end=0.6)))
        assert other.remembered == 1
        assert other.off is first.off
        assert studio.pair(replace(fresh, seed=1)).remembered == 0
        assert len(calls) == 2
    finally:
        hook.remove()


def test_the_identity_is_one_image(studio, asked):
    pair = studio.pair(replace(asked, config=freeu.FreeUConfig()))
    assert pair.off is pair.on
    assert "identity" in pair.notes[0]


def test_what_a_visitor_should_know_is_told(studio, asked):
    # This profile has no third stage.
    nothing = freeu.FreeUConfig(b=(1.0, 1.0, 1.3), s=(1.0, 1.0, 1.0), profile="diffusers")
    notes = studio.pair(replace(asked, config=nothing, prompt="a 3d wombat on a blue background")).notes
    assert any("wombat" in note for note in notes)
    assert any("changes nothing on this" in note for note in notes)
    long = studio.pair(replace(asked, prompt="a 3d fox " * 20)).notes
    assert any("tokens" in note for note in long)
    with pytest.raises(FreeUValueError, match="act on no step"):
        studio.pair(replace(asked, config=CONFIG.replace(start=0.9)))


def test_what_progress_raises_ends_the_image(studio, asked):
    class EndError(Exception):
        pass

    def stop(what, done):
        if what == "baseline":
            raise EndError

    with pytest.raises(EndError):
        studio.pair(replace(asked, seed=99), stop)
    assert studio.pair(replace(asked, seed=99)).remembered == 0
    assert studio.pair_seconds(asked.model) > 0


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


def test_sizes(studio, asked, tmp_path):
    assert studio.pair(replace(asked, width=64, height=96)).on.size == (64, 96)
    Image.new("RGB", (300, 100)).save(tmp_path / "wide.png")
    width, height = studio.fitted(asked.model, tmp_path / "wide.png")
    assert width > height
    assert width % 8 == height % 8 == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "/etc/passwd"}, "no model '/etc/passwd' here"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": "a" * 2001}, "2001 letters"),
        ({"negative_prompt": "a" * 2001}, "negative prompt has 2001"),
        ({"seed": -5}, "seed must be 0 to 18446744073709551615, or -1"),
        ({"steps": 151}, "steps must lie in 1 to 150"),
        ({"guidance": float("nan")}, "CFG scale must lie in"),
        ({"scheduler": "../x"}, "no scheduler"),
        ({"width": 100}, "must be a multiple of 8"),
        ({"height": 100_000}, "height must lie in 8 to 2048"),
        ({"control": "../x", "control_image": "x"}, "no ControlNet '../x' here"),
        ({"control": "mini-canny"}, "needs a control image"),
        ({"denoising": 7.0}, "denoising strength must lie in"),
        ({"lora_weight": 11.0}, "LoRA weight must lie in"),
    ],
)
def test_what_cannot_be_is_refused(studio, asked, change, message):
    with pytest.raises(FreeUValueError, match=message):
        studio.pair(replace(asked, **change))


def test_models_of_one_name_are_refused():
    with pytest.raises(FreeUValueError, match="two models have one name"):
        Studio(check_models([]) * 2)
    with pytest.raises(FreeUValueError, match="no model 'nowhere'"):
        check_models(["nowhere"])
    with pytest.raises(FreeUValueError, match="no ControlNet 'nowhere'"):
        check_controls(["nowhere"], [])
