"""``--region``: read, fitted, recorded, shown, reproduced, and refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from freeu.errors import FreeUValueError
from freeu.metadata import read_png
from freeu.pipelines.io.inputs import fit_region, open_region, pixel_sha
from freeu.pipelines.options.like import read_image_settings
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.runs.plan import INPUT_REGION

FACTORS = ("--b", "1.6,1.8", "--s", "0.5,0.2")
SHORT = ("--steps", "2", "--threads", "1", *FACTORS)


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the masks of these tests, 64 pixels wide."""
    folder = tmp_path_factory.mktemp("masks")
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 255
    alpha = np.dstack([np.full((64, 64, 3), 200, np.uint8), left])
    for name, pixels in {
        "left": left,
        "right": 255 - left,
        "black": 0 * left,
        "white": np.full_like(left, 255),
        "dim": left // 4,
        "ones": left // 255,
        "alpha": alpha,
        "wide": np.concatenate([left, left], axis=1),
    }.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def run(sd_dir: Path, masks: Path, tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any]) -> Any:
    """One comparison with a region, in a folder."""
    folder = tmp_path_factory.mktemp("runs") / "regional"
    options = ("--region", masks / "left.png", "--model", sd_dir, *SHORT, "--output", folder)
    return folder, cli("compare", "a fox", *options)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_region_is_recorded_and_shown(run, masks):
    folder, outcome = run
    assert (outcome.code, outcome.err) == (0, "")
    assert "FreeU acts in the region alone" in outcome.out
    plan = read_manifest(folder).plan
    kept = Image.open(folder / INPUT_REGION)
    assert (kept.mode, kept.size) == ("L", (plan.width, plan.height))
    assert plan.region_sha == pixel_sha(kept)
    assert f"--region {INPUT_REGION}" in plan.command_line()
    page = (folder / "compare.html").read_text()
    assert 'alt="The region"' in page
    assert 'id="where"' in page
    assert f"PIL.Image.open(&#34;{INPUT_REGION}&#34;)" in page


def test_it_changes_what_is_made_and_reproduces_to_the_bit(run, sd_dir, masks, cli, tmp_path):
    folder, _ = run
    whole = tmp_path / "whole"
    assert cli("generate", "a fox", "--model", sd_dir, *SHORT, "--output", whole).code == 0
    plain, regional = (pixels(folder / f"p000-s0000-{arm}.png") for arm in ("baseline", "freeu"))
    everywhere = pixels(whole / "p000-s0000-freeu.png")
    assert not np.array_equal(regional, plain)
    assert not np.array_equal(regional, everywhere)
    again = cli("generate", "--from", folder / "manifest.json", "--output", tmp_path / "again")
    assert again.code == 0
    assert "2 of 2 images are bit-identical" in again.out
    assert (tmp_path / "again" / INPUT_REGION).read_bytes() == (folder / INPUT_REGION).read_bytes()
    white = cli("generate", "a fox", "--model", sd_dir, *SHORT, "--region", masks / "white.png", "--output", "w")
    assert "the region white.png is white everywhere: FreeU acts as without it" in white.err
    assert np.array_equal(pixels(Path("w/p000-s0000-freeu.png")), everywhere)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_from_needs_the_mask_that_was_used(run, cli, tmp_path):
    folder, _ = run
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(copied / INPUT_REGION)
    other = cli("generate", "--from", copied, "--output", tmp_path / "out")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "is not the image that the manifest names" in other.err
    (copied / INPUT_REGION).unlink()
    gone = cli("generate", "--from", copied, "--output", tmp_path / "out")
    assert (gone.code, gone.err.count("\n")) == (2, 1)
    assert f"it was generated from a region too: put {INPUT_REGION} of its folder beside it" in gone.err
    assert not (tmp_path / "out").exists()


def test_the_image_says_that_there_was_a_region(run, cli, sd_dir, tmp_path):
    folder, _ = run
    sha = read_manifest(folder).plan.region_sha
    on, off = (folder / f"p000-s0000-{arm}.png" for arm in ("freeu", "baseline"))
    assert read_png(on)["region_sha256"] == sha
    assert "region_sha256" not in read_png(off)
    text = Image.open(on).text["parameters"]
    assert f"FreeU Region: {sha[:16]}" in text
    assert "FreeU Stages" not in text, "sd-webui-freeu would act on the whole image"
    assert "the region of FreeU (--region)" in read_image_settings(on).left
    foreign = tmp_path / "parameters-only.png"
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(foreign, pnginfo=info)
    assert f"FreeU Region {sha[:16]} (--region)" in read_image_settings(foreign).left


