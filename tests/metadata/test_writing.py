"""``freeu.metadata.write``: read back what was written, pixels untouched, and refuse what a dialect cannot say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from foreign_texts import GRAPH, LINE, TEXT, WORKFLOW, png
from PIL import Image

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.metadata import read, write

FOUR = "b1=1.2 b2=1.4 s1=0.9 s2=0.2"
SAID = {
    "freeu": f"{FOUR} mask=radial dc=keep end=0.7",
    "a1111": f"{FOUR} v=2 profile=a1111 end=0.7",
    "forge": f"{FOUR} v=2 profile=comfyui end=0.7",
    "sdnext": f"{FOUR} v=1 profile=diffusers",
    "fooocus": f"{FOUR} v=2",
}


def image(path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
@pytest.mark.parametrize("dialect", SAID)
def test_what_is_written_is_read(tmp_path: Path, dialect: str, ending: str) -> None:
    path = image(tmp_path / f"x.{ending}")
    before = path.read_bytes()
    config = FreeUConfig.parse(SAID[dialect])
    made = write(path, config, dialect, tmp_path / f"y.{ending}")
    assert path.read_bytes() == before
    assert [one.name for one in sorted(tmp_path.iterdir())] == [f"x.{ending}", f"y.{ending}"]
    found = read(made)
    assert (found.dialect, found.config) == (dialect, config)
    with Image.open(path) as old, Image.open(made) as new:
        assert np.array_equal(np.asarray(old), np.asarray(new))
    write(made, "sd15")  # once more, in place
    assert read(made).config == FreeUConfig.parse("b1=1.5 b2=1.6 s1=0.9 s2=0.2 v=2")


def test_the_rest_stays(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", {"parameters": f"{TEXT}, Clip skip: 2", "other": "kept"})
    for dialect in ("forge", "a1111", "fooocus", "freeu"):
        write(path, FreeUConfig.parse(f"{FOUR} v=2"), dialect)
        found = read(path)
        assert (found.dialect, found.prompt, found.negative_prompt) == (dialect, "a red fox", "blurry")
        assert (found.seed, found.steps, found.guidance_scale, found.width) == (5, 20, 7.0, 512)
        assert found.config is not None
        with Image.open(path) as opened:
            assert opened.info["other"] == "kept"


def test_half_of_the_channels_in_the_words_of_the_extension(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", {"parameters": f"a fox\n{LINE}"})
    config = FreeUConfig.parse(f"{FOUR} v=2")
    write(path, config, "a1111")
    assert read(path).config == config.replace(profile="a1111", channels="first")


@pytest.mark.parametrize("there", [True, False])
def test_a_node_for_comfyui(tmp_path: Path, there: bool) -> None:
    graph = json.loads(json.dumps(GRAPH))
    if not there:
        graph["3"]["inputs"]["model"] = ["4", 0]
        del graph["10"]
    path = png(tmp_path / "x.png", {"prompt": json.dumps(graph), "workflow": json.dumps(WORKFLOW)})
    config = FreeUConfig.parse("b1=1.1 b2=1.3 s1=0.8 s2=0.5 v=1 profile=comfyui")
    write(path, config, "comfyui")
    found = read(path)
    assert (found.dialect, found.config, found.seed, found.model) == ("comfyui", config, 5, "v1-5.safetensors")


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    for dialect in ("freeu", "a1111", "fooocus"):
        config = FreeUConfig.parse(SAID[dialect])
        assert read(write(path, config, dialect, tmp_path / "y.json")).config == config


@pytest.mark.parametrize(
    ("config", "dialect", "message"),
    [
        (f"{FOUR} mask=radial", "a1111", "a1111 has no words for mask='radial'"),
        (f"{FOUR} v=1", "forge", "forge has no version 1"),
        (f"{FOUR} end=0.5", "fooocus", "fooocus has no words for end=0.5"),
        (FOUR, "sdnext", "sdnext acts where profile diffusers does"),
        ("b1=2.5 b2=1 s1=1 s2=1", "forge", "forge takes b1 from 0 to 2"),
        (f"{FOUR} b3=1.1 s3=1", "comfyui", "comfyui has two stages"),
        (FOUR, "comfyui", "no graph of ComfyUI"),
        (FOUR, "invokeai", "no field for FreeU"),
        (FOUR, "comfy", "did you mean comfyui"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path: Path, config: str, dialect: str, message: str) -> None:
    path = image(tmp_path / "x.png")
    before = path.read_bytes()
    with pytest.raises(FreeUValueError, match=message):
        write(path, FreeUConfig.parse(config), dialect)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
