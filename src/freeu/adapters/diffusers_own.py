"""U-Nets of diffusers with blocks of their own: Kandinsky 3, Stable Cascade, and those of sequences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from freeu.adapters.keyword import ChannelsLast
from freeu.adapters.named import CallHost, Family, Join, given_by, taken_by
from freeu.core.hooks import Host
from freeu.core.wrappers import unwrapped


def _of_kandinsky(unet: Any) -> Iterator[Join]:
    """Every block but the lowest receives one of the encoder's outputs."""
    blocks = [unwrapped(block) for block in unet.up_blocks]
    for index, block in enumerate(blocks[1:], start=1):
        coming = given_by(blocks[index - 1].resnets_out[-1])
        yield Join(f"up_blocks.{index}", block, taken_by(block.resnets_in[0]), coming, index, type(block).__name__)


def _of_cascade(unet: Any) -> Iterator[Join]:
    """The first block of every level but the lowest concatenates within its forward, behind a convolution; what reads
    that has the channels last."""
    for index, level in enumerate(unet.up_blocks):
        first = unwrapped(level[0])
        if index and type(first).__name__ == "SDCascadeResBlock":
            coming = int(first.depthwise.out_channels)
            reader = first.channelwise
            yield Join(
                f"up_blocks.{index}.0.channelwise",
                ChannelsLast(reader),
                int(reader[0].in_features),
                coming,
                index,
                type(first).__name__,
            )


def _of_sequences(unet: Any) -> Iterator[Join]:
    """The first layer of every block receives two maps of the same width."""
    for index, block in enumerate(map(unwrapped, unet.up_blocks)):
        first = unwrapped(block.resnets[0])
        taken = taken_by(first)
        yield Join(f"up_blocks.{index}.resnets.0", first, taken, taken // 2, index, type(block).__name__)


FAMILIES = (
    Family("Kandinsky3UNet of diffusers", ("diffusers",), ("Kandinsky3UNet",), ("up_blocks",), _of_kandinsky, Host()),
    Family(
        "StableCascadeUNet of diffusers",
        ("diffusers",),
        ("StableCascadeUNet",),
        ("up_blocks",),
        _of_cascade,
        CallHost("sample", "timestep_ratio", continuous=True, centred=True),
    ),
    Family("UNet1DModel of diffusers", ("diffusers",), ("UNet1DModel",), ("up_blocks",), _of_sequences, Host()),
)
