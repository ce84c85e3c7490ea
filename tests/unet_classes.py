"""Every real U-Net class that the contract is run on: of diffusers, of ModelScope and of other packages."""

from __future__ import annotations

from typing import Any

import torch
from foreign_unets import FOREIGN, LEVEL, TIME, Foreign, noise
from video_families import CLIPS, FAMILIES

from conftest import tiny_unet


def _up(*per_level: int) -> tuple[str, ...]:
    return tuple(
        f"up_blocks.{level}.resnets.{number}" for level, count in enumerate(per_level) for number in range(count)
    )


def _of_video(name: str) -> Foreign:
    family = FAMILIES[name]
    module = "modelscope.models.multi_modal.video_synthesis.unet_sd" if name == "UNetSD" else "diffusers"
    sites = tuple(f"output_blocks.{number}.0" for number in range(6)) if name == "UNetSD" else _up(2, 2, 2)
    return Foreign(
        f"{'ModelScope' if name == 'UNetSD' else 'diffusers'} {name}",
        module,
        name,
        {},
        lambda: (family.sample(), family.timestep(500, CLIPS)),
        sites,
        kwargs=lambda: {**family.conditions(CLIPS), **family.options},
        make=lambda _cls: family.model(),
    )


def _controlnet_xs(cls: Any) -> Any:
    from diffusers import ControlNetXSAdapter

    unet = tiny_unet(use_linear_projection=True)
    control = ControlNetXSAdapter.from_unet(unet, size_ratio=0.5, conditioning_embedding_out_channels=(16, 32))
    return cls.from_unet(unet, control)


_XL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
_ALL = (
    Foreign(
        "diffusers UNet2DConditionModel (Stable Diffusion 1.5)",
        "diffusers",
        "UNet2DConditionModel",
        {},
        lambda: (noise(2, 4, 16, 16), torch.tensor(500), noise(2, 7, 8)),
        _up(3, 3, 3, 3),
        make=lambda _cls: tiny_unet(),
    ),
    Foreign(
        "diffusers UNet2DConditionModel (XL)",
        "diffusers",
        "UNet2DConditionModel",
        _XL,
        lambda: (noise(2, 4, 16, 16), torch.tensor(500), noise(2, 7, 8)),
        _up(3, 3, 3),
        make=lambda _cls, **options: tiny_unet((8, 16, 32), **options),
    ),
    Foreign(
        "diffusers UNet2DModel",
        "diffusers",
        "UNet2DModel",
        {
            "sample_size": 16,
            "block_out_channels": (8, 16, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "attention_head_dim": 8,
        },
        lambda: (noise(2, 3, 16, 16), torch.tensor(500)),
        _up(2, 2, 2),
    ),
    Foreign(
        "diffusers DreamLiteUNetModel",
        "diffusers",
        "DreamLiteUNetModel",
        {
            "block_out_channels": (8, 16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
        },
        lambda: (noise(2, 4, 16, 16), torch.tensor(500), noise(2, 7, 16)),
        _up(2, 2, 2),
    ),
    Foreign(
        "diffusers UNetControlNetXSModel",
        "diffusers",
        "UNetControlNetXSModel",
        {},
        lambda: (noise(2, 4, 16, 16), torch.tensor(500), noise(2, 7, 8), noise(2, 3, 32, 32)),
        _up(3, 3, 3, 3),
        kwargs=lambda: {"return_dict": False},
        left=("down_blocks.3.ctrl_resnets.0", "down_blocks.3.ctrl_resnets.1", "mid_block.ctrl_midblock"),
        make=_controlnet_xs,
    ),
    Foreign(
        "diffusers StableCascadeUNet",
        "diffusers",
        "StableCascadeUNet",
        {
            "in_channels": 4,
            "out_channels": 4,
            "timestep_ratio_embedding_dim": 16,
            "conditioning_dim": 16,
            "block_out_channels": (8, 16, 32),
            "num_attention_heads": (1, 2, 4),
            "down_num_layers_per_block": (1, 1, 1),
            "up_num_layers_per_block": (1, 1, 1),
            "down_blocks_repeat_mappers": (1, 1, 1),
            "up_blocks_repeat_mappers": (1, 1, 1),
            "block_types_per_layer": (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 3,
            "clip_text_pooled_in_channels": 16,
            "dropout": (0.1, 0.1, 0.1),
            "self_attn": True,
        },
        lambda: (noise(2, 4, 16, 16), LEVEL, noise(2, 1, 16)),
        ("up_blocks.1.0.channelwise", "up_blocks.2.0.channelwise"),
        version=1,
    ),
    Foreign(
        "diffusers UNet1DModel (Dance Diffusion)",
        "diffusers",
        "UNet1DModel",
        {"sample_size": 64, "block_out_channels": (32, 32, 64), "extra_in_channels": 16, "time_embedding_dim": 16},
        lambda: (noise(2, 2, 64), TIME),
        tuple(f"up_blocks.{level}.resnets.0" for level in range(3)),
        make=lambda cls, **options: cls(**options),
    ),
    *map(_of_video, FAMILIES),
    *FOREIGN.values(),
)
CLASSES = {one.family: one for one in _ALL}
"""By family, in the order of the table in docs/unets.md."""
