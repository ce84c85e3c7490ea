"""A folder that is zipped and unpacked elsewhere: its pages need nothing else, its commands work there, to the bit."""

from __future__ import annotations

import html
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from original_layout import single_file_state
from PIL import Image
from tiny_pipelines import tiny_controlnet

from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.manifest import read_manifest

BASE = ("--steps", "3", "--threads", "1", "--seed", "3")


def picture(path: Path, size: tuple[int, int]) -> Path:
    Image.effect_noise(size, 80).convert("RGB").save(path)
    return path


def moved(folder: Path, to: Path) -> Path:
    """The folder, zipped and unpacked elsewhere; nothing is left where it was."""
    archive = shutil.make_archive(str(to / "sent"), "zip", folder)
    shutil.rmtree(folder)
    shutil.unpack_archive(archive, to / "unpacked")
    return to / "unpacked"


def command_on(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<pre id="text-command"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert found is not None
    return shlex.split(html.unescape(found[1]))


def shas(folder: Path) -> dict[str, str]:
    return {name: record.sha256 for name, record in read_manifest(folder).images.items()}


@pytest.fixture(params=["text", "image", "inpaint", "control"])
def run(request: Any, sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> tuple[Path, dict[str, str], list[str]]:
    """The folder of a comparison, its images, and the options that name networks elsewhere."""
    source = tmp_path / "source"
    source.mkdir()
    words: list[Any] = []
    networks = ["--model", str(sd_dir)]
    if request.param in ("image", "inpaint"):
        words = ["--image", picture(source / "in.png", (20, 20)), "--denoise", "0.7"]
    if request.param == "inpaint":
        mask = Image.new("L", (20, 20))
        mask.paste(255, (0, 0, 10, 20))
        mask.save(source / "mask.png")
        words += ["--mask", source / "mask.png"]
    if request.param == "control":
        tiny_controlnet(load(find_model(str(sd_dir))).pipe.unet).save_pretrained(source / "net")
        networks += ["--controlnet", str(source / "net")]
        words = ["--control-image", picture(source / "edges.png", (32, 24)), "--controlnet-weight", "0.5"]
    outcome = cli("compare", "a red fox", *networks, *words, *BASE, "--output", tmp_path / "made" / "out")
    assert outcome.code == 0, outcome.err
    made = shas(tmp_path / "made" / "out")
    for inputs in source.glob("*.png"):
        inputs.unlink()
    return moved(tmp_path / "made" / "out", tmp_path), made, networks


def test_an_unpacked_folder_reproduces(
    run: tuple[Path, dict[str, str], list[str]], cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made, networks = run
    monkeypatch.chdir(folder)
    outcome = cli("generate", "--from", "manifest.json", "--output", "../again")
    assert outcome.code == 0, outcome.err
    assert "2 of 2 images are bit-identical" in outcome.out
    # One image alone; where the networks are does not stand in it.
    outcome = cli("generate", "--from", "p000-s0003-freeu.png", *networks, "--output", "../one")
    assert outcome.code == 0, outcome.err
    assert "1 of 1 image is bit-identical" in outcome.out
    # The command on the page, inside the folder. It has the networks by their names.
    program, command, *words = command_on(folder / "compare.html")
    assert (program, command) == ("freeu", "compare")
    for option, place in zip(networks[::2], networks[1::2], strict=True):
        assert words[words.index(option) + 1] == Path(place).name
        words[words.index(option) + 1] = place
    outcome = cli(command, *words, "--output", "../page")
    assert outcome.code == 0, outcome.err
    assert shas(folder.parent / "page") == made


def test_no_page_leaves_its_folder(run: tuple[Path, dict[str, str], list[str]], tmp_path: Path) -> None:
    folder = run[0]
    text = (folder / "compare.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    for target in re.findall(r"""(?:src|href)=["']([^"']*)""", text):
        assert target.startswith("data:") or not target, target[:80]


def test_an_image_that_was_sent_without_its_inputs(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--image", picture(tmp_path / "in.png", (16, 16)), "--model", sd_dir, *BASE)
    assert cli("compare", "a fox", *words, "--output", tmp_path / "out").code == 0
    (tmp_path / "alone").mkdir()
    alone = shutil.copy(tmp_path / "out" / "p000-s0003-freeu.png", tmp_path / "alone" / "sent.png")
    outcome = cli("generate", "--from", alone, "--model", sd_dir, "--output", tmp_path / "again")
    assert outcome.code == 2
    assert "input-image.png" in outcome.one_line()
    assert "beside it" in outcome.one_line()
    # And without the model, which a PNG names without its place.
    outcome = cli("generate", "--from", tmp_path / "out" / "p000-s0003-freeu.png", "--output", tmp_path / "again")
    assert outcome.code == 2
    assert "--model" in outcome.one_line()
    assert not (tmp_path / "again").exists()


def test_an_image_of_a_single_file(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = tmp_path / "checkpoints" / "tiny.safetensors"
    model.parent.mkdir()
    save_file(single_file_state(load(find_model(str(sd_dir))).pipe), model)
    words = ("--model", model, "--model-config", sd_dir)
    assert cli("generate", "a fox", *words, *BASE, "--output", tmp_path / "out").code == 0
    image = tmp_path / "out" / "p000-s0003-freeu.png"
    outcome = cli("generate", "--from", image, "--output", tmp_path / "again")
    assert outcome.code == 2
    assert "tiny.safetensors" in outcome.one_line()
    assert "--model" in outcome.one_line()
    outcome = cli("generate", "--from", image, *words, "--output", tmp_path / "again")
    assert outcome.code == 0, outcome.err
    assert "1 of 1 image is bit-identical" in outcome.out
