"""What ComfyUI is told about the nodes that ``FreeUExact`` can take the place of."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import IO, ComfyAPI

FACTORS = ("b1", "b2", "s1", "s2")


def replacements() -> list[Any]:
    """FreeU and FreeU_V2 as ``FreeUExact``: the same factors, the operator version by the node's name."""
    return [
        IO.NodeReplace(
            new_node_id="FreeUExact",
            old_node_id=old,
            old_widget_ids=list(FACTORS),
            input_mapping=[
                *({"new_id": name, "old_id": name} for name in ("model", *FACTORS)),
                {"new_id": "version", "set_value": version},
            ],
            output_mapping=[{"new_idx": 0, "old_idx": 0}],
        )
        for old, version in (("FreeU", "1"), ("FreeU_V2", "2"))
    ]


async def register_replacements() -> None:
    """Tell ComfyUI; a core without this part of its API is left alone.

    The core replaces a node by itself only where it lacks that node, so its own FreeU nodes go on as they are.
    """
    if not hasattr(IO, "NodeReplace"):
        return
    api = ComfyAPI()
    for one in replacements():
        await api.node_replacement.register(one)
