"""``--like`` with images of ComfyUI: the graph inside is read, whatever its nodes link to."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from freeu.config import FreeUConfig
from freeu.foreign.comfyui import read_graph
from freeu.pipelines.options.like import read_image_settings

# A graph as ComfyUI saves it: text-to-image with a LoRA and FreeU_V2, and a second pass over an enlarged latent.
GRAPH: dict[str, Any] = {
    "20": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 12,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 0.5,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["21", 0],
        },
    },
    "21": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1024, "height": 1536}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": ["30", 0],
            "steps": 24,
            "cfg": 6.5,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1.0,
            "model": ["10", 0],
            "positive": ["8", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
        "is_changed": [None],
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dreamshaper_8.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["31", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry, red", "clip": ["4", 1]}},
    "8": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "strength": 1.0}},
    "9": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "fur_v2.safetensors", "strength_model": 0.8, "model": ["11", 0], "clip": ["4", 1]},
    },
    "10": {"class_type": "FreeU_V2", "inputs": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "model": ["9", 0]}},
    "11": {"class_type": "ModelSamplingDiscrete", "inputs": {"sampling": "v_prediction", "model": ["4", 0]}},
    "30": {"class_type": "PrimitiveNode", "inputs": {"value": 2**64 - 1}},
    "31": {"class_type": "String Literal", "inputs": {"string": "a red fox, 日本"}},
}


def png(path: Path, text: str) -> Path:
    info = PngInfo()
    info.add_text("prompt", text)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format="PNG", pnginfo=info)
    path.write_bytes(buffer.getvalue())
    return path


def test_a_graph(tmp_path: Path) -> None:
    # ComfyUI marks nodes that always change with NaN, which is no JSON.
    path = png(tmp_path / "a.png", json.dumps(GRAPH).replace("[null]", "[NaN]"))
    found = read_image_settings(path)
    assert found.prompt == "a red fox, 日本"
    assert found.sampling == {
        "steps": 24,
        "guidance_scale": 6.5,
        "seeds": str(2**64 - 1),
        "width": 512,
        "height": 768,
        "negative_prompt": "blurry, red",
        "scheduler": "dpm++2m-karras",
    }
    assert found.freeu == str(FreeUConfig.parse("b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 profile=comfyui"))
    assert found.left == (
        "Model dreamshaper_8.safetensors (--model)",
        "LoRA fur_v2.safetensors:0.8 (--lora)",
        "Other nodes ModelSamplingDiscrete",
    )


def test_the_first_version_of_freeu_and_another_latent() -> None:
    graph = copy.deepcopy(GRAPH)
    graph["10"]["class_type"] = "FreeU"
    del graph["3"]
    found = read_graph(graph)
    assert found is not None
    assert found.fields["FreeU"] == "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=1 profile=comfyui"
    assert (found.fields["Denoising strength"], "Size" in found.fields) == ("0.5", False)


@pytest.mark.parametrize(
    "graph",
    [
        {
            "3": {
                "class_type": "KSampler",
                "inputs": {name: ["3", 0] for name in ("seed", "steps", "model", "positive")},
            }
        },
        {
            "3": {
                "class_type": "KSampler",
                "inputs": {"positive": [], "model": [{}], "latent_image": ["9"], "cfg": True},
            }
        },
        {"3": {"class_type": "KSampler", "inputs": {}}},
    ],
)
def test_links_to_nowhere_say_nothing(graph: Any) -> None:
    found = read_graph(graph)
    assert found is not None
    assert (found.prompt, found.negative_prompt) == ("", "")
    assert not {"Steps", "CFG scale", "Size", "FreeU"} & found.fields.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "nor a graph of ComfyUI with a KSampler"),
        ("[1, 2]", "nor a graph of ComfyUI with a KSampler"),
        ('{"3": {"class_type": "SamplerCustomAdvanced", "inputs": {}}}', "nor a graph of ComfyUI with a KSampler"),
        ('{"3": {"class_type": "KSampler", "inputs": []}, "4": 5}', "nor a graph of ComfyUI with a KSampler"),
        ("a red fox", "the text 'prompt' in"),
        ("[" * 100_000, "the text 'prompt' in"),
        ("x" * 2_000_000, "has more than 1000000 characters"),
        (json.dumps(GRAPH).replace('"steps": 24', '"steps": -3'), "its steps is no whole number"),
    ],
)
def test_what_is_no_graph_is_one_line(cli: Callable[..., Any], tmp_path: Path, text: str, message: str) -> None:
    outcome = cli("compare", "--like", png(tmp_path / "a.png", text), "--output", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_a_run_takes_it_over(cli: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    path = png(tmp_path / "a.png", json.dumps(GRAPH).replace(str(2**64 - 1), "7"))
    outcome = cli("generate", "--like", path, "--dry-run", "--size", "64", "-n", "3")
    assert outcome.code == 0
    told = outcome.err.splitlines()
    assert told[0].startswith(f"freeu: of {path}, not taken: Model dreamshaper_8.safetensors (--model), LoRA")
    assert f"{path}: its seed gives other noise here" in told[1]
    for line in (
        "  a red fox, 日本",
        "negative prompt: blurry, red",
        "size: 64 x 64",
        "seeds: 7-9",
        "sampler: dpm++2m-karras",
    ):
        assert line in outcome.out.splitlines()
