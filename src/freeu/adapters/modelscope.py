"""Video U-Nets of the ``modelscope`` package: UNetSD (text-to-video synthesis) and those built after its pattern.

Their forward is a loop: ``x = torch.cat([x, xs.pop()], dim=1)`` before each entry of ``output_blocks``, whose first
layer, a ResBlock, receives x of shape (batch x frames, channels, height, width), frames of a video in a row.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from freeu.core.hooks import Host
from freeu.core.site import Site
from freeu.core.wrappers import unwrapped
from freeu.errors import NoSitesError

# Text-to-video, VideoComposer, image-to-video, video-to-video. Forks carry these classes under other module names.
FAMILIES = ("UNetSD", "UNetSD_temporal", "Img2VidSDUNet", "Vid2VidSDUNet")


class ModelScopeHost(Host):
    """Calls of the form ``unet(x, t, y, ...)`` with x of shape (B, C, F, H, W)."""

    stacked = False  # ModelScope's own sampler calls the U-Net once for each half of guidance

    def sample(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Tensor = args[0] if args else kwargs["x"]
        return value

    def timestep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[1] if len(args) > 1 else kwargs.get("t")

    def frames(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return int(self.sample(args, kwargs).shape[2])


class ModelScopeUNet:
    """Finds the sites of ModelScope's video U-Nets from the widths of their ResBlocks."""

    def __init__(self) -> None:
        self.host: Host = ModelScopeHost()

    def matches(self, model: nn.Module) -> bool:
        """True for these classes and those derived from them that have a decoder of this form."""
        named = any(c.__name__ in FAMILIES for c in type(model).__mro__)
        return named and all(hasattr(model, part) for part in ("dim", "middle_block", "output_blocks"))

    def find_sites(self, model: nn.Module) -> list[Site]:
        """Every concatenation, from the lowest resolution up.

        Blocks are counted as diffusers counts them, a new one after each upsampling, and named as it names them when
        the same weights are converted: profile ``diffusers`` then means the same on both.
        """
        unet: Any = model
        model_channels = int(unet.dim)
        coming = _channels(unet.middle_block[-1], "out_channels", "middle_block")
        sites = []
        index = 0
        for number, block in enumerate(map(unwrapped, unet.output_blocks)):
            path = f"output_blocks.{number}.0"
            first: Any = unwrapped(block[0])
            skip = _channels(first, "channels", path) - coming
            if skip <= 0:
                raise NoSitesError(
                    f"{path} takes {first.channels} channels of which {coming} come up the decoder: nothing is left "
                    "for a skip connection"
                )
            attends = any(type(layer).__name__ == "SpatialTransformer" for layer in block)
            kind = "CrossAttnUpBlock3D" if attends else "UpBlock3D"
            sites.append(Site(path, first, coming, skip, model_channels, index, kind))
            coming = int(first.out_channels)
            index += type(block[-1]).__name__ == "Upsample"
        return sites


def _channels(layer: Any, name: str, path: str) -> int:
    value = getattr(layer, name, None)
    if not isinstance(value, int):
        raise NoSitesError(f"{path} should be a ResBlock of known width, got {type(layer).__name__}")
    return value
