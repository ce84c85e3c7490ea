"""What FreeU does to a model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import IO, UI

from ..logic.report import report
from .exact import CATEGORY


class FreeUInspect(IO.ComfyNode):
    """Every concatenation of the decoder, and what FreeU does there."""

    @classmethod
    def define_schema(cls) -> Any:
        return IO.Schema(
            node_id="FreeUInspect",
            display_name="FreeU inspect",
            category=CATEGORY,
            description="Lists the concatenations of the decoder with their channels, stages and factors, and other "
            "nodes that patch the same place.",
            inputs=[IO.Model.Input("model")],
            outputs=[IO.String.Output("report")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any) -> Any:
        text = report(model)
        return IO.NodeOutput(text, ui=UI.PreviewText(text))
