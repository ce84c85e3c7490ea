"""The families of video U-Nets as one table: how to build a tiny one, how to call it, what its decoder looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tiny_pipelines import (
    tiny_i2vgenxl_unet,
    tiny_modelscope_unet,
    tiny_motion_unet,
    tiny_svd_unet,
    tiny_video_unet,
)
from torch import Tensor

CLIPS, FRAMES, SIDE = 2, 3, 16


@dataclass(frozen=True)
class Family:
    """A family of U-Nets, three levels with widths 1:2:4.

    Args:
        build: makes a tiny random model.
        layers: name of the argument for layers per level.
        base: width of the first level.
        channels: of the sample.
        first: whether frames come before channels in the sample.
        conditions: of a number of clips, as keyword arguments.
        timestep: as the family takes one.
        prefix: dotted path of the first site.
        blocks: class of the up-blocks (or what they are named after), from the lowest resolution up.
        by_index: sites that profile ``diffusers`` touches.
        options: further keyword arguments.
    """

    build: Callable[..., Any]
    conditions: Callable[[int], dict[str, Any]]
    prefix: str
    blocks: tuple[str, str, str]
    layers: str = "layers_per_block"
    base: int = 8
    channels: int = 4
    first: bool = False
    timestep: Callable[[float, int], Any] = lambda value, clips: value
    by_index: int = 4
    options: dict[str, Any] = field(default_factory=lambda: {"return_dict": False})

    def model(self, **changes: Any) -> Any:
        return self.build(**changes).eval()

    def sample(self, clips: int = CLIPS, frames: int = FRAMES) -> Tensor:
        x = torch.randn(clips, self.channels, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        return x.transpose(1, 2).contiguous() if self.first else x

    def run(self, model: Any, timestep: float = 10, sample: Tensor | None = None, **changes: Any) -> Tensor:
        """The output of one call, in whichever grad mode is on."""
        x = self.sample() if sample is None else sample
        conditions = self.conditions(len(x)) | changes
        found = model(x, self.timestep(timestep, len(x)), **conditions, **self.options)
        return found if isinstance(found, Tensor) else found[0]

    def __call__(self, model: Any, timestep: float = 10, sample: Tensor | None = None, **changes: Any) -> Tensor:
        """The output of one call in inference."""
        with torch.no_grad():
            return self.run(model, timestep, sample, **changes)


def text(clips: int, width: int = 16, length: int = 5) -> Tensor:
    return torch.randn(clips, length, width, generator=torch.Generator().manual_seed(2))


def _picture(clips: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        "encoder_hidden_states": text(clips),
        "fps": torch.full((clips,), 8),
        "image_latents": torch.randn(clips, 4, FRAMES, SIDE, SIDE, generator=generator),
        "image_embeddings": torch.randn(clips, 16, generator=generator),
    }


FAMILIES = {
    "UNet3DConditionModel": Family(
        tiny_video_unet,
        lambda clips: {"encoder_hidden_states": text(clips)},
        "up_blocks.0.resnets.0",
        ("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
    ),
    "UNetMotionModel": Family(
        tiny_motion_unet,
        lambda clips: {"encoder_hidden_states": text(clips).repeat_interleave(FRAMES, 0)},
        "up_blocks.0.resnets.0",
        ("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
    ),
    "I2VGenXLUNet": Family(
        tiny_i2vgenxl_unet,
        _picture,
        "up_blocks.0.resnets.0",
        ("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
    ),
    "UNetSpatioTemporalConditionModel": Family(
        tiny_svd_unet,
        lambda clips: {"encoder_hidden_states": text(clips, length=1), "added_time_ids": torch.ones(clips, 3)},
        "up_blocks.0.resnets.0",
        ("CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        base=32,
        channels=8,
        first=True,
        by_index=0,  # diffusers has no FreeU for it
    ),
    "UNetSD": Family(
        tiny_modelscope_unet,
        lambda clips: {"y": text(clips, 1024)},
        "output_blocks.0.0",
        ("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
        layers="num_res_blocks",
        base=32,
        timestep=lambda value, clips: torch.full((clips,), value),
        options={},
    ),
}
