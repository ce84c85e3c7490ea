"""Where the decoder of ComfyUI's U-Net joins its backbone with a skip: one place in each of its output blocks."""

from __future__ import annotations

from typing import Any

from freeu import NoSitesError
from freeu.core.site import Site


def find_sites(model: Any) -> list[Site]:
    """The concatenations of a model, in the order in which the decoder runs them.

    Args:
        model: ComfyUI's ``ModelPatcher``, the type MODEL.

    Returns:
        sites whose number is that of the output block; paths are those of the U-Net's own modules.

    Raises:
        NoSitesError: no U-Net of ComfyUI's: a transformer such as Flux or SD 3, or a compiled engine.
    """
    unet = model.model.diffusion_model
    config = getattr(getattr(model.model, "model_config", None), "unet_config", None) or {}
    width, blocks = config.get("model_channels"), getattr(unet, "output_blocks", None)
    if not isinstance(width, int) or blocks is None or not hasattr(unet, "input_blocks"):
        raise NoSitesError(
            f"FreeU acts where a U-Net joins its decoder with skip connections, and {type(unet).__name__} of "
            f"{type(model.model).__name__} is no such U-Net: use a checkpoint of Stable Diffusion 1.x, 2.x or XL, or "
            "take the node out"
        )
    backbone = unet.input_blocks[-1][0].out_channels
    sites: list[Site] = []
    level = 0
    attends = [any(hasattr(layer, "transformer_blocks") for layer in block) for block in blocks]
    ends = [type(block[-1]).__name__ == "Upsample" for block in blocks]
    for number, block in enumerate(blocks):
        resnet = block[0]
        within = [attends[place] for place in range(len(blocks)) if sum(ends[:place]) == level]
        sites.append(
            Site(
                path=f"output_blocks.{number}.0",
                module=resnet,
                backbone_channels=backbone,
                skip_channels=resnet.channels - backbone,
                model_channels=width,
                block=level,
                # As diffusers calls an up-block with and without attention.
                block_type="CrossAttnUpBlock2D" if any(within) else "UpBlock2D",
            )
        )
        backbone = resnet.out_channels
        level += ends[number]
    return sites
