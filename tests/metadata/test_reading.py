"""``freeu.metadata.read``: strings as each tool writes them, in every container, and what is not understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_texts import GRAPH, LINE, TEXT, WORKFLOW, png
from PIL import Image

import freeu
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.metadata import png_bytes, read, write
from freeu.metadata.fields import freeu_of
from freeu.pipelines.options.like import read_image_settings

STAGES = json.dumps([{"backbone_factor": 1.2, "skip_factor": 0.9}, {"backbone_factor": 1.4, "skip_factor": 0.2}])
FOOOCUS = {
    "prompt": "a red fox",
    "negative_prompt": "blurry",
    "steps": 20,
    "guidance_scale": 7.0,
    "seed": "5",
    "resolution": "(512, 768)",
    "sampler": "euler_ancestral",
    "freeu": "(1.2, 1.4, 0.9, 0.2)",
    "performance": "Speed",
    "version": "Fooocus v2.5.5",
    "base_model": "v1-5",
}
INVOKE = {
    "generation_mode": "txt2img",
    "positive_prompt": "a red fox",
    "negative_prompt": "blurry",
    "width": 512,
    "height": 768,
    "seed": 5,
    "cfg_scale": 7.0,
    "steps": 20,
    "scheduler": "euler_a",
    "model": {"name": "v1-5"},
}
INVOKE_GRAPH = {"nodes": {"a": {"type": "freeu", "b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}}, "edges": []}
FOUR = "b1=1.2 b2=1.4 s1=0.9 s2=0.2"
FORGE = "freeu_enabled: True, freeu_b1: 1.2, freeu_b2: 1.4, freeu_s1: 0.9, freeu_s2: 0.2"


def own_node(**more: Any) -> str:
    """A graph with our node."""
    inputs = {**GRAPH["10"]["inputs"], "version": "2", "start": 0.0, "end": 1.0, "config": "", **more}
    return json.dumps({**GRAPH, "10": {"class_type": "FreeUExact", "inputs": inputs}})


def extension(stages: str, more: str = "") -> str:
    return f"{TEXT}, FreeU Stages: {json.dumps(stages)}, {more}FreeU Version: 2"


CASES = [
    ({"parameters": f"{TEXT}, FreeU: {FOUR} v=2 mask=radial"}, "freeu", f"{FOUR} mask=radial"),
    ({"parameters": extension(STAGES)}, "a1111", f"{FOUR} v=2 profile=a1111"),
    (
        {"parameters": extension(STAGES, 'FreeU Schedule: "5, 0.8, 0.0", ')},
        *("a1111", f"{FOUR} v=2 profile=a1111 start=0.25 end=0.8"),
    ),
    ({"parameters": f"{TEXT}, {FORGE}, Version: f2.0.1"}, "forge", f"{FOUR} v=2 profile=comfyui"),
    ({"parameters": f"{TEXT}, FreeU: {FOUR}, App: SD.Next"}, "sdnext", f"{FOUR} v=1 profile=diffusers"),
    ({"parameters": f'{TEXT}, FreeU: "(1.2, 1.4, 0.9, 0.2)", Version: Fooocus v2.5'}, "fooocus", f"{FOUR} v=2"),
    ({"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}, "fooocus", f"{FOUR} v=2"),
    ({"prompt": json.dumps(GRAPH), "workflow": "{}"}, "comfyui", f"{FOUR} v=2 profile=comfyui"),
    ({"workflow": json.dumps(WORKFLOW)}, "comfyui", f"{FOUR} v=2 profile=comfyui"),
    ({"prompt": own_node()}, "comfyui", f"{FOUR} v=2 profile=comfyui"),
    (
        {"prompt": own_node(version="1", config="mask=radial b2=1.1")},
        "comfyui",
        "b1=1.2 b2=1.1 s1=0.9 s2=0.2 v=1 profile=comfyui mask=radial",
    ),
    ({"prompt": own_node(config='{"dc": "keep"}')}, "comfyui", f"{FOUR} v=2 profile=comfyui dc=keep"),
    (
        {"prompt": own_node(start=0.2, end=0.6)},
        *("comfyui", f"{FOUR} v=2 profile=comfyui start=799.2 end=399.6 unit=timestep"),
    ),
    (
        {"invokeai_metadata": json.dumps(INVOKE), "invokeai_graph": json.dumps(INVOKE_GRAPH)},
        *("invokeai", f"{FOUR} v=1 profile=diffusers"),
    ),
]


def check(found: freeu.metadata.Metadata, dialect: str, config: str) -> None:
    assert found.dialect == dialect
    assert (found.prompt, found.negative_prompt) == ("a red fox", "blurry")
    assert (found.seed, found.steps, found.guidance_scale) == (5, 20, 7.0)
    assert (found.width, found.height) == (512, 768)
    assert found.sampler is not None
    assert found.sampler.lower().startswith("euler")
    assert found.config is not None, found.notes
    assert found.config == FreeUConfig.parse(config)


@pytest.mark.parametrize(("texts", "dialect", "config"), CASES)
def test_texts_of_each_tool(tmp_path: Path, texts: dict[str, str], dialect: str, config: str) -> None:
    check(read(png(tmp_path / "x.png", texts)), dialect, config)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_the_comment_of_a_photo(tmp_path: Path, form: str, order: str) -> None:
    """A1111, Forge and SD.Next write it with piexif, as UTF-16 of the high byte first whatever the file's order."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + f"{TEXT}, {FORGE}".encode(order)
    Image.new("RGB", (8, 8)).save(tmp_path / "x", form, exif=exif)
    check(read(tmp_path / "x"), "forge", f"{FOUR} v=2 profile=comfyui")


