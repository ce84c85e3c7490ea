"""Settings along two axes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import IO

from ..logic.axes import grid
from .exact import CATEGORY


class FreeUGrid(IO.ComfyNode):
    """One text of settings for each cell of a grid: what follows runs once for each."""

    @classmethod
    def define_schema(cls) -> Any:
        return IO.Schema(
            node_id="FreeUGrid",
            display_name="FreeU X/Y",
            category=CATEGORY,
            description="Settings along one or two axes. Connect config to FreeU (exact): the sampler runs once for "
            "each, row after row. columns is for Make Image Grid.",
            inputs=[
                IO.String.Input("x", default="b1=1,1.2,1.4", tooltip="Such as b1=1,1.2,1.4 or s2=0:1:0.25."),
                IO.String.Input("y", default="", optional=True, tooltip="A second axis, or nothing."),
                IO.String.Input(
                    "config",
                    default="b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 profile=comfyui",
                    optional=True,
                    tooltip="What all cells have, but for the axes.",
                ),
            ],
            outputs=[
                IO.String.Output("configs", display_name="config", is_output_list=True),
                IO.String.Output("labels", display_name="label", is_output_list=True),
                IO.Int.Output("columns"),
            ],
        )

    @classmethod
    def execute(cls, x: str, y: str = "", config: str = "") -> Any:
        return IO.NodeOutput(*grid(config, x, y))
