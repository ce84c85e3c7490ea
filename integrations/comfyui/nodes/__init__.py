"""The nodes, on ComfyUI's V3 API."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension

from .exact import FreeUExact
from .grid import FreeUGrid
from .images import FreeUFromImage
from .inspector import FreeUInspect
from .presets import FreeUPreset, register_folder
from .replacing import register_replacements


class FreeUExtension(ComfyExtension):
    """All nodes of the pack."""

    async def on_load(self) -> None:
        register_folder()
        await register_replacements()

    async def get_node_list(self) -> list[Any]:
        return [FreeUExact, FreeUPreset, FreeUInspect, FreeUGrid, FreeUFromImage]


async def comfy_entrypoint() -> FreeUExtension:
    """What ComfyUI calls when it loads the folder."""
    return FreeUExtension()
