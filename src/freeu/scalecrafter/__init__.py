"""Images above a model's own size without training: ScaleCrafter (He et al. 2023, arXiv:2310.07702).

settings.py     what is dilated, how far and when, as a frozen value; no torch
published.py    the published settings for a model and a size
convolution.py  the re-dilated convolution
dilation.py     what puts it into a U-Net and takes it out, and noise-damped guidance

FreeU acts where a decoder concatenates and ScaleCrafter in the convolutions, so both can be on at once, in any order.
Knows diffusers' ``UNet2DConditionModel`` (Stable Diffusion 1.x, 2.x and XL); loads no model and writes no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.scalecrafter.dilation import Dilation, enabled
    from freeu.scalecrafter.published import recommend
    from freeu.scalecrafter.settings import ScaleCrafter

_HOMES = {
    "freeu.scalecrafter.dilation": ("Dilation", "enabled"),
    "freeu.scalecrafter.published": ("recommend",),
    "freeu.scalecrafter.settings": ("ScaleCrafter",),
}

__all__ = ["Dilation", "ScaleCrafter", "enabled", "recommend"]


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
