"""``freeu.metadata``: what each tool writes is read, what is written is read back, and no pixel is touched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import freeu
from freeu import FreeUConfig, metadata
from freeu.conversion import convert_stages
from freeu.errors import FreeUValueError

HEAD = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 24x16, "
PLAIN = "b1=1.2 b2=1.4 s1=0.9 s2=0.2"
GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 24, "height": 16, "batch_size": 1}},
    "4": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 20,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["1", 0],
            "positive": ["2", 0],
            "latent_image": ["3", 0],
        },
    },
}
WORKFLOW = {
    "nodes": [
        {"id": 1, "type": "CheckpointLoaderSimple", "widgets_values": ["x.safetensors"]},
        {"id": 2, "type": "CLIPTextEncode", "widgets_values": ["a fox"]},
        {"id": 5, "type": "FreeU_V2", "inputs": [{"name": "model", "link": 1}], "widgets_values": [1.2, 1.4, 0.9, 0.2]},
        {
            "id": 4,
            "type": "KSampler",
            "inputs": [{"name": "model", "link": 2}, {"name": "positive", "link": 3}],
            "widgets_values": [5, "fixed", 20, 7.0, "euler", "normal", 1.0],
        },
    ],
    "links": [[1, 1, 0, 5, 0, "MODEL"], [2, 5, 0, 4, 0, "MODEL"], [3, 2, 0, 4, 1, "CONDITIONING"]],
}


def patched(kind: str, **inputs: Any) -> str:
    graph = json.loads(json.dumps(GRAPH))
    graph["9"] = {"class_type": kind, "inputs": {"model": ["1", 0], **inputs}}
    graph["4"]["inputs"]["model"] = ["9", 0]
    return json.dumps(graph)


FACTORS = {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}
STAGES = [{"backbone_factor": 1.2, "skip_factor": 0.9}, {"backbone_factor": 1.4, "skip_factor": 0.2}]
HALF = [{**one, "backbone_width": 0.5 - 1 / channels} for one, channels in zip(STAGES, (1280, 640), strict=True)]
LISTS = [[1.2, 0.9, 0.0, 0.5, 0.0, 1.0], [1.4, 0.2, 0.0, 0.5, 0.0, 1.0]]
A1111 = f"{PLAIN} v=2 profile=a1111"
# Written as each tool's source does: the key, the text, the dialect, the settings of FreeU.
TEXTS = [
    ("parameters", HEAD + f"FreeU Stages: {json.dumps(json.dumps(STAGES))}, FreeU Version: 2", "a1111", A1111),
    (
        "parameters",
        HEAD + f"FreeU Stages: {json.dumps(json.dumps(HALF))}, FreeU Version: 2",
        "a1111",
        f"{A1111} channels=first",
    ),
    ("parameters", HEAD + f"FreeU Stages: {json.dumps(json.dumps(LISTS))}, FreeU Version: 2", "a1111", A1111),
    (
        "parameters",
        HEAD + "freeu_enabled: True, freeu_b1: 1.2, freeu_b2: 1.4, freeu_s1: 0.9, freeu_s2: 0.2, Version: f2.0.1",
        "forge",
        f"{PLAIN} v=2 profile=comfyui",
    ),
    ("parameters", HEAD + f"FreeU: {PLAIN}, App: SD.Next, Version: abc", "sdnext", f"{PLAIN} v=1 profile=diffusers"),
    ("parameters", HEAD + f"FreeU: {PLAIN}, Backend: Original", "sdnext", f"{PLAIN} v=1 profile=a1111"),
    ("parameters", HEAD + 'FreeU: "(1.2, 1.4, 0.9, 0.2)", Version: Fooocus v2.5.5', "fooocus", f"{PLAIN} v=2"),
    (
        "parameters",
        json.dumps(
            {
                "prompt": "a fox",
                "negative_prompt": "blurry",
                "steps": 20,
                "guidance_scale": 7.0,
                "seed": "5",
                "resolution": "(24, 16)",
                "freeu": "(1.2, 1.4, 0.9, 0.2)",
                "version": "Fooocus v2.5.5",
            }
        ),
        "fooocus",
        f"{PLAIN} v=2",
    ),
    ("prompt", patched("FreeU_V2", **FACTORS), "comfyui", f"{PLAIN} v=2 profile=comfyui"),
    ("prompt", patched("FreeU", **FACTORS), "comfyui", f"{PLAIN} v=1 profile=comfyui"),
    ("prompt", patched("FreeUExact", **FACTORS, version=1, start=0.0, end=0.5), "comfyui", f"{PLAIN} v=1 end=0.5"),
    (
        "prompt",
        patched("FreeUExact", config=FreeUConfig.parse(f"{PLAIN} v=2 mask=radial").to_json()),
        "comfyui",
        f"{PLAIN} v=2 mask=radial",
    ),
    ("workflow", json.dumps(WORKFLOW), "comfyui", f"{PLAIN} v=2 profile=comfyui"),
    (
        "invokeai_metadata",
        json.dumps(
            {
                "app_version": "4.2.0",
                "positive_prompt": "a fox",
                "negative_prompt": "blurry",
                "seed": 5,
                "steps": 20,
                "cfg_scale": 7.0,
                "width": 24,
                "height": 16,
                "freeu_config": FACTORS,
            }
        ),
        "invokeai",
        f"{PLAIN} v=1 profile=diffusers",
    ),
]


def pixels() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))


def image(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    pixels().save(path, **({"pnginfo": info} if path.suffix == ".png" else {}))
    return path


@pytest.mark.parametrize(("key", "text", "dialect", "expected"), TEXTS)
def test_texts_of_tools(tmp_path: Path, key: str, text: str, dialect: str, expected: str) -> None:
    record = metadata.read(image(tmp_path / "a.png", **{key: text}))
    assert (record.dialect, record.config) == (dialect, FreeUConfig.parse(expected))
    assert (record.prompt, record.seed, record.steps, record.guidance_scale) == ("a fox", 5, 20, 7.0)
    assert record.notes == ()


@pytest.mark.parametrize("text", [text for key, text, *_ in TEXTS if text.startswith("{")])
def test_the_same_as_json_files(tmp_path: Path, text: str) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(text)
    assert metadata.read(tmp_path / "a.json").prompt == "a fox"


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
@pytest.mark.parametrize("dialect", ["freeu", "a1111", "forge", "fooocus", "sdnext"])
def test_written_and_read_back(tmp_path: Path, ending: str, dialect: str) -> None:
    wanted = FreeUConfig.parse(f"{PLAIN} v=1 profile=diffusers") if dialect == "sdnext" else freeu.preset("sd15")
    path = image(tmp_path / f"a.{ending}")
    before = path.read_bytes()
    copy = metadata.write(path, wanted, dialect, output=tmp_path / f"b.{ending}")
    record = metadata.read(copy)
    assert record.dialect == dialect
    assert record.config is not None
    assert convert_stages(record.config, dialect if dialect != "freeu" else "official").lost == () or dialect == "freeu"
    stages = record.config.stages[:2]
    assert (stages, record.config.version) == (wanted.stages, wanted.version)
    assert record.config.channels == wanted.channels == "first"
    np.testing.assert_array_equal(np.asarray(Image.open(copy)), np.asarray(Image.open(path)))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


@pytest.mark.parametrize("preset", freeu.presets())
@pytest.mark.parametrize("dialect", ["a1111", "forge", "sdnext", "fooocus", "invokeai"])
def test_every_preset_travels_or_is_refused(tmp_path: Path, preset: str, dialect: str) -> None:
    wanted, path = freeu.preset(preset), image(tmp_path / "a.png")
    lost = convert_stages(wanted, dialect).lost
    if lost:
        with pytest.raises(FreeUValueError, match="cannot be told these settings: it "):
            metadata.write(path, wanted, dialect)
        return
    found = metadata.read(metadata.write(path, wanted, dialect)).config
    assert found is not None
    assert (found.stages[:2], found.version, found.channels) == (wanted.stages[:2], wanted.version, wanted.channels)


def test_a_graph_gets_a_node_or_its_own_is_changed(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", prompt=json.dumps(GRAPH))
    for preset in ("sd15", "sdxl"):
        metadata.write(path, preset, "comfyui")
        record = metadata.read(path)
        assert record.config == freeu.preset(preset).replace(profile="comfyui")
        graph = json.loads(Image.open(path).info["prompt"])
        assert len(graph) == len(GRAPH) + 1
    bare = {**WORKFLOW, "nodes": [one for one in WORKFLOW["nodes"] if one["type"] != "FreeU_V2"]}
    path = image(tmp_path / "b.png", workflow=json.dumps(bare))
    with pytest.raises(FreeUValueError, match="has no node FreeU"):
        metadata.write(path, "sd15", "comfyui")


def test_our_text_in_an_image_of_another_tool_keeps_its_prompt(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", parameters=HEAD + "Version: v1.9")
    wanted = FreeUConfig.parse(f"{PLAIN} v=2 mask=radial end=0.5")
    record = metadata.read(metadata.write(path, wanted))
    assert (record.config, record.prompt, record.seed) == (wanted, "a fox", 5)


def test_comments_as_a1111_writes_them(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 1
    tags.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + (HEAD + "Version: v1.9").encode("utf-16-be")
    for name in ("a.jpg", "a.webp"):
        pixels().save(tmp_path / name, exif=tags)
        metadata.write(tmp_path / name, "sd15", "forge")
        record = metadata.read(tmp_path / name)
        assert (record.prompt, record.seed, record.config and record.config.b) == ("a fox", 5, (1.5, 1.6))
        assert Image.open(tmp_path / name).getexif()[0x0112] == 1


def test_the_command(cli: Callable[..., Any], tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", parameters=HEAD + "Version: v1.9")
    shown = cli("metadata", path)
    assert (shown.code, "a fox" in shown.out) == (0, True)
    copy = tmp_path / "b.png"
    done = cli("metadata", path, "--set", "sd15", "--to", "forge", "--output", copy, "--json")
    assert (done.code, json.loads(done.out)["config"]["b"]) == (0, [1.5, 1.6])
    for words, message in (
        (("--to", "forge"), "say where with --output"),
        (("--set", "sd15", "--to", "frge", "--output", tmp_path / "c.png"), "did you mean forge"),
        (("--set", "sd15", "--to", "invokeai", "--output", tmp_path / "c.png"), "it has no version 2"),
        (("--to", "forge", "--output", tmp_path / "c.png"), "holds no settings of FreeU"),
        (("--set", "sd15", "--output", copy), "is there already"),
    ):
        bad = cli("metadata", path, *words)
        assert (bad.code, message in bad.one_line()) == (2, True)
    assert not (tmp_path / "c.png").exists()


HOSTILE = st.one_of(
    st.text(max_size=300),
    st.sampled_from([text for _, text, *_ in TEXTS]).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, 40), st.text(max_size=20)).map(
            lambda cut: text[: cut[0]] + cut[2] + text[cut[0] + cut[1] :]
        )
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["prompt", "nodes", "links", "freeu", "freeu_config", "stage_infos", "alwayson_scripts"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(json.dumps),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=HOSTILE, key=st.sampled_from(["freeu", "parameters", "prompt", "workflow", "invokeai_metadata"]))
def test_hostile_texts_are_read_or_refused_in_one_line(tmp_path: Path, text: str, key: str) -> None:
    from freeu.foreign.insert import into_png

    path = image(tmp_path / "a.png")
    text = text.encode("utf-8", "replace").decode()
    path.write_bytes(into_png(path.read_bytes(), {key: text}, path))
    (tmp_path / "a.json").write_text(text)
    for one in (path, tmp_path / "a.json"):
        began = time.perf_counter()
        try:
            metadata.read(one)
        except FreeUValueError as error:
            assert "\n" not in str(error)
        assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize("ending", ["jpg", "webp", "png"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), piece=st.binary(max_size=12), gone=st.integers(0, 30))
def test_damaged_files_are_read_or_refused(tmp_path: Path, ending: str, place: float, piece: bytes, gone: int) -> None:
    path = image(tmp_path / f"a.{ending}")
    metadata.write(path, "sd15", "forge")
    data = path.read_bytes()
    at = int(place * len(data))
    path.write_bytes(data[:at] + piece + data[at + gone :])
    for act in (metadata.read, lambda one: metadata.write(one, "sd15", "a1111", output=tmp_path / f"b.{ending}")):
        try:
            act(path)
        except FreeUValueError as error:
            assert "\n" not in str(error)
