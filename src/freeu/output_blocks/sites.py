"""Where the decoder of such a U-Net joins its backbone with a skip: one place in each of its output blocks."""

from __future__ import annotations

from typing import Any

from freeu.adapters import adapter_for
from freeu.core.site import Site
from freeu.errors import NoSitesError


def find_sites(model: Any) -> list[Site]:
    """The concatenations of a model, in the order in which the decoder runs them.

    Args:
        model: ComfyUI's ``ModelPatcher`` (the type MODEL), or Forge's ``UnetPatcher``.

    Returns:
        sites whose number is that of the output block; paths are those of the U-Net's own modules.

    Raises:
        NoSitesError: no U-Net with output blocks: a transformer such as Flux or SD 3, or a compiled engine.
    """
    unet = model.model.diffusion_model
    if not all(hasattr(unet, name) for name in ("input_blocks", "output_blocks", "model_channels")):
        raise NoSitesError(
            f"FreeU acts where a U-Net joins its decoder with skip connections, and {type(unet).__name__} of "
            f"{type(model.model).__name__} is no such U-Net: use a checkpoint of Stable Diffusion 1.x, 2.x or XL, or "
            "leave FreeU out"
        )
    return adapter_for(unet).find_sites(unet)
