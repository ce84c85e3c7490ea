"""Seeds, prompts, metadata, plan, manifest and grid: the parts that need no model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.metadata import png_bytes, read_png
from freeu.pipelines.io.inputs import format_seeds, parse_seeds
from freeu.pipelines.io.prompts import PAPER_PROMPTS, collect_prompts, unknown_words
from freeu.pipelines.pages import grid as grids
from freeu.pipelines.pages import lettering
from freeu.pipelines.pages import page as pages
from freeu.pipelines.pages.page import first_zoom, zooms
from freeu.pipelines.runs.manifest import ImageRecord, Manifest, environment_differences, read_manifest
from freeu.pipelines.runs.plan import ModelReference, Plan


def make_plan(**changes: Any) -> Plan:
    model = ModelReference("embedded", "mini-sd", "mini-sd", "StableDiffusionPipeline", "sha256:0")
    fields: dict[str, Any] = {
        "command": "compare",
        "prompts": ("a fox",),
        "negative_prompt": "",
        "seeds": (0, 1, 2, 7),
        "arms": ("baseline", "freeu"),
        "config": FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2), sites={"up_blocks.0.resnets.0": (1.1, 0.5)}),
        "model": model,
        "task": "text",
        "steps": 20,
        "guidance": 4.0,
        "scheduler": None,
        "width": 16,
        "height": 24,
        "image_sha": None,
        "mask_sha": None,
        "image_strength": None,
        "dtype": "float32",
        "device": "cpu",
        "threads": 2,
    }
    return Plan(**fields | changes)


@pytest.mark.parametrize(
    ("text", "seeds"), [("1", (1,)), ("0,3,5", (0, 3, 5)), ("0-3", (0, 1, 2, 3)), ("5, 0-2,1", (5, 0, 1, 2))]
)
def test_seeds_come_back_from_their_text(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds
    assert parse_seeds(format_seeds(seeds)) == seeds


@pytest.mark.parametrize("text", ["", "1,", "a", "1.5", "-1", "0-", "5-4", "0--3", str(2**64), "0-10000"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(FreeUValueError):
        parse_seeds(text)


def test_prompts_come_from_arguments_files_and_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# animals\n a fox \n\n狐狸\r\n".encode())
    assert collect_prompts(["first"], str(path)) == ("first", "a fox", "狐狸")
    assert collect_prompts([], "paper") == PAPER_PROMPTS
    assert len(set(PAPER_PROMPTS)) == len(PAPER_PROMPTS) >= 20


def test_words_that_the_embedded_model_cannot_draw() -> None:
    world = {"nouns": ["fox", "fire engine"], "styles": ["3d", "flat"], "colours": ["blue"]}
    assert unknown_words("A 3D fire engine, on a blue background", world) == []
    assert unknown_words("a fox rides Bob's horse and horse", world) == ["rides", "bob's", "horse"]
    assert unknown_words("two foxes on a horse", world | {"words": ["two", "foxes"]}) == ["horse"]


def test_settings_in_a_png_are_lossless(tmp_path: Path) -> None:
    settings = {
        "prompt": 'quote " tab \t 狐狸 \U0001f98a \x00 end',
        "b": 1.3000000000000003,
        "none": None,
        "list": [1, [2]],
    }
    image = Image.effect_noise((5, 3), 50).convert("RGB")
    path = tmp_path / "picture.png"
    path.write_bytes(png_bytes(image, settings))
    assert read_png(path) == {"schema": 1, **settings}
    with Image.open(path) as again:
        assert again.tobytes() == image.tobytes()


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": {1, 2}}])
def test_settings_that_json_cannot_hold_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(FreeUValueError, match="cannot be stored as JSON"):
        png_bytes(Image.new("RGB", (1, 1)), bad)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no settings"),
        ("__import__('os').mkdir('ran')", "is not JSON"),
        ("[1]", "not of schema 1"),
        ('{"schema": 2}', "a newer freeu may read them"),
        ('{"schema": 1, "x": "' + "y" * 1_000_001 + '"}', "more than 1000000 characters"),
    ],
)
def test_other_text_in_a_png_is_refused_and_never_run(text: str | None, words: str, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt("freeu", text)
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(FreeUValueError, match=words):
        read_png(tmp_path / "x.png")


def test_files_that_are_no_png_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FreeUValueError, match="cannot read"):
        read_png(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(FreeUValueError, match="is not an image"):
        read_png(tmp_path / "text.png")
    whole = png_bytes(Image.effect_noise((64, 64), 50), {})
    (tmp_path / "part.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FreeUValueError, match="cannot read"):
        read_png(tmp_path / "part.png")


def test_a_plan_comes_back_from_json() -> None:
    for plan in (
        make_plan(),
        make_plan(command="generate", arms=("baseline",), config=None),
        make_plan(task="inpaint", image_sha="1", mask_sha="2", image_strength=0.5, scheduler="ddim"),
    ):
        assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command", "rm"),
        ("prompts", []),
        ("prompts", [1]),
        ("prompts", "abc"),
        ("seeds", [-1]),
        ("seeds", [1.5]),
        ("arms", ["left"]),
        ("steps", True),
        ("guidance", "4"),
        ("width", 10**9),
        ("threads", 0),
        ("config", {"b": [99, 1]}),
        ("model", {"kind": "embedded"}),
        ("device", None),
        ("extra", 1),
    ],
)
def test_a_damaged_manifest_names_the_field(name: str, value: object, tmp_path: Path) -> None:
    data = json.loads(Manifest(make_plan(), {"torch": "2"}).to_json())
    data["plan"][name] = value
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(FreeUValueError, match=rf"is damaged: .*{'b1' if name == 'config' else name}"):
        read_manifest(tmp_path)


def test_a_manifest_with_foreign_pictures_is_refused(tmp_path: Path) -> None:
    manifest = Manifest(make_plan(), {"torch": "2"})
    data = json.loads(manifest.to_json())
    record = {
        "file": "../../x.png",
        "prompt": "",
        "seed": 0,
        "arm": "freeu",
        "sha256": "0",
        "seconds": 1,
        "flagged": False,
    }
    for pictures, words in (([record], "not in its plan"), ([{}], "must have the fields"), ({}, "must be a list")):
        (tmp_path / "manifest.json").write_text(json.dumps({**data, "pictures": pictures}))
        with pytest.raises(FreeUValueError, match=words):
            read_manifest(tmp_path)


def test_the_command_line_of_a_plan_names_everything() -> None:
    text = make_plan(negative_prompt="blurred", scheduler="ddim").command_line()
    assert text.startswith(
        "freeu compare 'a fox' --seeds 0-2,7 --model mini-sd --config 'b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 "
    )
    assert "--steps 20 --guidance-scale 4 --negative-prompt blurred --scheduler ddim --width 16 --height 24" in text


def test_differences_are_told_by_name() -> None:
    assert make_plan().differences(make_plan()) == []
    assert make_plan().differences(make_plan(steps=5)) == ["steps: 20, 5"]
    found = environment_differences({"torch": "2.4", "cpu": "AVX2"}, {"torch": "2.13"})
    assert found == ["torch 2.4 then, 2.13 now", "cpu AVX2 then, none now"]


def _folder(tmp_path: Path, plan: Plan) -> Manifest:
    """A folder with a plain image for each of a plan."""
    manifest = Manifest(plan, {})
    for picture in plan.images():
        shade = (200, 60, 40) if picture.arm == "freeu" else (40, 60, 200)
        Image.new("RGB", (plan.width, plan.height), shade).save(tmp_path / picture.file)
        manifest.images[picture.file] = ImageRecord(picture.file, picture.prompt, picture.seed, picture.arm, "", 0.0)
    return manifest


@pytest.mark.parametrize(("side", "shown"), [(16, 256), (128, 256), (200, 400), (512, 512), (1024, 512)])
def test_grid_pictures_have_a_size_that_can_be_seen(side: int, shown: int, tmp_path: Path) -> None:
    plan = make_plan(width=side, height=side, seeds=(0,))
    sheet = grids.make_grid(tmp_path, _folder(tmp_path, plan), "title")
    assert sheet.width == max(480, 2 * shown + grids.GAP + 2 * grids.MARGIN)
    colours = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    assert colours[200, 60, 40] == colours[40, 60, 200] == shown * shown


def test_a_grid_of_many_pictures_stays_small_and_odd_prompts_fit(tmp_path: Path) -> None:
    long = "a very long prompt " * 60
    plan = make_plan(prompts=(long, "狐狸", "x" * 500), seeds=tuple(range(60)), width=256, height=256)
    sheet = grids.make_grid(tmp_path, _folder(tmp_path, plan), long)
    assert sheet.width * sheet.height < 1.5 * lettering.MAX_PIXELS


def test_a_page_of_many_bytes_holds_compressed_pictures_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _folder(tmp_path, make_plan())
    exact = pages.make_page(tmp_path, manifest)
    assert "data:image/png" in exact
    assert "are the files" in exact
    monkeypatch.setattr(pages, "MAX_EXACT", 10)
    small = pages.make_page(tmp_path, manifest)
    assert "data:image/png" not in small
    assert small.count('src="data:image/webp;base64,') == manifest.plan.count
    assert "are compressed (WebP, quality 92)" in small


def test_a_picture_of_the_safety_checker_is_marked(tmp_path: Path) -> None:
    manifest = _folder(tmp_path, make_plan())
    assert "blacked out" not in pages.make_page(tmp_path, manifest)
    name, record = manifest.images.popitem()
    manifest.images[name] = replace(record, flagged=True)
    assert pages.make_page(tmp_path, manifest).count("blacked out by the model") == 1


def test_zoom_steps_suit_the_size() -> None:
    assert (first_zoom(128, 128), first_zoom(512, 512), first_zoom(1024, 1024)) == (3, 1, 0.5)
    assert zooms(3) == [1, 3, 6, 12]
    assert zooms(0.5) == [0.5, 1.0, 2.0]
