"""The form of OpenAI's guided-diffusion, which CompVis, sgm, ComfyUI and their forks carry on: ``output_blocks``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from freeu.adapters.named import CallHost, Family, Join, called_layer_by_layer, given_by, taken_by
from freeu.core.wrappers import unwrapped


def _joins(unet: Any) -> Iterator[Join]:
    """Every block of the decoder begins with the concatenation.

    Blocks are counted as diffusers counts them, a new one after each upsampling, and named as it names them when the
    same weights are converted: profile ``diffusers`` then means the same on both.
    """
    inside = called_layer_by_layer(unet)
    coming = given_by(unet.middle_block)
    index = 0
    for number, block in enumerate(map(unwrapped, unet.output_blocks)):
        path = f"output_blocks.{number}"
        first = unwrapped(block[0])
        yield Join(
            f"{path}.0" if inside else path, first if inside else block, taken_by(first), coming, index, _kind(block)
        )
        coming = given_by(block)
        index += type(block[-1]).__name__ == "Upsample" or (len(block) > 1 and getattr(block[-1], "updown", False))


def _kind(block: Any) -> str:
    layers = {type(layer).__name__ for layer in block}
    if "VideoResBlock" in layers:
        return "UpBlockSpatioTemporal"
    if "SpatialTransformer" in layers:
        return "CrossAttnUpBlock2D"
    return "AttnUpBlock2D" if "AttentionBlock" in layers else "UpBlock2D"


FAMILIES = (
    Family(
        "UNetModel of CompVis, sgm, guided-diffusion, ComfyUI",
        (),
        (),
        ("input_blocks", "middle_block", "output_blocks", "model_channels"),
        _joins,
        CallHost("x", "timesteps"),
        lambda unet: int(unet.model_channels),
    ),
)
