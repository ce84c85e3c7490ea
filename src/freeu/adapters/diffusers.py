"""U-Nets of diffusers whose up-blocks concatenate: those for images and those for videos.

In those for videos the spatial layers, which the sites belong to, see (batch x frames) images: the frames of a video
are rows of the batch that follow each other. Between them stand temporal layers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from freeu.adapters.keyword import ByKeyword
from freeu.core.hooks import Host, Residuals, no_residuals
from freeu.core.site import Site
from freeu.core.wrappers import unwrapped
from freeu.errors import NoSitesError

# The classes, and which axis of their sample counts the frames of a video.
FAMILIES: dict[str, int | None] = {
    "UNet2DConditionModel": None,
    "UNet2DModel": None,
    "UNet3DConditionModel": 2,
    "UNetMotionModel": 2,
    "I2VGenXLUNet": 2,
    "UNetSpatioTemporalConditionModel": 1,
    "UNetControlNetXSModel": None,
}
# Those that take a ControlNet's residuals, the position of that argument (the residual of the middle block follows it),
# and whether the first without the second are something else: a T2I-Adapter's, by an older name.
_RESIDUALS: dict[str, tuple[int, bool]] = {
    "UNet2DConditionModel": (8, True),
    "UNet3DConditionModel": (7, False),
    "UNetMotionModel": (7, False),
}
# These blocks concatenate at most once, before the first of their resnets (the lowest one not at all); all others
# before each resnet.
_ONCE = ("KUpBlock2D", "KCrossAttnUpBlock2D")
# These blocks hand the concatenation to their resnets as a keyword argument of that name.
_KEYWORD = {"UpBlockMotion": "input_tensor", "CrossAttnUpBlockMotion": "input_tensor"}


class DiffusersHost(Host):
    """Calls of diffusers' U-Nets, and diffusers' own FreeU.

    Args:
        frames_axis: of the sample of a U-Net for videos; None for images.
    """

    def __init__(self, frames_axis: int | None = None) -> None:
        self.frames_axis = frames_axis
        # Of Stable Video Diffusion, the one whose sample has its frames before its channels.
        self.continuous = frames_axis == 1

    def frames(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return 1 if self.frames_axis is None else int(self.sample(args, kwargs).shape[self.frames_axis])

    def residuals(self, model: nn.Module) -> Residuals:
        for cls in type(model).__mro__:
            if cls.__name__ in _RESIDUALS:
                return functools.partial(_control, *_RESIDUALS[cls.__name__])
        return no_residuals

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
    """Finds the sites of diffusers' U-Nets from the widths that their blocks were built with.

    Args:
        frames_axis: serves the classes with this value in ``FAMILIES``.
    """

    def __init__(self, frames_axis: int | None = None) -> None:
        self.host: Host = DiffusersHost(frames_axis)
        self._names = tuple(name for name, axis in FAMILIES.items() if axis == frames_axis)

    def matches(self, model: nn.Module) -> bool:
        """True for these classes and those derived from them, without importing diffusers."""
        return any(c.__name__ in self._names and c.__module__.startswith("diffusers.") for c in type(model).__mro__)

    def find_sites(self, model: nn.Module) -> list[Site]:
        """Every concatenation, from the lowest resolution up.

        A resnet that receives one has backbone + skip input channels; the backbone's are the output channels of the
        module before it.
        """
        unet: Any = model
        model_channels = int(unet.config.block_out_channels[0])
        middle = unet.mid_block if getattr(unet, "mid_block", None) is not None else unet.down_blocks[-1]
        middle = getattr(middle, "base_midblock", middle)  # ControlNet-XS keeps the base model's beside its own
        coming = _width(middle.resnets[-1])
        sites = []
        earlier = 0  # resnets of the up-blocks so far: each has one of the encoder's outputs, taken from the last on
        for index, block in enumerate(map(unwrapped, unet.up_blocks)):
            kind = type(block).__name__
            for number, resnet in enumerate(map(unwrapped, block.resnets)):
                taken = int(_spatial(resnet).in_channels)
                skip = taken - coming
                if kind not in _ONCE or (number == 0 and skip):
                    path = f"up_blocks.{index}.resnets.{number}"
                    if skip <= 0:
                        raise NoSitesError(
                            f"{path} takes {taken} channels of which {coming} come up the decoder: nothing is left "
                            "for a skip connection"
                        )
                    module = ByKeyword(resnet, _KEYWORD[kind]) if kind in _KEYWORD else resnet
                    sites.append(Site(path, module, coming, skip, model_channels, index, kind, earlier + number))
                coming = _width(resnet)
            earlier += len(block.resnets)
        return sites


def _control(place: int, both: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor]:
    """The residuals that are added to the encoder's outputs.

    Those of T2I-Adapters (``down_intrablock_additional_residuals``) are none: the encoder works on with them.
    """
    down = args[place] if len(args) > place else kwargs.get("down_block_additional_residuals")
    middle = args[place + 1] if len(args) > place + 1 else kwargs.get("mid_block_additional_residual")
    if down is None or (both and middle is None):
        return ()
    return tuple(down)


def _spatial(resnet: Any) -> Any:
    """The resnet that sees images, and whose widths are those of its wrapper."""
    if type(resnet).__name__ == "SplitInferenceModule":  # FreeNoise: runs long videos in chunks of frames
        resnet = resnet.module
    return getattr(resnet, "spatial_res_block", resnet)  # Stable Video Diffusion: a temporal resnet follows it


def _width(resnet: Any) -> int:
    """Output channels of a resnet: those of its last convolution, which k-blocks narrow below ``out_channels``."""
    last = _spatial(unwrapped(resnet)).conv2
    last = getattr(last, "pointwise", last)  # DreamLite's is depthwise and then pointwise
    return int(getattr(last, "base_layer", last).out_channels)  # PEFT wraps the convolutions that a LoRA changes