def test_a_png_alone_is_made_again_beside_its_mask(run, cli, sd_dir, tmp_path):
    folder, _ = run
    for name in ("p000-s0000-freeu.png", INPUT_REGION):
        shutil.copy(folder / name, tmp_path / name)
    again = cli("generate", "--from", "p000-s0000-freeu.png", "--model", sd_dir, "--output", tmp_path / "again")
    assert again.code == 0
    assert "1 of 1 image is bit-identical" in again.out


def test_a_sweep_keeps_the_region(run, cli, sd_dir, masks, tmp_path):
    options = ("--model", sd_dir, "--steps", "2", "--threads", "1", "--s", "0.5,0.2")
    folder = tmp_path / "sweep"
    outcome = cli(
        "sweep", "a fox", "--x", "b1=1.6", *options, "--b", "1.6,1.8", "--region", masks / "left.png", "-o", folder
    )
    assert outcome.code == 0, outcome.err
    assert (folder / INPUT_REGION).is_file()
    made = json.loads((folder / "manifest.json").read_text())
    (file,) = made["pictures"]
    assert np.array_equal(pixels(folder / file), pixels(run[0] / "p000-s0000-freeu.png"))


def test_videos_have_regions_too(cli, video_dir, masks, tmp_path):
    pytest.importorskip("av")
    words = ("video", "a fox", "--model", video_dir, *SHORT, "--frames", "3", "--region", masks / "left.png")
    assert cli(*words, "--output", "v").code == 0
    assert Path("v", INPUT_REGION).is_file()
    again = cli("video", "--from", "v", "--output", "again")
    assert "2 of 2 videos are bit-identical" in again.out
    assert "the region" not in cli("video", "--from", "v", "--dry-run").err


def test_a_dry_run_shows_it(cli, sd_dir, masks):
    words = ("compare", "a fox", "--model", sd_dir, "--region", masks / "left.png", "--dry-run")
    assert f"region: {masks / 'left.png'}, FreeU acts where it is white" in cli(*words).out
    assert json.loads(cli(*words, "--json").out)["region"] == str(masks / "left.png")


def test_masks_are_read_as_those_of_inpainting_and_grey_counts(masks):
    left, note = open_region(masks / "left.png")
    assert note == ""
    ones, note = open_region(masks / "ones.png")
    assert note == "the region ones.png has values 0 and 1: 1 is taken for white"
    alpha, note = open_region(masks / "alpha.png")
    assert note == "the region alpha.png has one colour on transparent ground: FreeU acts in its opaque parts"
    assert left.tobytes() == ones.tobytes() == alpha.tobytes()
    assert open_region(masks / "dim.png")[0].getextrema() == (0, 63)


def test_a_region_is_averaged_over_the_area_of_each_pixel(masks):
    left, _ = open_region(masks / "left.png")
    first, middle, last = np.asarray(fit_region(left, (3, 3), 8))[0].tolist()
    assert (first, last) == (255, 0)
    assert middle in (127, 128)
    larger = Image.new("L", (96, 64), 255)
    assert fit_region(larger, (104, 64), 8, like=Image.new("RGB", (96, 64))).size == (104, 64)
    with pytest.raises(FreeUValueError, match="got 96x64 for 64x64: crop it, or give another --width and --height"):
        fit_region(larger, (64, 64), 8)


def test_the_shape_of_the_region_is_that_of_the_images(cli, sd_dir, masks):
    outcome = cli("generate", "a fox", "--model", sd_dir, *SHORT, "--region", masks / "wide.png", "--output", "wide")
    assert outcome.code == 0, outcome.err
    height, width, _ = pixels(Path("wide/p000-s0000-freeu.png")).shape
    assert width > height


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--region", "black.png"), "black.png is black everywhere: paint white where FreeU should act"),
        (("--region", "missing.png"), "cannot read the image"),
        (("--region", "left.png", "--no-freeu"), "--region says where FreeU acts, and --no-freeu leaves it out"),
        (("--region", "wide.png", "--size", "16"), "the region must have the shape of what is generated, got 128x64"),
    ],
)
def test_what_does_not_fit_is_refused(cli, sd_dir, masks, words, line):
    words = [masks / word if str(word).endswith(".png") else word for word in words]
    factors = () if "--no-freeu" in words else FACTORS
    outcome = cli("generate", "a fox", "--model", sd_dir, "--steps", "2", *factors, *words, "--output", "out")
    assert outcome.code == 2
    assert line in outcome.err.splitlines()[-1]
    assert not Path("out").exists()


def test_no_other_tool_has_regions(cli, sd_dir, masks):
    words = ("convert", sd_dir, "--to", "comfyui", "--profile", "comfyui", "--b", "1.3,1.4", "--s", "0.9,0.2")
    assert cli(*words).code == 0
    outcome = cli(*words, "--region", masks / "left.png")
    assert outcome.code == 1
    assert "no other tool has regions: FreeU acts there on the whole image" in outcome.err
