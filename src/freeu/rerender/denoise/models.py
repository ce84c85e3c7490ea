"""Which diffusers models can generate key frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from freeu.errors import FreeUValueError

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
)


def check_pipe(pipe: Any) -> None:
    """Raise ``FreeUValueError`` unless it is a text-to-image model of Stable Diffusion 1 or 2 or of their kind."""
    kind = type(pipe).__name__
    if kind not in PIPELINES:
        raise FreeUValueError(f"{kind} cannot generate key frames: use a model of {PIPELINES[0]}")
    inputs, channels = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if inputs != channels:
        raise FreeUValueError(
            f"this U-Net takes {inputs} channels and the VAE has {channels}: use a text-to-image model, not one for "
            "inpainting or editing"
        )
    if pipe.unet.config.time_cond_proj_dim is not None:
        raise FreeUValueError("this U-Net takes the CFG scale as an input (a consistency model): use its base model")


def check_controlnet(controlnet: Any, unet: Any) -> None:
    """Raise ``FreeUValueError`` unless the ControlNet is of the U-Net's architecture."""
    for name in ("block_out_channels", "cross_attention_dim", "layers_per_block"):
        theirs, ours = getattr(controlnet.config, name), getattr(unet.config, name)
        if theirs != ours and list(np.atleast_1d(theirs)) != list(np.atleast_1d(ours)):
            raise FreeUValueError(
                f"this ControlNet has {name} {theirs} and the model {ours}: use one that was trained for this model"
            )
