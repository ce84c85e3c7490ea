"""U-Nets of MONAI, k-diffusion, smalldiffusion and stable-diffusion-pytorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from freeu.adapters.named import CallHost, Family, Join, given_by, taken_by
from freeu.core.wrappers import unwrapped


def _of_monai(unet: Any) -> Iterator[Join]:
    coming = int(unwrapped(unet.middle_block.resnet_2).out_channels)
    for index, block in enumerate(map(unwrapped, unet.up_blocks)):
        for number, resnet in enumerate(map(unwrapped, block.resnets)):
            yield Join(
                f"up_blocks.{index}.resnets.{number}", resnet, int(resnet.channels), coming, index, type(block).__name__
            )
            coming = int(resnet.out_channels)


def _of_k_diffusion(model: Any) -> Iterator[Join]:
    """The first layer of every block but the lowest receives two maps of the same width; stages that are skipped come
    last."""
    blocks = model.u_net.u_blocks
    for index in range(1, len(blocks) - model.u_net.skip_stages):
        first = unwrapped(blocks[index][0])
        taken = taken_by(first)
        yield Join(f"u_net.u_blocks.{index}.0", first, taken, taken // 2, index, type(blocks[index]).__name__)


def _of_smalldiffusion(unet: Any) -> Iterator[Join]:
    coming = given_by(unet.mid)
    for level, up in enumerate(unet.ups):
        for number, block in enumerate(map(unwrapped, up.blocks)):
            yield Join(f"ups.{level}.blocks.{number}", block, taken_by(block), coming, level, type(unet).__name__)
            coming = given_by(block)


def _of_stable_diffusion_pytorch(model: Any) -> Iterator[Join]:
    coming = given_by(model.unet.bottleneck)
    index = 0
    for number, block in enumerate(map(unwrapped, model.unet.decoders)):
        attends = any(type(layer).__name__ == "AttentionBlock" for layer in block)
        kind = "CrossAttnUpBlock2D" if attends else "UpBlock2D"
        yield Join(f"unet.decoders.{number}", block, taken_by(block), coming, index, kind)
        coming = given_by(block)
        index += type(block[-1]).__name__ == "Upsample"


class EmbeddedTimeHost(CallHost):
    """Calls of stable-diffusion-pytorch, which gives the timestep as its embedding (1, C): the cosines, then the sines,
    of t / 10000 ** (2 i / C)."""

    def timestep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        embedding = super().timestep(args, kwargs)
        half = embedding.shape[-1] // 2
        # The lowest frequency: its angle stays below half a turn at every timestep.
        angle = torch.atan2(embedding[..., -1], embedding[..., half - 1])
        return angle.double() * 10000.0 ** ((half - 1) / half)


FAMILIES = (
    Family(
        "DiffusionModelUNet, SPADEDiffusionModelUNet of MONAI",
        ("monai",),
        ("DiffusionModelUNet", "SPADEDiffusionModelUNet"),
        ("middle_block", "up_blocks"),
        _of_monai,
        CallHost("x", "timesteps"),
    ),
    Family(
        "ImageDenoiserModelV1 of k-diffusion",
        ("k_diffusion",),
        ("ImageDenoiserModelV1",),
        ("u_net",),
        _of_k_diffusion,
        CallHost("input", "sigma"),
    ),
    Family(
        "Unet of smalldiffusion",
        ("smalldiffusion",),
        ("Unet",),
        ("downs", "mid", "ups"),
        _of_smalldiffusion,
        CallHost("x", "sigma"),
    ),
    Family(
        "Diffusion of stable-diffusion-pytorch",
        ("stable_diffusion_pytorch",),
        ("Diffusion",),
        ("unet", "time_embedding"),
        _of_stable_diffusion_pytorch,
        EmbeddedTimeHost("latent", "time", place=2),
    ),
)
