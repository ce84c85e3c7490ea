"""A plan whose model nothing loads, for tests of what is done with plans."""

from __future__ import annotations

from typing import Any

from freeu.pipelines.runs.plan import ModelReference, Plan

MODEL = ModelReference("embedded", "mini-sd", "mini-sd", "StableDiffusionPipeline", "0" * 64)


def made_plan(**changes: Any) -> Plan:
    """A small plan of images without FreeU, on one thread."""
    fields: dict[str, Any] = {
        "command": "generate",
        "prompts": ("a fox",),
        "negative_prompt": "",
        "seeds": (0,),
        "arms": ("baseline",),
        "config": None,
        "model": MODEL,
        "task": "text",
        "steps": 2,
        "guidance": 3.0,
        "scheduler": None,
        "width": 64,
        "height": 64,
        "image_sha": None,
        "mask_sha": None,
        "image_strength": None,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
    }
    return Plan(**{**fields, **changes})
