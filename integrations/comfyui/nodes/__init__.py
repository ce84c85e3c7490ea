"""The nodes, on ComfyUI's V3 API."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension

from .exact import FreeUExact


class FreeUExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[Any]:
        return [FreeUExact]


async def comfy_entrypoint() -> FreeUExtension:
    """What ComfyUI calls when it loads the folder."""
    return FreeUExtension()
