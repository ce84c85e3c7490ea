"""ScaleCrafter on the command line: used, recorded, reproduced, beside a ControlNet, in an evaluation, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from tiny_pipelines import save_pipeline, tiny_text_encoder, tiny_tokenizer, tiny_unet

from freeu.metadata import KEY
from freeu.pipelines.models.fitness import native_side
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.runs.plan import Plan
from freeu.scalecrafter import ScaleCrafter

SHORT = ("--steps", "2", "--threads", "1", "--width", "32", "--height", "24")
TWICE = ScaleCrafter(2.0, (2, 2), 0.6)


@pytest.fixture(scope="module")
def run(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one comparison with ScaleCrafter."""
    from command_line import run_cli

    folder = tmp_path_factory.mktemp("runs") / "scaled"
    words = ("a red fox", "--model", sd_dir, "--scalecrafter", *SHORT, "--output", folder)
    outcome = run_cli("compare", *words)
    assert outcome.code == 0, outcome.err
    assert "with ScaleCrafter 2x, levels 2,2, the first 60% of the steps" in outcome.out
    return folder


def test_it_is_recorded_shown_and_read_back(run):
    plan = read_manifest(run).plan
    assert plan.scalecrafter == TWICE
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert "--scalecrafter --scalecrafter-levels 2,2 --scalecrafter-end 0.6" in plan.command_line()
    page = (run / "compare.html").read_text()
    assert "ScaleCrafter" in page
    assert "--scalecrafter" in page
    with Image.open(run / "p000-s0000-freeu.png") as image:
        assert json.loads(image.text[KEY])["scalecrafter"] == TWICE.to_dict()
        assert image.size == (32, 24)


def test_a_run_without_says_nothing_of_it(compared):
    folder, _ = compared
    assert "scalecrafter" not in (folder / "manifest.json").read_text()


def test_it_acts_under_both_arms(run, cli, sd_dir, tmp_path):
    assert cli("compare", "a red fox", "--model", sd_dir, *SHORT, "--output", tmp_path / "plain").code == 0
    for file in ("p000-s0000-baseline.png", "p000-s0000-freeu.png"):
        assert (tmp_path / "plain" / file).read_bytes() != (run / file).read_bytes()
    shas = {one.sha256 for folder in (run, tmp_path / "plain") for one in read_manifest(folder).images.values()}
    assert len(shas) == 4


@pytest.mark.parametrize("source", ["manifest.json", "p000-s0000-freeu.png"])
def test_made_again_to_the_bit(source, run, cli, sd_dir, tmp_path):
    words = ("--from", run / source, "--model", sd_dir, "--threads", "1", "--output", tmp_path / "again")
    outcome = cli("generate", *words)
    assert outcome.code == 0, outcome.err
    assert f"{'2 images are' if source == 'manifest.json' else '1 image is'} bit-identical" in outcome.out


def test_options_go_before_what_is_published(cli, sd_dir, tmp_path):
    more = ("--scalecrafter-levels", "0,1", "--scalecrafter-end", "1", "--scalecrafter-guidance", "damped")
    words = ("a red fox", "--model", sd_dir, "--scalecrafter", *more, *SHORT, "--no-freeu", "--output", tmp_path / "x")
    assert cli("generate", *words).code == 0
    assert read_manifest(tmp_path / "x").plan.scalecrafter == ScaleCrafter(2.0, (0, 1), 1.0, "damped")


def test_beside_a_controlnet(cli, sd_dir, tmp_path):
    made = ControlNetModel.from_unet(
        load(find_model(str(sd_dir))).pipe.unet, conditioning_embedding_out_channels=(4, 6)
    )
    torch.nn.init.normal_(made.controlnet_mid_block.weight, std=0.3)  # what training begins with adds nothing
    made.save_pretrained(tmp_path / "edges")
    Image.new("RGB", (32, 24), "white").save(tmp_path / "edges.png")
    steered = ("--controlnet", tmp_path / "edges", "--control-image", tmp_path / "edges.png", "--preprocessor", "none")
    words = ("a red fox", "--model", sd_dir, *steered, *SHORT)
    assert cli("compare", *words, "--scalecrafter", "--output", tmp_path / "both").code == 0
    assert cli("compare", *words, "--output", tmp_path / "steered").code == 0
    both, alone = (read_manifest(tmp_path / name) for name in ("both", "steered"))
    assert both.plan.control == alone.plan.control
    assert {one.sha256 for one in both.images.values()}.isdisjoint(one.sha256 for one in alone.images.values())


def test_sdxl(cli, tmp_path):
    unet = tiny_unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64
    )
    second = tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16)
    unet.register_to_config(cross_attention_dim=32)
    unet = type(unet).from_config(unet.config)
    model = save_pipeline(
        tmp_path / "xl",
        "StableDiffusionXLPipeline",
        unet=unet,
        text_encoder_2=second,
        tokenizer_2=tiny_tokenizer(),
    )
    words = ("a red fox", "--model", model, "--scalecrafter", *SHORT[:4], "--width", "64", "--height", "64")
    outcome = cli("compare", *words, "--output", tmp_path / "x")
    assert outcome.code == 0, outcome.err
    assert read_manifest(tmp_path / "x").plan.scalecrafter == ScaleCrafter(4.0, (1, 3), 0.7, "damped")


