"""The JSON of Fooocus and InvokeAI, in the words of A1111's text as far as these have words for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from freeu.foreign.parameters import Parameters

SCHEME = "fooocus_scheme"
"""The text beside Fooocus' "parameters" that says whether these are JSON."""
INVOKEAI, INVOKEAI_GRAPH = "invokeai_metadata", "invokeai_graph"
_SIZE = re.compile(r"\(\s*'?(\d{1,5})'?\s*,\s*'?(\d{1,5})'?\s*\)")
FOOOCUS: Mapping[str, tuple[str, ...]] = {
    "Steps": ("steps", "Steps"),
    "Sampler": ("sampler", "Sampler"),
    "CFG scale": ("guidance_scale", "Guidance Scale"),
    "Seed": ("seed", "Seed"),
    "Model": ("base_model", "Base Model"),
    "FreeU": ("freeu", "FreeU"),
    "Version": ("version", "Version"),
}
"""Names of A1111, and those of Fooocus, the later ones first."""
_INVOKEAI = {"Steps": "steps", "Sampler": "scheduler", "CFG scale": "cfg_scale", "Seed": "seed"}


def is_fooocus(data: Any) -> bool:
    """Whether JSON data is what Fooocus writes."""
    if not isinstance(data, dict):
        return False
    return bool({"performance", "adm_guidance", "freeu", "Performance", "ADM Guidance", "FreeU"} & data.keys())


def is_invokeai(data: Any) -> bool:
    """Whether JSON data is InvokeAI's metadata."""
    return isinstance(data, dict) and bool({"positive_prompt", "generation_mode"} & data.keys())


def is_invokeai_graph(data: Any) -> bool:
    """Whether JSON data is a graph of InvokeAI."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), dict) and isinstance(data.get("edges"), list)


def read_fooocus(data: Mapping[str, Any]) -> Parameters:
    """What Fooocus' JSON says.

    >>> read_fooocus({"prompt": "a fox", "freeu": "(1.01, 1.02, 0.99, 0.95)", "steps": 30}).fields["FreeU"]
    '(1.01, 1.02, 0.99, 0.95)'
    """
    fields: dict[str, str] = {}
    for name, keys in FOOOCUS.items():
        value = next((data[key] for key in keys if key in data), None)
        if isinstance(value, (list, tuple)) and name == "FreeU":
            value = f"({', '.join(_text(one) for one in value)})"
        if _text(value):
            fields[name] = _text(value)
    size = _SIZE.fullmatch(_text(data.get("resolution", data.get("Resolution"))))
    if size is not None:
        fields["Size"] = f"{int(size[1])}x{int(size[2])}"
    wanted, unwanted = (
        _text(data.get(key, data.get(old)))
        for key, old in (("prompt", "Prompt"), ("negative_prompt", "Negative Prompt"))
    )
    return Parameters(wanted, unwanted, fields)


def read_invokeai(data: Mapping[str, Any], graph: Any = None) -> Parameters:
    """What InvokeAI's metadata says; FreeU stands in the graph beside it alone."""
    fields = {name: _text(data.get(key)) for name, key in _INVOKEAI.items()}
    width, height = _text(data.get("width")), _text(data.get("height"))
    if width and height:
        fields["Size"] = f"{width}x{height}"
    model = data.get("model")
    if isinstance(model, dict):
        fields["Model"] = _text(model.get("name", model.get("model_name")))
    fields["FreeU"] = _freeu_of_graph(graph) if is_invokeai_graph(graph) else ""
    known = {name: value for name, value in fields.items() if value}
    return Parameters(_text(data.get("positive_prompt")), _text(data.get("negative_prompt")), known)


def _freeu_of_graph(graph: Mapping[str, Any]) -> str:
    for node in graph["nodes"].values():
        if isinstance(node, dict) and node.get("type") == "freeu":
            factors = " ".join(f"{name}={_text(node.get(name))}" for name in ("b1", "b2", "s1", "s2"))
            return f"{factors} v=1 profile=diffusers"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return value if isinstance(value, str) else repr(value)