def test_photos_of_fooocus_and_comfyui(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x9286], exif[0x927C] = json.dumps(FOOOCUS), "fooocus"
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif)
    check(read(tmp_path / "x.jpg"), "fooocus", f"{FOUR} v=2")
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = "prompt:" + json.dumps(GRAPH), "workflow:" + json.dumps(WORKFLOW)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.webp", exif=exif)
    check(read(tmp_path / "x.webp"), "comfyui", f"{FOUR} v=2 profile=comfyui")


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    infos = {"stage_infos": json.loads(STAGES), "version": "2", "start_ratio": 0.0, "stop_ratio": 1.0}
    sent = {"prompt": "a red fox", "negative_prompt": "blurry", "steps": 20, "cfg_scale": 7, "seed": 5, "width": 512}
    sent |= {"height": 768, "sampler_name": "Euler a", "alwayson_scripts": {"freeu": {"args": [infos]}}}
    for data, dialect, config in (
        (GRAPH, "comfyui", f"{FOUR} v=2 profile=comfyui"),
        ({"prompt": GRAPH}, "comfyui", f"{FOUR} v=2 profile=comfyui"),
        (WORKFLOW, "comfyui", f"{FOUR} v=2 profile=comfyui"),
        (FOOOCUS, "fooocus", f"{FOUR} v=2"),
        ({**INVOKE, "graph": INVOKE_GRAPH}, "invokeai", f"{FOUR} v=1 profile=diffusers"),
        (sent, "a1111", f"{FOUR} v=2 profile=a1111"),
    ):
        path.write_text(json.dumps(data), encoding="utf-8")
        check(read(path), dialect, config)
    config = freeu.preset("sdxl")
    for data in (config.to_dict(), {"kind": "freeu-preset", "schema": 1, "config": config.to_dict(), "steps": 30}):
        path.write_text(json.dumps(data), encoding="utf-8")
        assert read(path).config == config


def test_ours(tmp_path: Path) -> None:
    config = freeu.preset("sd15")
    settings = {"prompt": "a red fox", "negative_prompt": "blurry", "seed": 5, "steps": 20, "guidance": 7.0}
    settings |= {"width": 512, "height": 768, "scheduler": "euler-a", "config": config.to_dict()}
    (tmp_path / "x.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), settings, parameters=TEXT))
    check(read(tmp_path / "x.png"), "freeu", str(config))


def test_what_is_not_understood_is_said(tmp_path: Path) -> None:
    line = LINE.replace("Seed: 5", "Seed: many")
    path = png(tmp_path / "x.png", {"parameters": f'a fox\n{line}, Clip skip: 2, FreeU: "(1, 2)"'})
    found = read(path)
    assert (found.seed, found.config) == (None, None)
    assert found.notes[0] == "FreeU: FreeU is no tuple of four numbers"
    assert found.notes[1] == "not taken: Clip skip"
    assert found.notes[2].startswith("Seed is no number from 0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no PNG, JPEG, WebP or JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"1," * 400_000 + b"1]", "too large"),
        (b'{"a": 1}', "holds no settings"),
        (b"\xff\xd8\xff\xe1", "damaged, or ends early"),
        (b"RIFF\x00\x00\x00\x00WEBPEXIF\xff\xff\xff\xff", "ends early"),
        (b"\x89PNG\r\n\x1a\n", "ends early"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(FreeUValueError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FreeUValueError, match="cannot read"):
        read(tmp_path / "none")


def test_a_run_takes_over_from_a_photo_and_from_json(tmp_path: Path) -> None:
    """``--like`` reads what ``read`` reads; what freeu wrote for another tool's image comes back too."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + f"{TEXT}, {FORGE}".encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif)
    (tmp_path / "x.json").write_text(json.dumps(FOOOCUS), encoding="utf-8")
    written = png(tmp_path / "x.png", {"parameters": TEXT})
    write(written, FreeUConfig.parse(f"{FOUR} v=2"))
    for name, config in (("x.jpg", f"{FOUR} v=2 profile=comfyui"), ("x.json", f"{FOUR} v=2"), ("x.png", f"{FOUR} v=2")):
        found = read_image_settings(tmp_path / name)
        assert (found.prompt, found.freeu) == ("a red fox", config)
        assert found.sampling["seeds"] == "5"
        assert found.sampling["steps"] == 20
        assert found.sampling["width"] == 512
        assert found.sampling["scheduler"] == "euler-a"


@pytest.mark.parametrize(
    ("widths", "channels"),
    [
        ((0.5 - 1 / 1280, 0.5 - 1 / 640), "first"),
        ((0.5 - 1 / 1280, None), "first"),
        ((None, 0.5 - 1 / 640), "first"),
        ((0.5, 0.5), "first-inclusive"),
        ((0.45, 0.45), None),  # 1/2 - 1/20, of which no stages are made
        ((0.45, None), None),
        ((0.5 - 1 / 1280, 0.5), None),
        ((0.3, 0.3), None),
    ],
)
def test_widths_of_the_extension(widths, channels):
    """Half of the channels only where the widths are those of one U-Net's stages."""
    stages = [{} if one is None else {"backbone_factor": 1.2, "backbone_width": one} for one in widths]
    fields = {"FreeU Stages": json.dumps(stages)}
    if channels is None:
        with pytest.raises(FreeUValueError, match="backbone_width has no counterpart"):
            freeu_of(fields)
    else:
        found = freeu_of(fields)
        assert found is not None
        assert found.channels == channels