def test_arms_of_an_evaluation(cli, sd_dir, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red fox\na blue car\n")
    arms = "none, scalecrafter, scalecrafter+sd14, scalecrafter+freeu, sd14"
    words = (sd_dir, "--prompts", tmp_path / "prompts.txt", "--judge", "none", "--seeds", "0", "--arms", arms, *SHORT)
    assert cli("evaluate", *words, "--output", tmp_path / "x").code == 0
    found = json.loads((tmp_path / "x" / "results.json").read_text())
    assert [arm.get("scalecrafter") for arm in found["arms"]] == [None, *[TWICE.to_dict()] * 3, None]
    assert found["equal_arms"] == {"scalecrafter+freeu": "scalecrafter+sd14"}
    assert read_manifest(tmp_path / "x" / "arm-2-scalecrafter-sd14").plan.scalecrafter == TWICE


# -- refused --------------------------------------------------------------------------------------------------------

SIZE = ("--width", "32")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--scalecrafter is for sizes above the model's own: give a --width and --height above it"),
        (("--width", "16", "--height", "16"), "tiny-sd was made for 16x16: got 16x16"),
        (("--height", "8"), "tiny-sd was made for 16x16: got 16x8"),
        (("--width", "128", "--height", "16"), "up to 4 times the model's own 16x16: got 128x16"),
        ((*SIZE, "--scalecrafter-levels", "2"), "--scalecrafter-levels must be two whole numbers of 0 to 8"),
        ((*SIZE, "--scalecrafter-levels", "a,b"), "--scalecrafter-levels must be two whole numbers such as 3,3"),
        ((*SIZE, "--scalecrafter-levels", "0,0"), "not both 0, got [0, 0]"),
        ((*SIZE, "--scalecrafter-end", "0"), "--scalecrafter-end must lie in 0.01 to 1, got 0"),
        ((*SIZE, "--scalecrafter-guidance", "dampd"), "did you mean damped"),
    ],
)
def test_before_the_model_is_loaded(words, message, cli, sd_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("freeu.pipelines.runs.prepare.load", _never)
    outcome = cli("compare", "a fox", "--model", sd_dir, "--scalecrafter", *words, "--output", tmp_path / "x")
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("option", [("--scalecrafter-end", "0.5"), ("--scalecrafter-guidance", "damped")])
def test_its_options_need_it(option, cli, sd_dir, tmp_path):
    outcome = cli("compare", "a fox", "--model", sd_dir, *SIZE, *option, "--output", tmp_path / "x")
    assert (outcome.code, outcome.err) == (2, f"freeu: {option[0]} needs ScaleCrafter: give --scalecrafter too\n")


def test_other_models(cli, sd_dir, video_dir, make_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("freeu.pipelines.runs.prepare.load", _never)
    for model, message in (
        (video_dir, "generates video"),
        (_renamed(make_pipeline), "not those of UNet2DOther"),
    ):
        outcome = cli("compare", "a fox", "--model", model, "--scalecrafter", *SIZE, "--output", tmp_path / "x")
        assert outcome.code == 2
        assert message in outcome.err


def test_more_levels_than_the_model_has(cli, sd_dir, tmp_path):
    words = ("--scalecrafter", "--scalecrafter-levels", "4,4", *SIZE, "--output", tmp_path / "x")
    outcome = cli("compare", "a fox", "--model", sd_dir, *words)
    assert outcome.code == 2
    assert "levels (4, 4): this UNet2DConditionModel has 3" in outcome.err


def test_an_image_that_leaves_no_step(cli, sd_dir, tmp_path):
    Image.new("RGB", (16, 16), "white").save(tmp_path / "white.png")
    image = ("--image", tmp_path / "white.png", "--denoising-strength", "0.3", "--steps", "10")
    words = ("--scalecrafter", *image, "--width", "32", "--height", "32", "--output", tmp_path / "x")
    outcome = cli("compare", "a fox", "--model", sd_dir, *words)
    assert outcome.code == 2
    assert "ScaleCrafter would act on no step: it ends at 0.6, and the first step begins at 0.7" in outcome.err


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("none, scalecrafter", "ScaleCrafter is for sizes above the model's own"),
        ("none, scalecrafter+none", "'none' is no part of another arm: parts are FreeU, guidance=W"),
        ("none, scalecrafter+scalecrafter", "has two parts of one kind, 'scalecrafter' and another"),
        ("none, scalecrafter+sd14, calibrated:scalecrafter+sd14", "guidance is calibrated without ScaleCrafter"),
        ("none, scalecrafter: b1=1.2 v=2", "scalecrafter is the name of something else"),
        ("none, scalecrafte", "did you mean scalecrafter"),
    ],
)
def test_arms_that_are_none(arms, message, cli, sd_dir, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red fox\n")
    words = (sd_dir, "--prompts", tmp_path / "prompts.txt", "--judge", "none", "--arms", arms)
    outcome = cli("evaluate", *words, "--output", tmp_path / "x")
    assert outcome.code == 2
    assert message in outcome.err


def test_a_damaged_manifest(run, cli, tmp_path):
    data = json.loads((run / "manifest.json").read_text())
    data["plan"]["scalecrafter"]["factor"] = 9.0
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    outcome = cli("generate", "--from", tmp_path / "manifest.json", "--output", tmp_path / "x")
    assert outcome.code == 2
    assert "factor must lie in 1 to 4, got 9" in outcome.err


def test_the_side_that_files_tell_is_that_of_the_loaded_model(sd_dir):
    for name in (str(sd_dir), "mini-sd"):
        source = find_model(name)
        assert native_side(source) == load(source).native


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("the model was loaded")


def _renamed(make_pipeline: Callable[..., Path]) -> Path:
    """A pipeline whose U-Net is of a class that nobody knows."""
    folder = make_pipeline("other", "StableDiffusionPipeline")
    index = folder / "unet" / "config.json"
    index.write_text(index.read_text().replace("UNet2DConditionModel", "UNet2DOther"))
    return folder
