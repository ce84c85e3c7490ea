"""The U-Nets of lucidrains' packages, whose ``ups`` are lists of layers: for images, sequences, volumes and videos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from freeu.adapters.named import CallHost, Family, Join, given_by, taken_by
from freeu.core.wrappers import unwrapped

_HOST = CallHost("x", "time")


def _blocks(path: str, layers: Any) -> Iterator[tuple[str, nn.Module]]:
    """The residual blocks in a list of layers, and in lists within it."""
    for number, layer in enumerate(layers):
        inside, below = unwrapped(layer), f"{path}.{number}"
        if isinstance(inside, nn.ModuleList):
            yield from _blocks(below, inside)
        elif type(inside).__name__ == "ResnetBlock":
            yield below, inside


def _by_width(unet: Any) -> Iterator[Join]:
    """Blocks that take more channels than they give receive a concatenation, and give what comes up the decoder."""
    for level, layers in enumerate(unet.ups):
        for path, block in _blocks(f"ups.{level}", layers):
            taken, given = taken_by(block), given_by(block)
            if taken > given:
                yield Join(path, block, taken, given, level, type(unet).__name__)


def _by_halves(unet: Any) -> Iterator[Join]:
    """The first block of each level receives two maps of the same width; it narrows them for the next level."""
    for level, layers in enumerate(unet.ups):
        path, block = next(_blocks(f"ups.{level}", layers))
        yield Join(path, block, taken_by(block), taken_by(block) // 2, level, type(unet).__name__)


def _of_karras(unet: Any) -> Iterator[Join]:
    """EDM2's decoders: all but those that upsample receive two maps of the same width."""
    level = 0
    for number, decoder in enumerate(map(unwrapped, unet.ups)):
        if decoder.needs_skip:
            taken = taken_by(decoder)
            yield Join(f"ups.{number}", decoder, taken, taken // 2, level, type(unet).__name__)
        else:
            level += 1


FAMILIES = (
    Family(
        "KarrasUnet of denoising-diffusion-pytorch",
        ("denoising_diffusion_pytorch",),
        ("KarrasUnet", "KarrasUnet1D", "KarrasUnet3D"),
        ("downs", "mids", "ups"),
        _of_karras,
        _HOST,
    ),
    Family(
        "Unet, Unet1D, UViT of denoising-diffusion-pytorch",
        ("denoising_diffusion_pytorch",),
        ("Unet", "Unet1D", "UViT"),
        ("downs", "ups", "final_res_block"),
        _by_width,
        _HOST,
    ),
    Family(
        "Unet, Unet3D of imagen-pytorch", ("imagen_pytorch",), ("Unet", "Unet3D"), ("downs", "ups"), _by_width, _HOST
    ),
    Family(
        "Unet3D of video-diffusion-pytorch",
        ("video_diffusion_pytorch",),
        ("Unet3D",),
        ("downs", "ups"),
        _by_halves,
        _HOST,
    ),
)
