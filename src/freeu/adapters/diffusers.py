"""U-Nets of diffusers whose up-blocks concatenate: UNet2DConditionModel, UNet2DModel and UNet3DConditionModel.

The last one is ModelScope's: between its spatial layers, which see (batch x frames) pictures, stand temporal ones.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from freeu.core.hooks import Host
from freeu.core.site import Site
from freeu.errors import NoSitesError

_FAMILIES = ("UNet2DConditionModel", "UNet2DModel", "UNet3DConditionModel")
# These blocks concatenate at most once, before the first of their resnets (the lowest one not at all); all others
# before each resnet.
_ONCE = ("KUpBlock2D", "KCrossAttnUpBlock2D")


class DiffusersHost(Host):
    """Calls of diffusers' U-Nets, and diffusers' own FreeU."""

    def conflict(self, model: nn.Module) -> str | None:
        for block in getattr(model, "up_blocks", ()):
            # Since a factor of 0 switches it off as a whole, diffusers' FreeU acts only if all four are set.
            if all(getattr(block, name, None) for name in ("s1", "s2", "b1", "b2")):
                return (
                    "diffusers' own FreeU is active on this model and would act a second time: call "
                    "pipe.disable_freeu() (or unet.disable_freeu()) first"
                )
        return None


class DiffusersUNet:
    """Finds the sites of diffusers' U-Nets from the widths that their blocks were built with."""

    def __init__(self) -> None:
        self.host: Host = DiffusersHost()

    def matches(self, model: nn.Module) -> bool:
        """True for these classes and those derived from them, without importing diffusers."""
        return any(c.__name__ in _FAMILIES and c.__module__.startswith("diffusers.") for c in type(model).__mro__)

    def find_sites(self, model: nn.Module) -> list[Site]:
        """Every concatenation, from the lowest resolution up.

        A resnet that receives one has backbone + skip input channels; the backbone's are the output channels of the
        module before it.
        """
        unet: Any = model
        model_channels = int(unet.config.block_out_channels[0])
        middle = unet.mid_block if getattr(unet, "mid_block", None) is not None else unet.down_blocks[-1]
        coming = _width(middle.resnets[-1])
        sites = []
        for index, block in enumerate(unet.up_blocks):
            kind = type(block).__name__
            for number, resnet in enumerate(block.resnets):
                skip = int(resnet.in_channels) - coming
                if kind not in _ONCE or (number == 0 and skip):
                    if skip <= 0:
                        raise NoSitesError(
                            f"up_blocks.{index}.resnets.{number} takes {resnet.in_channels} channels of which {coming} "
                            "come up the decoder: nothing is left for a skip connection"
                        )
                    path = f"up_blocks.{index}.resnets.{number}"
                    sites.append(Site(path, resnet, coming, skip, model_channels, index, kind))
                coming = _width(resnet)
        return sites


def _width(resnet: Any) -> int:
    """Output channels of a resnet: those of its last convolution, which k-blocks narrow below ``out_channels``."""
    return int(resnet.conv2.out_channels)
