"""The workflow that ComfyUI's page saves: nodes with widgets and numbered links, as the graph that it runs.

    {"nodes": [{"id": 3, "type": "KSampler", "inputs": [{"name": "model", "link": 1}], "widgets_values": [...]}],
     "links": [[1, 4, 0, 3, 0, "MODEL"]]}

Values of widgets have no names there: those of nodes that settings are read from stand below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "workflow"
_AFTER_SEED = "control_after_generate"
WIDGETS: Mapping[str, tuple[str, ...]] = {
    "KSampler": ("seed", _AFTER_SEED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", _AFTER_SEED, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "FreeU": ("b1", "b2", "s1", "s2"),
    "FreeU_V2": ("b1", "b2", "s1", "s2"),
    "FreeUExact": ("b1", "b2", "s1", "s2", "version", "start", "end", "config"),
    "PrimitiveNode": ("value",),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveString": ("value",),
}
_MUTED, _BYPASSED = 2, 4
_FURTHEST = 30


def is_workflow(data: Any) -> bool:
    """Whether JSON data is such a workflow."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list)


def graph_of(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The graph that ``comfyui.read_graph`` reads; bypassed nodes and reroutes are looked through, muted ones left out.

    >>> node = {"id": 1, "type": "FreeU", "widgets_values": [1.1, 1.2, 0.9, 0.2]}
    >>> graph_of({"nodes": [node], "links": []})["1"]["inputs"]["b2"]
    1.2
    """
    nodes = {
        str(node["id"]): node
        for node in workflow["nodes"]
        if isinstance(node, dict) and isinstance(node.get("type"), str) and isinstance(node.get("id"), (int, str))
    }
    links: dict[str, list[Any]] = {
        str(link[0]): link for link in workflow["links"] if isinstance(link, list) and len(link) >= 6
    }

    def source(number: Any) -> list[Any] | None:
        """The node and output at the beginning of a link."""
        for _ in range(_FURTHEST):
            link = links.get(str(number))
            node = nodes.get(str(link[1])) if link is not None else None
            if link is None or node is None or node.get("mode") == _MUTED:
                return None
            if node["type"] != "Reroute" and node.get("mode") != _BYPASSED:
                return [str(link[1]), link[2]]
            inside = [one for one in _inputs(node) if one.get("link") is not None]
            same = [one for one in inside if one.get("type") in (link[5], "*")]
            number = next((one["link"] for one in same), None)
        return None

    graph: dict[str, Any] = {}
    for name, node in nodes.items():
        if node.get("mode") in (_MUTED, _BYPASSED) or node["type"] == "Reroute":
            continue
        values, names = node.get("widgets_values"), WIDGETS.get(node["type"], ())
        inputs: dict[str, Any] = {}
        if isinstance(values, list):
            inputs = dict(zip(names, values, strict=False))
        elif isinstance(values, dict):
            inputs = {str(key): value for key, value in values.items()}
        for one in _inputs(node):
            begin = source(one["link"]) if one.get("link") is not None else None
            if begin is not None and isinstance(one.get("name"), str):
                inputs[one["name"]] = begin
        graph[name] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _inputs(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = node.get("inputs")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
