"""Every stage of every shipped recipe, made tiny: what it leaves can be loaded by those who will use it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 (these imports need what is skipped for)
diffusers = pytest.importorskip("diffusers")

from freeu_zoo import recipe as recipes
from freeu_zoo import train
from freeu_zoo.reader import SceneReader
from freeu_zoo.training import unet, vae
from freeu_zoo.world import scenes
from safetensors import safe_open
from transformers import CLIPModel, CLIPTokenizer


@pytest.fixture(scope="module")
def models(smoke_run: Path) -> dict[str, Path]:
    return {path.name.removesuffix("-smoke"): path for path in (smoke_run / "models").iterdir()}


def test_every_recipe_leaves_a_model(models) -> None:
    assert set(models) == {path.stem for path in recipes.FOLDER.glob("*.toml")}


@pytest.mark.parametrize("name", ["mini-sd", "mini-modelscope", "mini-canny", "mini-lcm", "mini-lcm-unet"])
def test_a_model_has_its_card_and_samples(models, name) -> None:
    for part in ("samples.png", "README.md", "freeu-zoo.json"):
        assert (models[name] / part).exists()


def test_an_image_model_begins_with_a_directory(models, tmp_path) -> None:
    parent = models["mini-sd-24"]
    words = ("mini-sd", "--smoke", "--work", str(tmp_path), "--threads", "1", "--parent", str(parent))
    assert train.main([*words, "--stage", "text"]) == 0
    assert train.main([*words, "--stage", "unet", "--minutes", "0"]) == 0  # no step
    recipe = recipes.smoke(recipes.shipped("mini-sd"))
    begun, wanted = unet.averaged(recipe, tmp_path / recipe.name)[0]["unet"], unet.of_directory(parent)["unet"]
    for name, value in wanted.items():
        torch.testing.assert_close(begun[name], value, rtol=0, atol=0)
    assert train.main([*words]) == 0
    made = tmp_path / "models" / recipe.name
    assert vae.report(made / "vae")["minutes"] > vae.report(parent / "vae")["minutes"]  # its decoder, trained on
    assert train.main(["mini-canny", "--work", str(tmp_path), "--parent", str(parent)]) == 2


def test_image_video_and_control_models_load(models) -> None:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(models["mini-sd"])
    assert pipe.unet.config.block_out_channels == [16, 32, 64]
    clips = diffusers.TextToVideoSDPipeline.from_pretrained(models["mini-modelscope"])
    assert clips.unet.config.block_out_channels == [16, 32, 64]
    assert clips.unet.config.attention_head_dim == 4
    control = diffusers.ControlNetModel.from_pretrained(models["mini-canny"])
    assert control.config.block_out_channels == [16, 32, 64]


@pytest.mark.parametrize("name", ["mini-sd", "mini-modelscope"])
def test_text_encoders_name_weights_as_published_models_do(models, name) -> None:
    with safe_open(models[name] / "text_encoder" / "model.safetensors", "pt") as weights:
        assert all(key.startswith("text_model.") for key in weights.keys())  # noqa: SIM118 (no mapping)


def test_judge_and_reader_load(models) -> None:
    assert CLIPModel.from_pretrained(models["judge"]).config.projection_dim == 32
    assert CLIPTokenizer.from_pretrained(models["judge"]).model_max_length == 32
    scene = scenes.SceneMaker(recipes.shipped("reader").world).scene(0)
    (reading,) = SceneReader.load(models["reader"]).read([scenes.compose(scene)])
    assert reading.count in (1, 2, 3, 4)


def test_a_second_run_finds_everything_done_and_only_exports_again(smoke_run, tmp_path, capsys) -> None:
    for name in ("mini-sd-24-smoke", "mini-sd-smoke"):  # the second begins with the first's weights
        shutil.copytree(smoke_run / name, tmp_path / name)
    words = ("mini-sd", "--smoke", "--work", str(tmp_path), "--threads", "1")
    assert train.main([*words]) == 0
    said = capsys.readouterr().out
    assert "resumed at step 4" in said
    assert "vae done" not in said
