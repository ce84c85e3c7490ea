"""FreeU with all its options."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import IO

from freeu.output_blocks.patching import freeu_on

from ..logic.settings import settings

CATEGORY = "model/patch/unet"


def factor(name: str, usual: float) -> Any:
    """A widget of one factor."""
    return IO.Float.Input(name, default=usual, min=0.0, max=10.0, step=0.01)


class FreeUExact(IO.ComfyNode):
    """Both operators in closed form, on the clone of a model."""

    @classmethod
    def define_schema(cls) -> Any:
        return IO.Schema(
            node_id="FreeUExact",
            display_name="FreeU (exact)",
            category=CATEGORY,
            description="FreeU versions 1 and 2 without FFT, with a window of steps, a region and every option of the "
            "package freeu. The same factors as FreeU and FreeU_V2 give the same image.",
            search_aliases=["FreeU", "FreeU_V2", "freelunch"],
            inputs=[
                IO.Model.Input("model"),
                factor("b1", 1.3),
                factor("b2", 1.4),
                factor("s1", 0.9),
                factor("s2", 0.2),
                IO.Combo.Input(
                    "version",
                    options=["2", "1"],
                    default="2",
                    tooltip="2 scales the backbone by its structure map (FreeU_V2), 1 by a constant (FreeU).",
                ),
                IO.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where FreeU begins, in percent of the model's noise schedule: 0 is pure noise.",
                ),
                IO.Float.Input("end", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="Where it ends."),
                IO.String.Input(
                    "config",
                    default="",
                    optional=True,
                    tooltip="More settings, as JSON or as words such as mask=radial dc=keep. What stands here wins "
                    "over the widgets.",
                ),
                IO.Mask.Input("region", optional=True, tooltip="Where in the image FreeU acts: 1 in full, 0 not."),
            ],
            outputs=[IO.Model.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        b1: float,
        b2: float,
        s1: float,
        s2: float,
        version: str = "2",
        start: float = 0.0,
        end: float = 1.0,
        config: str = "",
        region: Any = None,
    ) -> Any:
        chosen = settings(config, b1, b2, s1, s2, int(version))
        return IO.NodeOutput(freeu_on(model, chosen, start, end, region))
