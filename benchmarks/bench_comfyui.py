"""The node FreeUExact in ComfyUI's own core: the same images as FreeU and FreeU_V2, the workflows, the time of a step.

    python scripts/comfyui_core.py FOLDER
    FREEU_COMFYUI=FOLDER/ComfyUI FOLDER/venv/bin/python benchmarks/bench_comfyui.py [--rounds 9] [--width 32]

Small models of the core's own classes with random weights, sampled by the core's sampler in float32 on the CPU. Times
are of whole steps (sampler, guidance, U-Net), interleaved, and of the patches alone on maps of the size that Stable
Diffusion 1.5 has at 512x512. Writes results/comfyui.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from common import conditions, interleaved, save, summary

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import comfyui_model as comfy_model
from comfyui_workflows import execute, read, to_prompt

FACTORS = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}
VERSIONS = {"FreeU": "1", "FreeU_V2": "2"}


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max())


def same_images(nodes: ModuleType, steps: int) -> list[dict[str, Any]]:
    """Both nodes of the core against ours, on the layouts of SD 1.5 and SDXL."""
    rows = []
    for family in ("sd15", "sdxl"):
        model = comfy_model.small_model(family)
        before = {name: value.clone() for name, value in model.model.state_dict().items()}
        plain = comfy_model.sampled(model, steps)
        for name, version in VERSIONS.items():
            core = comfy_model.sampled(comfy_model.run_node(nodes, name, model=model, **FACTORS), steps)
            patched = comfy_model.run_node(nodes, "FreeUExact", model=model, version=version, **FACTORS)
            ours = comfy_model.sampled(patched, steps)
            after = model.model.state_dict()
            rows.append(
                {
                    "family": family,
                    "node": name,
                    "steps": steps,
                    "largest_error": error(ours, core),
                    "effect_of_freeu": error(core, plain),
                    "weights_unchanged": all(torch.equal(after[key], value) for key, value in before.items()),
                    "restored_to_the_bit": torch.equal(comfy_model.sampled(model, steps), plain),
                }
            )
    return rows


def workflows(nodes: ModuleType, serving: Any) -> list[dict[str, Any]]:
    """Every example workflow, as it stands but for a small image and few steps, by the core's own executor."""
    import folder_paths
    from PIL import Image

    import freeu
    from freeu.metadata import png_bytes

    comfy_model.use_small_checkpoint(nodes)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for kind in ("input", "output", "temp"):
            (Path(name) / kind).mkdir()
            setattr(folder_paths, f"{kind}_directory", str(Path(name) / kind))
        settings = {"config": freeu.preset("sd15").to_dict(), "prompt": "a red fox", "steps": 2}
        (Path(name) / "input" / "freeu.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), settings))
        for path in sorted((comfy_model.PACK / "example_workflows").glob("*.json")):
            prompt = to_prompt(read(path), nodes)
            for node in prompt.values():
                if node["class_type"] == "EmptyLatentImage":
                    node["inputs"].update(width=128, height=128)
                if node["class_type"] == "KSampler" and isinstance(node["inputs"]["steps"], int):
                    node["inputs"]["steps"] = 2
            done = execute(prompt, serving)
            images = [one["filename"] for shown in done.outputs.values() for one in shown.get("images", ())]
            rows.append({"workflow": path.name, "nodes": len(prompt), "error": done.error, "images": len(images)})
    return rows


def step_times(nodes: ModuleType, width: int, rounds: int) -> dict[str, Any]:
    """Times of two steps without FreeU, with the core's nodes and with ours."""
    model = comfy_model.small_model("sd15", width)
    models = {"without": model}
    for name, version in VERSIONS.items():
        models[name] = comfy_model.run_node(nodes, name, model=model, **FACTORS)
        models[f"FreeUExact version {version}"] = comfy_model.run_node(
            nodes, "FreeUExact", model=model, version=version, **FACTORS
        )
    runs: dict[str, Callable[[], Any]] = {
        name: (lambda one=one: comfy_model.sampled(one, steps=2, size=32)) for name, one in models.items()
    }
    found = interleaved(runs, rounds, warmup=1)
    return {name: summary(seconds) for name, seconds in found.items()}


def patch_times(nodes: ModuleType, rounds: int) -> dict[str, Any]:
    """Seconds that the patches alone take in one step, on maps of the size of Stable Diffusion 1.5 at 512x512, both
    halves of guidance in the batch."""
    sides = [8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    backbones = [1280] * 7 + [640] * 3 + [320] * 2
    skips = [1280] * 5 + [640] * 2 + [640, 320, 320] + [320] * 2
    model = comfy_model.small_model("sd15")
    narrow = model.model.diffusion_model.model_channels
    assert [c * narrow // 320 for c in backbones] == [
        site.backbone_channels for site in _patch(nodes, "FreeUExact", model).sites
    ]
    maps = [
        (torch.randn(2, h, side, side), torch.randn(2, s, side, side))
        for h, s, side in zip(backbones, skips, sides, strict=True)
    ]
    del model
    wide = comfy_model.small_model("sd15", 320, device="meta")
    runs: dict[str, Callable[[], Any]] = {}
    for name, version in VERSIONS.items():
        for node, more in ((name, {}), ("FreeUExact", {"version": version})):
            patch = _patch(nodes, node, wide, **more)
            label = name if node == name else f"FreeUExact version {version}"
            runs[label] = lambda patch=patch: _step(patch, maps)
    found = interleaved(runs, rounds, warmup=2)
    return {name: summary(seconds) for name, seconds in found.items()}


def _patch(nodes: ModuleType, name: str, model: Any, **more: Any) -> Any:
    patched = comfy_model.run_node(nodes, name, model=model, **FACTORS, **more)
    return patched.model_options["transformer_options"]["patches"]["output_block_patch"][0]


@torch.inference_mode()
def _step(patch: Any, maps: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for number, (h, skip) in enumerate(maps):
        # The backbone is changed in place: gains above 1 would grow from round to round.
        patch(h.clone(), skip, {"block": ("output", number), "cond_or_uncond": [1, 0]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=32, help="channels at the highest resolution; SD 1.5 has 320")
    parser.add_argument("--steps", type=int, default=8, help="of the images that are compared")
    options = parser.parse_args()
    folder = comfy_model.core_folder()
    if folder is None:
        raise SystemExit(f"{comfy_model.VARIABLE} names no folder: python scripts/comfyui_core.py FOLDER")
    nodes = comfy_model.load_core(folder)
    serving = comfy_model.load_pack(nodes)
    import comfyui_version

    data = {
        "conditions": conditions() | {"comfyui": comfyui_version.__version__, "dtype": "float32"},
        "factors": FACTORS,
        "same_images": same_images(nodes, options.steps),
        "workflows": workflows(nodes, serving),
        "step": {
            "width": options.width,
            "latent": 32,
            "batch": 2,
            "steps_a_run": 2,
            **step_times(nodes, options.width, options.rounds),
        },
        "patches": {"maps": "Stable Diffusion 1.5 at 512x512, batch of 2", **patch_times(nodes, options.rounds)},
    }
    for row in (*data["same_images"], *data["workflows"]):
        print(row)
    for part in ("step", "patches"):
        for name, found in data[part].items():
            if isinstance(found, dict):
                print(f"{part:8} {name:22} {found['median_us'] / 1e3:9.2f} ms")
    print(f"written to {save('comfyui', data)}")


if __name__ == "__main__":
    main()
