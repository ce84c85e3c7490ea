"""Where each tool's rule acts on the U-Net of each family, written into docs/semantics.md.

    python scripts/coverage_of_tools.py

The U-Nets are the published layouts of diffusers' classes, without memory for their weights. Each cell is read from
``freeu.convert``: at how many concatenations the tool's stages 1, 2 and 3 act, of how many.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import freeu
from freeu.foreign.tools import TOOLS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "semantics.md"
BLOCK = re.compile(r"(<!-- tools: begin -->\n).*?(<!-- tools: end -->)", re.DOTALL)


def _unet(cls: str, **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        import diffusers

        with torch.device("meta"):
            return getattr(diffusers, cls)(**changes)

    return make


FAMILIES: dict[str, Callable[[], Any]] = {
    "Stable Diffusion 1.x, 2.x": _unet("UNet2DConditionModel"),
    "XL": _unet(
        "UNet2DConditionModel",
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        use_linear_projection=True,
    ),
    "ModelScope": _unet("UNet3DConditionModel"),
    "AnimateDiff": _unet("UNetMotionModel"),
    "Stable Video Diffusion": _unet("UNetSpatioTemporalConditionModel"),
    "I2VGen-XL": _unet("I2VGenXLUNet"),
    "Kandinsky 3": _unet("Kandinsky3UNet"),
}
"""The U-Net of each family, on no device."""


def cell(tool: str, unet: Any) -> str:
    """At how many concatenations each stage of a tool acts, of how many there are."""
    places = [site.place for site in freeu.convert("sd14", to=tool, model=unet).sites]
    if TOOLS[tool].stages == 0:
        return f"one by one, all {len(places)}"
    counts = [str(places.count(stage)) for stage in range(1, TOOLS[tool].stages + 1)]
    return f"{' + '.join(counts)} of {len(places)}"


def table() -> Iterator[str]:
    """The lines of the table; tools that act at the same places share one."""
    unets = [make() for make in FAMILIES.values()]
    rows: dict[tuple[str, ...], list[str]] = {}
    for tool in TOOLS:
        rows.setdefault(tuple(cell(tool, unet) for unet in unets), []).append(f"`{tool}`")
    yield f"| tool | {' | '.join(FAMILIES)} |"
    yield "|---" * (len(FAMILIES) + 1) + "|"
    for cells, tools in rows.items():
        yield f"| {', '.join(tools)} | {' | '.join(cells)} |"


def main() -> int:
    """Fill the page."""
    page = PAGE.read_text(encoding="utf-8")
    text = "\n".join(table()) + "\n"
    new = PAGE.with_suffix(".md.new")
    new.write_text(BLOCK.sub(lambda found: found[1] + text + found[2], page), encoding="utf-8")
    new.replace(PAGE)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
