"""The settings that were published for a model's family and a size."""

from __future__ import annotations

from typing import Any

from freeu.adapters.finding import unet_of
from freeu.errors import FreeUValueError
from freeu.scalecrafter.settings import ScaleCrafter, check_class, factor_of

# By factor: levels of encoder and decoder, the share of the steps, guidance. Read from the configurations beside the
# official code; for SDXL as they act: they name an encoder block 3, which SDXL does not have.
_PUBLISHED: dict[str, dict[float, tuple[tuple[int, int], float, str]]] = {
    "sd1": {2.0: ((3, 3), 0.6, "plain"), 2.5: ((3, 3), 0.7, "plain"), 4.0: ((3, 3), 0.7, "damped")},
    "sd2": {2.0: ((3, 3), 0.4, "plain"), 2.5: ((3, 3), 0.6, "plain"), 4.0: ((2, 4), 0.74, "damped")},
    "sdxl": {2.0: ((0, 1), 0.6, "plain"), 2.5: ((0, 1), 0.6, "plain"), 4.0: ((1, 3), 0.7, "damped")},
}


def recommend(model: Any, width: int, height: int, native: int | None = None) -> ScaleCrafter:
    """The settings that were published for the nearest family and factor (2, 2.5 or 4).

    SDXL and Stable Diffusion 2.x are told from the model's configuration. Every other model gets the settings of
    Stable Diffusion 1.x, with every level but the one of the highest resolution, as there.

    Args:
        model: a pipeline of diffusers, or its U-Net.
        width, height: of the image, in pixels.
        native: side in pixels of the images that the model was trained on; None takes it from a pipeline's
            configuration.

    Raises:
        FreeUValueError: a size that is not above the model's own or beyond four times that; a U-Net of another class;
            no ``native`` for a U-Net alone.

    >>> from diffusers import UNet2DConditionModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    >>> widths = {"block_out_channels": (8, 16, 32), "norm_num_groups": 4, "layers_per_block": 1}
    >>> recommend(UNet2DConditionModel(**blocks, **widths), 1024, 768, native=512)
    ScaleCrafter(factor=2.0, levels=(2, 2), end=0.6, guidance='plain')
    """
    unet = scalable(model)
    if native is None:
        native = _native(model, unet)
    factor = factor_of(width, height, native, type(unet).__name__)
    rows = _PUBLISHED[_family(unet)]
    levels, end, guidance = rows[min(rows, key=lambda known: abs(known - factor))]
    if _family(unet) == "sd1":
        levels = (max(len(unet.down_blocks) - 1, 1),) * 2
    return ScaleCrafter(factor, levels, end, guidance)


def scalable(model: Any) -> Any:
    """The U-Net of a model.

    Raises:
        FreeUValueError: it is none whose convolutions ScaleCrafter knows.
    """
    unet: Any = unet_of(model)
    check_class(cls.__name__ for cls in type(unet).__mro__)
    return unet


def _native(model: Any, unet: Any) -> int:
    side, factor = getattr(unet.config, "sample_size", None), getattr(model, "vae_scale_factor", None)
    if not isinstance(side, int) or not isinstance(factor, int):
        raise FreeUValueError("the model does not say for which size it was made: give native=PIXELS")
    return side * factor


def _family(unet: Any) -> str:
    if unet.config.get("addition_embed_type") == "text_time" and len(unet.down_blocks) == 3:
        return "sdxl"
    return "sd2" if unet.config.get("cross_attention_dim") == 1024 and len(unet.down_blocks) == 4 else "sd1"
