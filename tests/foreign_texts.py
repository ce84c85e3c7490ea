"""Settings of one image as A1111 and ComfyUI write them, and PNG files with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768"
TEXT = f"a red fox\nNegative prompt: blurry\n{LINE}"
GRAPH: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 20,
            "cfg": 7.0,
            "sampler_name": "euler_ancestral",
            "scheduler": "normal",
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "10": {"class_type": "FreeU_V2", "inputs": {"model": ["4", 0], "b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}},
}
# The same as ComfyUI's page saves it, with a bypassed node and a reroute on the way of the model.
WORKFLOW: dict[str, Any] = {
    "nodes": [
        {
            "id": 3,
            "type": "KSampler",
            "mode": 0,
            "inputs": [
                {"name": "model", "type": "MODEL", "link": 1},
                {"name": "positive", "type": "CONDITIONING", "link": 2},
                {"name": "negative", "type": "CONDITIONING", "link": 3},
                {"name": "latent_image", "type": "LATENT", "link": 4},
            ],
            "widgets_values": [5, "randomize", 20, 7.0, "euler_ancestral", "normal", 1.0],
        },
        {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["v1-5.safetensors"]},
        {"id": 5, "type": "EmptyLatentImage", "widgets_values": [512, 768, 1]},
        {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a red fox"]},
        {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["blurry"]},
        {
            "id": 10,
            "type": "FreeU_V2",
            "widgets_values": [1.2, 1.4, 0.9, 0.2],
            "inputs": [{"name": "model", "type": "MODEL", "link": 7}],
        },
        {
            "id": 11,
            "type": "FreeU",
            "mode": 4,
            "widgets_values": [1.9, 1.9, 0.1, 0.1],
            "inputs": [{"name": "model", "type": "MODEL", "link": 6}],
        },
        {"id": 12, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 5}]},
    ],
    "links": [
        [1, 11, 0, 3, 0, "MODEL"],
        [2, 6, 0, 3, 1, "CONDITIONING"],
        [3, 7, 0, 3, 2, "CONDITIONING"],
        [4, 5, 0, 3, 3, "LATENT"],
        [5, 10, 0, 12, 0, "MODEL"],
        [6, 12, 0, 11, 0, "MODEL"],
        [7, 4, 0, 10, 0, "MODEL"],
    ],
}


def png(path: Path, texts: dict[str, str]) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path
