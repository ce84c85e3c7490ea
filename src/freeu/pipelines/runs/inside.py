"""The settings inside an image, as the manifest of a run that makes this image alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.foreign.png import is_png
from freeu.metadata import read_png
from freeu.pipelines.io.inputs import open_image, pixel_sha
from freeu.pipelines.models.sources.tasks import VIDEO_TASKS
from freeu.pipelines.runs.manifest import ImageRecord, Manifest, parts_of, read_manifest
from freeu.pipelines.runs.plan import OF_ADD_ONS, Plan

_SAME = (
    *("negative_prompt", "config", "task", "steps", "guidance", "scheduler", "width", "height", "image_strength"),
    *("frames", "dtype", "device", "threads"),
)
"""Fields that an image and a plan call alike."""
_LATER = (
    *("control", "scalecrafter", "guiding", "guidance_rescale", "prediction_type", "reader", "fuse_loras", "weighting"),
    *("autocast", "offload", "vae_tiling", "attention_slicing"),
)
"""The same, of images that have them."""


def read_run(path: Path) -> Manifest:
    """A manifest, by its file or folder, or that of the one image of a PNG of freeu.

    Raises:
        FreeUValueError: it cannot be read, is neither, or is damaged (saying where).
    """
    return _of_image(path) if is_png(path) else read_manifest(path)


def _of_image(path: Path) -> Manifest:
    settings = read_png(path)
    if settings.get("task") in VIDEO_TASKS:
        raise FreeUValueError(f"{path} holds frames of a video: give the manifest.json beside it")
    try:
        plan = Plan.from_dict(_plan(settings))
        (planned,) = plan.images()
        made_with = settings["environment"]
        if not isinstance(made_with, dict) or not all(isinstance(value, str) for value in made_with.values()):
            raise FreeUValueError("environment must be an object of texts")
        used = parts_of(settings.get("used", {}))
    except (FreeUValueError, AttributeError, KeyError, TypeError) as error:
        raise FreeUValueError(f"the settings in {path} are damaged, or not those of one image: {error}") from None
    record = ImageRecord(
        planned.file, planned.prompt, planned.seed, planned.arm, pixel_sha(open_image(path)), seconds=0.0
    )
    return Manifest(plan, made_with, {planned.file: record}, used)


def _plan(settings: dict[str, Any]) -> dict[str, Any]:
    """The plan of an image, as plain data. Where the model lies is not in it: it is looked for by its name."""
    model = settings["model"]
    if settings.get("batch", 1) != 1:
        raise FreeUValueError(
            f"{settings['batch']} images were generated together, and one alone differs in its last bits: give the "
            "manifest.json beside it"
        )
    data = {name: settings[name] for name in _SAME} | {
        "command": "generate",
        "prompts": [settings["prompt"]],
        "seeds": [settings["seed"]],
        "arms": [settings["arm"]],
        "image_sha": settings["image_sha256"],
        "mask_sha": settings["mask_sha256"],
        "region_sha": settings.get("region_sha256"),
        "model": {
            "kind": "hub" if "/" in model["name"] else "embedded",
            "reference": model["name"],
            "name": model["name"],
            "class_name": model["class"],
            "fingerprint": model["fingerprint"],
        },
    }
    for name in OF_ADD_ONS[:2]:
        data[name] = [{**one, "reference": one["name"]} for one in settings.get(name, ())]
    return data | {name: settings[name] for name in _LATER if name in settings}
